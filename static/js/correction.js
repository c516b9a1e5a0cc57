// A correction just made: how long it was, what is left of it, what a key asks. Pure.
import { fill, gettext } from "./language.js";

export const KEYS = {
  Digit1: "correction", Numpad1: "correction", Digit2: "recovery", Numpad2: "recovery",
  Digit3: "trim", Numpad3: "trim", Digit0: "discard", Numpad0: "discard", KeyU: "undo",
};
const DRIVEN = ["handover", "takeover"];

/**
 * Follow what one lease does in one episode, tick by tick; what is over stays until the next begins.
 * @param {{episode: string, epoch: number, start: number, end: number, over: boolean} | null} span
 * @param {{episode: string, epoch: number, tick: number, mode: string}} telemetry
 * @param {boolean} mine whether the lease is of who looks
 */
export function follow(span, { episode, epoch, tick, mode }, mine) {
  const driven = mine && episode !== "" && DRIVEN.includes(mode);
  if (!driven) return span && !span.over ? { ...span, over: true } : span;
  if (span && span.episode === episode && span.epoch === epoch) return { ...span, end: Math.max(span.end, tick + 1), over: false };
  return { episode, epoch, start: tick, end: tick + 1, over: false };
}

/**
 * What is kept, from the first step of the correction on, after its handles were moved: never nothing.
 * @param {number} steps @param {number} from @param {number} to @param {"from"|"to"} moved which handle gives way last
 * @returns {{from: number, to: number}}
 */
export function handles(steps, from, to, moved) {
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  if (moved === "from") {
    const first = clamp(from, 0, steps - 1);
    return { from: first, to: clamp(to, first + 1, steps) };
  }
  const last = clamp(to, 1, steps);
  return { from: clamp(from, 0, last - 1), to: last };
}

/** @param {number} steps @param {number} periodS @returns {string} "4.2 s" */
export const seconds = (steps, periodS) => `${(steps * periodS).toFixed(1)} s`;

/**
 * A correction in one line.
 * @param {{steps: number, period_s: number, mark: string, discarded: boolean, trim_start: number, trim_end: number}} state
 */
export function inWords({ steps, period_s: periodS, mark, discarded, trim_start: start, trim_end: end }) {
  const recovery = mark === "recovery";
  const left = Math.max(0, steps - start - end);
  const whole = seconds(steps, periodS);
  if (discarded) return fill(recovery ? gettext("Recovery of %(whole)s, discarded") : gettext("Correction of %(whole)s, discarded"), { whole });
  const part = recovery ? gettext("Recovery: %(left)s of %(whole)s") : gettext("Correction: %(left)s of %(whole)s");
  const all = recovery ? gettext("Recovery of %(whole)s") : gettext("Correction of %(whole)s");
  return fill(left < steps ? part : all, { left: seconds(left, periodS), whole });
}

/**
 * What the server is asked for, and what is said when it has done so; null when there is nothing to do.
 * @param {string} what @param {object} state in force @param {{from: number, to: number}} kept by the handles
 * @returns {{body: object, said: string} | null}
 */
export function asked(what, state, kept) {
  if (what === "correction" || what === "recovery") return state.mark === what ? null : { body: { mark: what }, said: what === "recovery" ? gettext("Marked as a recovery") : gettext("Marked as a correction") };
  if (what === "discard") return state.discarded ? null : { body: { discarded: true }, said: gettext("Discarded: it is not imitated") };
  if (what === "undo") return state.undoable ? { body: { undoes: state.undoable }, said: gettext("Last change undone") } : null;
  const trim = [kept.from, state.steps - kept.to];
  if (trim[0] === state.trim_start && trim[1] === state.trim_end) return null;
  return { body: { trim }, said: fill(gettext("Kept %(from)s to %(to)s"), { from: seconds(kept.from, state.period_s), to: seconds(kept.to, state.period_s) }) };
}
