// What the pages say of one robot, from its state: the only place that turns a RobotState into
// words. Pure, so that node tests reach it.
import { valueWords } from "./estimates.js";
import { fill, gettext, ngettext, said } from "./language.js";
import { latencyKind } from "./latency.js";
import { lastWords, streakWords } from "./outcomes.js";
import { age, clock, size, title } from "./words.js";

/**
 * The state a person acts on: one of autonomous, human, holding, stopped, stale, offline.
 * @param {object} state a RobotState
 */
export function condition(state) {
  if (state.connection === "offline" || !state.heartbeat) return "offline";
  if (state.connection === "stale") return "stale";
  const mode = state.heartbeat.mode;
  if (mode === "handover" || mode === "takeover") return "human";
  return mode;
}

/** @param {object} state @param {string} you @returns {string} who holds it, or "" */
export function holder(state, you) {
  if (!state.lease) return "";
  if (state.lease.holder_kind !== "human") return fill(gettext("%(name)s (scripted)"), { name: state.lease.holder });
  return state.lease.holder === you ? gettext("you") : state.lease.holder;
}

/** @param {object} state @param {string} you @returns {string} the state in words, never colour alone */
export function stateWords(state, you) {
  const kind = condition(state);
  if (state.stop_pending) return kind === "offline" ? gettext("Stop pending · offline") : gettext("Stopping…");
  if (kind === "human") {
    const scripted = state.lease && state.lease.holder_kind !== "human";
    const word = state.heartbeat.mode === "handover" ? gettext("Handover") : scripted ? gettext("Scripted") : gettext("Human");
    const who = scripted ? state.lease.holder : holder(state, you);
    return who ? `${word} · ${who}` : word;
  }
  const words = { offline: gettext("Offline"), stale: gettext("Stale"), stopped: gettext("Stopped"), holding: gettext("Holding"), autonomous: gettext("Autonomous") };
  return words[kind];
}

/** @param {object} state @returns {number} when its last heartbeat was sent, on the server's clock */
export function heardMs(state) {
  return (state.heartbeat.t_wall_ns + (state.heartbeat.clock_offset_ns ?? 0)) / 1e6;
}

/** @param {object} state @param {number} nowMs server clock @returns {string|null} why it does not act, or ""; null leaves what is there */
export function why(state, nowMs) {
  const kind = condition(state);
  const beat = state.heartbeat;
  if (kind === "offline" || kind === "stale") {
    // Without a heartbeat since the server started, what the row knew on rendering stands.
    return beat ? fill(gettext("last heard %(age)s ago"), { age: age(nowMs - heardMs(state)) }) : null;
  }
  if (kind === "stopped" || kind === "holding") return said(beat.reason) || gettext("waits for a person to resume it");
  return "";
}

/** @param {object} state @returns {number|null} versions between what it runs and what it should run */
export function behind(state) {
  // In an evaluation it runs the version that is evaluated, and is behind nothing.
  if (state.heartbeat?.evaluation) return 0;
  const running = state.heartbeat?.policy?.number;
  if (running === undefined || state.assigned_number === null || state.assigned_number === undefined) return null;
  return Math.max(0, state.assigned_number - running);
}

/** @param {object} state @returns {string} "v128", "v127 · 1 behind", "v12 under evaluation", "v12 · pinned", "no policy" */
export function policyWords(state) {
  const running = state.heartbeat?.policy?.number;
  if (running === undefined) return state.assigned_number ? fill(gettext("no policy · v%(number)s assigned"), { number: state.assigned_number }) : gettext("no policy");
  if (state.heartbeat.evaluation) return fill(gettext("v%(number)s under evaluation"), { number: running });
  const late = behind(state);
  const words = late ? fill(gettext("v%(number)s · %(late)s behind"), { number: running, late }) : `v${running}`;
  return words + (state.pinned ? gettext(" · pinned") : "");
}

/** @param {object} beat a Heartbeat @param {string} kind @returns {string} */
function taskWords(beat, kind) {
  if (beat.task) return title(beat.task);
  return kind === "autonomous" || kind === "human" ? gettext("between episodes") : gettext("no task yet");
}

/**
 * Everything a page paints of one robot; null leaves a slot as the server rendered it.
 * @param {object} state a RobotState
 * @param {{you: string, nowMs: number, online: boolean}} context
 * @returns {Record<string, string|null>} slot → text; keys are the values of data-live
 */
