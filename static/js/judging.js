// What a labeller's keys mean, and how fast they are. Pure.

export const OUTCOMES = { KeyS: "success", KeyF: "failure", KeyP: "partial", KeyA: "abort" };
// With a point and a reason of failure.
export const FLAWED = ["failure", "partial"];
// The pace is counted over this much, at least two labels.
const PACE_MS = 180_000;

/**
 * What a key asks of the desk; null for the rest and while one writes.
 * @param {{code: string, ctrlKey: boolean, metaKey: boolean, altKey: boolean, shiftKey: boolean, repeat?: boolean}} event
 * @param {{tag: string, type?: string}} focus
 * @returns {{label: string} | {reason: number} | {undo: true} | {skip: true} | null}
 */
export function askedOf(event, focus = { tag: "" }) {
  // A key held down is one label, never a row of them.
  if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || event.repeat) return null;
  if (["TEXTAREA", "SELECT"].includes(focus.tag)) return null;
  if (focus.tag === "INPUT" && !["range", "checkbox", "radio"].includes(focus.type)) return null;
  if (OUTCOMES[event.code]) return { label: OUTCOMES[event.code] };
  if (/^(Digit|Numpad)[1-9]$/.test(event.code)) return { reason: Number(event.code.at(-1)) };
  if (event.code === "KeyZ") return { undo: true };
  if (event.code === "KeyN") return { skip: true };
  return null;
}

/**
 * The step a failure is said to have happened at: where the labeller stopped the replay.
 * The first and the last step are where a replay rests by itself: they point at nothing.
 * @param {{step: number, last: number, playing: boolean}} head @returns {number | null}
 */
export function failurePoint({ step, last, playing }) {
  return playing || step <= 0 || step >= last ? null : step;
}

/** A label as the server takes it. @param {string} uid names it */
export function verdict(uid, outcome, head, reason) {
  const flawed = FLAWED.includes(outcome);
  return { uid, outcome, failure_step: flawed ? failurePoint(head) : null, reason: flawed ? reason : "" };
}

/** Labels a minute lately. @param {number[]} times ms of labels, oldest first @returns {number | null} */
export function pace(times, nowMs) {
  const recent = times.filter((t) => t >= nowMs - PACE_MS);
  if (recent.length < 2) return null;
  const spanMs = recent.at(-1) - recent[0];
  return spanMs > 0 ? ((recent.length - 1) * 60_000) / spanMs : null;
}

/** A new name. Browsers give `randomUUID` to https alone, and consoles also run on a plain local net. */
export function newUid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
