// How a robot's last episodes ended, from the letters of its heartbeat. Pure.
import { fill, gettext } from "./language.js";

// Outcomes in a heartbeat: a streak of all of them may be longer (fleet/agent/runtime.py).
const MOST = 20;
const OUTCOMES = { s: gettext("success"), f: gettext("failure"), t: gettext("timeout"), a: gettext("abort") };

/** @param {string} recent heartbeat's outcomes @returns {{code: string, word: string}[]} newest last, at most ten */
export function outcomes(recent) {
  return [...recent].slice(-10).map((code) => ({ code, word: OUTCOMES[code] ?? gettext("unknown") }));
}

/** @param {string} recent outcomes, oldest first @returns {number} successes since the last other outcome */
export function streak(recent) {
  return recent.length - recent.replace(/s+$/, "").length;
}

/** @param {string} recent @returns {string} a streak worth saying, in words */
export function streakWords(recent) {
  const n = streak(recent);
  if (n < 2) return "";
  return fill(n < MOST ? gettext("%(n)s in a row") : gettext("%(n)s+ in a row"), { n });
}

/** @param {string} recent heartbeat's outcomes @returns {string} how the last episode ended; "" before any did */
export function lastWords(recent) {
  return recent ? fill(gettext("· last: %(outcome)s"), { outcome: outcomes(recent).at(-1).word }) : "";
}
