// The light of a driver's link, and what locks driving out: one look at pictures and round trips for
// the driver, for the light and for the words on the picture.
import { lockout } from "./drive.js";
import { gettext } from "./language.js";
import { Latency, latencyKind, latencyWords } from "./latency.js";
import { colour, write } from "./paint.js";

const LOCKED = { stale: gettext("Driving locked: the picture is stale"), late: gettext("Driving locked: the link is too late") };

export class Lamp {
  /**
   * @param {{page: HTMLElement, ageMs: (nowMs: number) => number, probedMs: () => number,
   *   say: (text: string) => void}} parts the age of the picture people drive by, and what probes both ways say
   */
  constructor({ page, ageMs, probedMs, say }) {
    Object.assign(this, { ageMs, probedMs, say });
    this.light = page.querySelector("[data-latency]");
    this.plate = page.querySelector("[data-lockout]");
    // From here to the robot and back: by commands while there are any.
    this.latency = new Latency();
  }

  /** @returns {{frameAgeMs: number, latencyMs: number}} what a driver sees now */
  seen() {
    const now = performance.now();
    return { frameAgeMs: this.ageMs(now), latencyMs: this.latency.at(now, this.probedMs()) };
  }

  /** A message went out to the robot. */
  sent(message) {
    if (message.type === "Drive") this.latency.sent(message.t_client_ms);
  }

  /** An answer of the robot came in. */
  answered(answer) {
    if (answer.command === "Teleop" || answer.command === "Probe") this.latency.answered(answer.t_client_ms, performance.now());
  }

  /** @param {boolean} online @param {boolean} driving */
  show(online, driving) {
    const seen = this.seen();
    const ms = online ? seen.latencyMs : NaN;
    write(this.light, latencyWords(ms));
    colour(this.light, latencyKind(ms), ["good", "holding", "bad", "offline"]);
    if (!this.plate) return;
    const locked = driving ? lockout(seen) : "";
    if (!this.plate.hidden && !locked && driving) this.say(gettext("Driving is free again. Press a key to go on."));
    if (locked) write(this.plate, LOCKED[locked]);
    this.plate.hidden = !locked;
  }
}
