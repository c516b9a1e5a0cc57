// The help queue in words and in order: who is helped first, what it says, whom it rings for. Pure.
//
// The order is that of the server (fleet/protocol/help.py), which is Fleet-DAgger's.
import { fill, gettext, ngettext, said } from "./language.js";
import { age } from "./words.js";

const UNCERTAINTY_FROM = 0.2;
const RISK_FROM = 0.5;
const LIVE = ["open", "claimed", "escalated"];
const LEADS = ["lead", "admin"];
const REASONS = {
  limit: gettext("limit hit"),
  doubt: gettext("doubt"),
  value_drop: gettext("value drop"),
  no_progress: gettext("no progress"),
  repeated_failure: gettext("failed again"),
  explicit: gettext("asked for"),
  operator_left: gettext("operator left"),
};

/** @param {object} state a HelpState @returns {boolean} whether it is not closed */
export function isLive(state) {
  return LIVE.includes(state.status);
}

/** @param {object} state @returns {boolean} whether it waits for somebody */
export function waits(state) {
  return state.status === "open" || state.status === "escalated";
}

function key(state) {
  return [
    state.constraint ? 0 : 1,
    (state.uncertainty ?? 0) >= UNCERTAINTY_FROM ? -state.uncertainty : 0,
    (state.risk ?? 0) >= RISK_FROM ? -state.risk : 0,
    state.raised_wall_ns ?? 0,
  ];
}

/** @param {object} a @param {object} b @returns {number} which of two robots is helped first */
export function compare(a, b) {
  const [one, other] = [key(a), key(b)];
  const at = one.findIndex((value, i) => value !== other[i]);
  return at < 0 ? 0 : one[at] - other[at];
}

/** What a person may take: an escalated request is for leads. @param {object} state @param {string} role */
export function takeable(state, role) {
  return state.status === "open" || (state.status === "escalated" && LEADS.includes(role));
}

/**
 * What is not closed, as one person sees it: what was given to them, what they may take, what waits
 * for others, what others have; in each the first to be helped first.
 * @param {Iterable<object>} states @param {{you: string, role: string}} who @returns {object[]}
 */
export function queue(states, { you, role }) {
  const group = (s) => (s.status === "claimed" ? (s.claimed_by === you ? 0 : 3) : takeable(s, role) ? 1 : 2);
  return [...states].filter(isLive).sort((a, b) => group(a) - group(b) || compare(a, b));
}

/** @param {object[]} sorted from `queue` @param {{you: string, role: string}} who @returns {object|undefined} what one key takes */
export function first(sorted, { you, role }) {
  return sorted.find((s) => takeable(s, role) || (s.status === "claimed" && s.claimed_by === you));
}

/** @param {object} state @returns {string} the reason to act on, which is the newest */
export function reasonWords(state) {
  const reason = (state.reasons ?? []).at(-1) ?? "";
  return REASONS[reason] ?? said(reason.replaceAll("_", " "));
}

/**
 * @param {object} state @param {number} nowMs server clock @param {number} slaS to be answered within
 * @param {string} you
 * @returns {{words: string, waited: string, share: number, late: boolean}} share of the time that is used up, at most 1
 */
export function clock(state, nowMs, slaS, you) {
  if (state.status === "claimed") {
    const name = state.claimed_by_kind === "scripted" ? fill(gettext("%(name)s (scripted)"), { name: state.claimed_by }) : state.claimed_by;
    const who = state.claimed_by === you ? gettext("you have it") : fill(gettext("%(name)s has it"), { name });
    return { words: `${who} · ${age(nowMs - state.claimed_wall_ns / 1e6)}`, share: 0, late: false, waited: "" };
  }
  const waitedMs = Math.max(0, nowMs - state.raised_wall_ns / 1e6);
  const late = waitedMs > slaS * 1000;
  const waited = whole(waitedMs);
  const words = fill(gettext("waiting %(waited)s of %(limit)s"), { waited, limit: whole(slaS * 1000) }) + (late ? gettext(" · overdue") : "");
  return { words, waited, share: Math.min(1, waitedMs / (slaS * 1000)), late };
}

/** Seconds count up in whole numbers: a decimal that changes ten times a second is noise. */
function whole(ms) {
  return ms < 10_000 ? `${Math.floor(ms / 1000)} s` : age(ms);
}

/** @param {object[]} sorted @param {number} nowMs @returns {string} "2 waiting · oldest 18 s" */
export function summary(sorted, nowMs) {
  const waiting = sorted.filter(waits);
  const helped = sorted.length - waiting.length;
  if (!sorted.length) return gettext("nobody waits");
  const oldest = Math.min(...waiting.map((s) => s.raised_wall_ns / 1e6));
  const parts = [waiting.length ? fill(gettext("%(n)s waiting · oldest %(age)s"), { n: waiting.length, age: whole(nowMs - oldest) }) : gettext("nobody waits")];
  if (helped) parts.push(fill(ngettext("%(n)s robot helped", "%(n)s robots helped", helped), { n: helped }));
  return parts.join(" · ");
}

/**
 * Whether a request is news to somebody who could take it: not one they knew to be waiting.
 * @param {object|undefined} before @param {object} state @param {string} role
 */
export function rings(before, state, role) {
  if (!takeable(state, role)) return false;
  return !before || !takeable(before, role) || !(state.reasons ?? []).every((r) => (before.reasons ?? []).includes(r));
}

/**
 * What a robot's own page says of its request.
 * @param {object|undefined} state a HelpState @param {{you?: string, mine?: boolean}} who whether the reader drives it
 * @returns {{live: boolean, words: string}} no words where nothing is asked
 */
export function askWords(state, { you = "", mine = false }) {
  if (state && isLive(state)) {
    const who = state.status === "claimed" ? ` · ${state.claimed_by === you ? gettext("you have it") : fill(gettext("%(name)s has it"), { name: state.claimed_by })}` : "";
    return { live: true, words: fill(gettext("Asks for help: %(why)s"), { why: reasonWords(state) }) + who };
  }
  // Nobody is kept longer than the robot needs them. That an operator had left is over as soon as
  // another drives, which says nothing of what the robot needs.
  const needed = (state?.reasons ?? []).some((reason) => reason !== "operator_left");
  return { live: false, words: state?.status === "resolved" && mine && needed ? gettext("Needs no help any more: hand back") : "" };
}
