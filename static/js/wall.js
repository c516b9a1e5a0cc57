// What the wall of robots shows, and in which order: a view, kept in the page's address. Pure.
import { behind, condition, matches, urgency } from "./facts.js";
import { streak } from "./outcomes.js";

/** The view that hides nothing. */
export const EVERYTHING = { state: "all", task: "", site: "", policy: "", sort: "urgency" };
const STATES = ["all", "help", "human", "scripted", "holding", "stopped", "offline"];
const POLICIES = {
  current: (state) => behind(state) === 0 && !state.heartbeat.evaluation,
  behind: (state) => behind(state) > 0,
  evaluated: (state) => Boolean(state.heartbeat?.evaluation),
};
// Smallest first; robots that are equal stand by name.
const SORTS = {
  urgency: (state) => urgency(state),
  name: () => 0,
  task: (state) => state.heartbeat?.task || "\uffff",
  policy: (state) => -(behind(state) ?? Infinity),
  streak: (state) => streak(state.heartbeat?.recent ?? ""),
  link: (state) => (condition(state) === "offline" ? -Infinity : -(state.heartbeat.rtt_ms || 0)),
};
const KNOWN = {
  state: (value) => STATES.includes(value),
  policy: (value) => Object.hasOwn(POLICIES, value),
  sort: (value) => Object.hasOwn(SORTS, value),
  task: (value) => value.length <= 64,
  site: (value) => value.length <= 64,
};

/** @param {string} search of an address @returns {typeof EVERYTHING} what it does not know is left out */
export function readView(search) {
  const view = { ...EVERYTHING };
  for (const [key, value] of new URLSearchParams(search)) {
    if (Object.hasOwn(KNOWN, key) && KNOWN[key](value)) view[key] = value;
  }
  return view;
}

/** @param {typeof EVERYTHING} view @returns {string} what is not as in EVERYTHING, for an address */
export function queryOf(view) {
  return String(new URLSearchParams(Object.entries(view).filter(([key, value]) => value !== EVERYTHING[key])));
}

/**
 * @param {object} state a RobotState @param {string} site @param {typeof EVERYTHING} view
 * @param {Set<string>} asking robots that wait for help
 * @returns {boolean}
 */
export function shows(state, site, view, asking = new Set()) {
  return (
    (view.state === "help" ? asking.has(state.robot) : matches(state, view.state)) &&
    (!view.task || state.heartbeat?.task === view.task) &&
    (!view.site || site === view.site) &&
    (!view.policy || POLICIES[view.policy](state))
  );
}

/**
 * @param {object[]} states @param {string} sort @param {Set<string>} asking robots that wait for help
 * @returns {string[]} names in the order of their tiles
 */
export function ranked(states, sort, asking = new Set()) {
  const first = (state) => sort === "urgency" && asking.has(state.robot);
  const key = new Map(states.map((state) => [state, first(state) ? -1 : SORTS[sort](state)]));
  const compare = (a, b) =>
    key.get(a) < key.get(b) ? -1 : key.get(a) > key.get(b) ? 1 : a.robot.localeCompare(b.robot, undefined, { numeric: true });
  return states.toSorted(compare).map((state) => state.robot);
}