export function facts(state, { you, nowMs, online }) {
  const kind = online ? condition(state) : "offline";
  const common = { kind, state: online ? stateWords(state, you) : gettext("No connection"), why: online ? why(state, nowMs) : "" };
  if (!state.heartbeat) return common;
  const beat = state.heartbeat;
  const loop = beat.loop ?? {};
  return {
    ...common,
    task: taskWords(beat, kind),
    instruction: beat.instruction ? `“${beat.instruction}”` : "",
    evaluation: kind === "offline" ? "" : evaluationWords(beat),
    policy: policyWords(state),
    since: beat.policy_since_wall_ns ? fill(gettext("since %(time)s"), { time: clock(beat.policy_since_wall_ns) }) : "",
    holder: holder(state, you) || gettext("nobody"),
    epoch: state.lease ? String(state.lease.epoch) : "—",
    link: beat.rtt_ms > 0 ? `${Math.round(beat.rtt_ms)} ms` : "—",
    linkKind: kind === "offline" ? "offline" : latencyKind(beat.rtt_ms),
    recent: beat.recent ?? "",
    streak: streakWords(beat.recent ?? ""),
    last: lastWords(beat.recent ?? ""),
    episode: beat.episode ? beat.episode.slice(0, 8) : "—",
    tick: beat.tick === undefined ? "—" : String(beat.tick),
    left: Number.isFinite(beat.left_s) ? fill(gettext("· %(age)s left"), { age: age(1000 * beat.left_s) }) : "",
    value: valueWords(beat.value),
    jitter: loop.jitter_p99_ms === undefined ? "—" : `${loop.jitter_p99_ms.toFixed(1)} ms`,
    missed: loop.missed_ticks === undefined ? "—" : fill(gettext("%(n)s of %(total)s"), { n: loop.missed_ticks, total: loop.ticks + loop.missed_ticks }),
    spool: beat.spool_episodes === undefined ? "—" : `${fill(ngettext("%(n)s episode", "%(n)s episodes", beat.spool_episodes), { n: beat.spool_episodes })}, ${size(beat.spool_bytes ?? 0)}`,
    uploadError: said(beat.upload_error ?? ""),
    heard: state.heartbeat ? age(nowMs - heardMs(state)) : "—",
  };
}

/** @param {object} beat a Heartbeat @returns {string} what held-out work it does, "" when it trains */
function evaluationWords(beat) {
  if (beat.evaluation && beat.policy) return fill(gettext("Evaluates v%(number)s"), { number: beat.policy.number });
  return beat.purpose === "eval" ? gettext("Evaluation") : "";
}

/** @param {object} state @returns {boolean} whether it runs a held-out episode, which nobody may touch */
export function underEvaluation(state) {
  return condition(state) === "autonomous" && state.heartbeat.purpose === "eval";
}

/**
 * Whether a robot that this page does not hold may be taken over, and the words on the button.
 * @param {object} state @param {string} kind its condition as shown @param {string} you
 * @returns {{free: boolean, words: string}}
 */
export function takeoverOffer(state, kind, you) {
  const not = (words) => ({ free: false, words });
  if (kind === "offline" || kind === "stale") return not(gettext("Not connected"));
  if (kind === "stopped") return not(gettext("Stopped · release first"));
  if (state.lease) {
    const mine = state.lease.holder_kind === "human" && state.lease.holder === you;
    return not(mine ? gettext("Held by you on another page") : fill(gettext("Held by %(name)s"), { name: holder(state, you) }));
  }
  if (underEvaluation(state)) return not(gettext("Evaluation · not offered"));
  return { free: true, words: gettext("Take over") };
}

/**
 * What else a person who may drive may do with a robot as it is.
 * @param {object} state @param {string} kind its condition as shown
 * @returns {{hold: boolean, release: boolean, resume: boolean, judge: boolean}}
 */
export function offers(state, kind) {
  const evaluation = underEvaluation(state);
  return {
    hold: kind === "autonomous" && !evaluation,
    release: kind === "stopped" && !state.stop_pending,
    resume: kind === "holding" && !state.lease,
    judge: ["human", "autonomous", "holding"].includes(kind) && !evaluation && Boolean(state.heartbeat?.episode),
  };
}

/** What a robot counts as: its condition, with scripts apart from people and stale as offline. */
function counted(state) {
  const kind = condition(state);
  if (kind === "stale") return "offline";
  return kind === "human" && state.lease && state.lease.holder_kind !== "human" ? "scripted" : kind;
}

/** @param {object[]} states @returns {Record<string, number>} how many robots count as what */
export function tally(states) {
  const counts = { all: states.length, autonomous: 0, human: 0, scripted: 0, holding: 0, stopped: 0, offline: 0 };
  for (const state of states) counts[counted(state)] += 1;
  return counts;
}

/** @param {object} state @param {string} filter @returns {boolean} whether the tile is shown under a filter */
export function matches(state, filter) {
  return filter === "all" || filter === counted(state);
}

/**
 * Sort key of a tile: what waits for a person comes first. Nothing else moves a tile, or the wall
 * would be in motion whenever a script takes over.
 * @param {object} state @returns {number}
 */
export function urgency(state) {
  return { stopped: 0, holding: 1 }[condition(state)] ?? 2;
}

/** @param {object} a @param {object} b @returns {boolean} whether a page must ask the server anew */
export function changed(a, b) {
  const key = (s) =>
    [s.connection, s.heartbeat?.mode, s.heartbeat?.episode, s.heartbeat?.policy?.number, s.assigned_number, s.pinned,
      s.lease?.epoch, s.stop_pending].join("|");
  return !a || key(a) !== key(b);
}
