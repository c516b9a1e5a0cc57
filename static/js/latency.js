// How late a driver's commands are, end to end: from this page to the robot and back. Pure.
//
// Commands are answered by the robot with the time they were sent. What counts is the mean of the
// last second, or the time since a command that nobody has answered yet, whichever is longer: so a
// link that breaks off shows at once, and one slow answer among many does not lock anybody out.
import { gettext, pgettext } from "./language.js";

/** Up to here driving is free; above, slower; above the second, refused. */
export const SLOW_MS = 150;
export const REFUSED_MS = 300;
// Speed that is left just below REFUSED_MS.
const SLOWEST = 0.25;
const MEAN_OVER_MS = 1000;
// What was measured longer ago than this says nothing about now.
const FORGOTTEN_MS = 4000;

/** @param {number} ms @returns {"good"|"holding"|"bad"|"offline"} the colour of a round trip */
export function latencyKind(ms) {
  if (!(ms > 0)) return "offline";
  return ms < SLOW_MS ? "good" : ms <= REFUSED_MS ? "holding" : "bad";
}

/** @param {number} ms @returns {string} the word beside the colour */
export function latencyWords(ms) {
  const word = { good: pgettext("link", "good"), holding: pgettext("link", "slow"), bad: pgettext("link", "too late"), offline: "" }[latencyKind(ms)];
  return word ? `${Math.round(ms)} ms · ${word}` : "—";
}

/** @param {number} ms @returns {number} share of the set speed that such a round trip allows, 0 to 1 */
export function allowedSpeed(ms) {
  if (!(ms >= SLOW_MS)) return 1;
  if (ms > REFUSED_MS) return 0;
  return 1 - ((1 - SLOWEST) * (ms - SLOW_MS)) / (REFUSED_MS - SLOW_MS);
}

export class Latency {
  constructor() {
    this.forget();
  }

  /** Start anew, with another lease. */
  forget() {
    this.waiting = [];
    this.answers = [];
  }

  /** A command went out. @param {number} nowMs as it says itself */
  sent(nowMs) {
    this.waiting.push(nowMs);
  }

  /** The robot answered. @param {number} sentMs as the answer repeats it @param {number} nowMs */
  answered(sentMs, nowMs) {
    if (!(sentMs > 0) || !(sentMs <= nowMs)) return;
    // Answers come in order; what was sent before and is not answered by now was dropped on the way.
    this.waiting = this.waiting.filter((ms) => ms > sentMs);
    this.answers.push({ atMs: nowMs, tookMs: nowMs - sentMs });
  }

  /**
   * @param {number} nowMs @param {number} elseMs what other probes say, where no command was answered lately
   * @returns {number} milliseconds; NaN when nothing is known
   */
  at(nowMs, elseMs = NaN) {
    this.answers = this.answers.filter(({ atMs }) => nowMs - atMs <= FORGOTTEN_MS);
    this.waiting = this.waiting.filter((ms) => nowMs - ms <= FORGOTTEN_MS);
    const last = this.answers.filter(({ atMs }) => nowMs - atMs <= MEAN_OVER_MS);
    const used = last.length > 0 ? last : this.answers.slice(-1);
    const mean = used.length > 0 ? used.reduce((sum, { tookMs }) => sum + tookMs, 0) / used.length : elseMs;
    const silence = this.waiting.length > 0 ? nowMs - this.waiting[0] : 0;
    return Number.isNaN(mean) ? silence || NaN : Math.max(mean, silence);
  }
}
