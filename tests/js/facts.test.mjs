import assert from "node:assert/strict";
import { test } from "node:test";
import { behind, changed, condition, facts, holder, matches, offers, policyWords, stateWords, takeoverOffer, tally, urgency, why } from "../../static/js/facts.js";
import { lastWords, outcomes, streak } from "../../static/js/outcomes.js";

function state(more = {}, beat = {}) {
  return {
    robot: "arm-01",
    revision: 1,
    connection: "online",
    t_wall_ns: 1_000_000 * 1e6,
    assigned_number: 5,
    lease: null,
    stop_pending: false,
    heartbeat: {
      mode: "autonomous", purpose: "train", task: "shelf-place", instruction: "put the block on the shelf",
      policy: { number: 5 }, t_wall_ns: 1_000_000 * 1e6, clock_offset_ns: 0,
      recent: "sftsa", rtt_ms: 12, tick: 87, episode: "6f3a0000-aaaa", spool_episodes: 1,
      spool_bytes: 2048, loop: { ticks: 20, missed_ticks: 0, jitter_p99_ms: 1.25 }, reason: "", ...beat,
    },
    ...more,
  };
}
const CONTEXT = { you: "anna", nowMs: 1_000_000, online: true };

test("a robot nobody heard of is offline whatever its last mode was", () => {
  assert.equal(condition(state({ connection: "offline" })), "offline");
  assert.equal(condition(state({ heartbeat: null })), "offline");
  assert.equal(condition(state({ connection: "stale" })), "stale");
});

test("handover and takeover are one state to a person", () => {
  assert.equal(condition(state({}, { mode: "handover" })), "human");
  assert.equal(condition(state({}, { mode: "takeover" })), "human");
});

test("a script that drives is never shown as a person", () => {
  const scripted = state({ lease: { holder: "script-1", holder_kind: "scripted", epoch: 3 } }, { mode: "takeover" });
  assert.equal(stateWords(scripted, "anna"), "Scripted · script-1");
  assert.equal(holder(scripted, "anna"), "script-1 (scripted)");
});

test("your own lease is called yours and another's by name", () => {
  const held = state({ lease: { holder: "anna", holder_kind: "human", epoch: 3 } }, { mode: "takeover" });
  assert.equal(stateWords(held, "anna"), "Human · you");
  assert.equal(stateWords(held, "ben"), "Human · anna");
});

test("a stop that is not confirmed says so before anything else", () => {
  assert.equal(stateWords(state({ stop_pending: true }), "anna"), "Stopping…");
  assert.equal(stateWords(state({ stop_pending: true, connection: "offline" }), "anna"), "Stop pending · offline");
});

test("a robot that evaluates says which version, and is behind nothing", () => {
  const trial = state({ assigned_number: 9 }, { evaluation: "6f3a", purpose: "eval" });
  assert.equal(policyWords(trial), "v5 under evaluation");
  assert.equal(behind(trial), 0);
  assert.equal(facts(trial, CONTEXT).evaluation, "Evaluates v5");
  assert.equal(facts(state({ connection: "offline" }, { evaluation: "6f3a" }), CONTEXT).evaluation, "");
});

test("versions behind are counted against the assigned one", () => {
  assert.equal(behind(state({ assigned_number: 9 })), 4);
  assert.equal(policyWords(state({ assigned_number: 9 })), "v5 · 4 behind");
  assert.equal(policyWords(state({ assigned_number: 5, pinned: true })), "v5 · pinned");
  assert.equal(policyWords(state()), "v5");
  assert.equal(policyWords(state({}, { policy: null })), "no policy · v5 assigned");
  assert.equal(behind(state({ assigned_number: null })), null);
});

test("why a robot does not act is in words", () => {
  assert.equal(why(state({}, { mode: "holding", reason: "operator left" }), 0), "operator left");
  assert.equal(why(state({}, { mode: "holding" }), 0), "waits for a person to resume it");
  assert.equal(why(state({ connection: "offline" }), 1_000_000 + 180_000), "last heard 3 min ago");
  assert.equal(why(state({ heartbeat: null, connection: "offline" }), 0), null);
  assert.equal(why(state(), 0), "");
});

test("without a connection nothing is shown as fresh", () => {
  const said = facts(state(), { ...CONTEXT, online: false });
  assert.equal(said.kind, "offline");
  assert.equal(said.state, "No connection");
});

test("an evaluation is marked", () => {
  assert.equal(facts(state({}, { purpose: "eval" }), CONTEXT).evaluation, "Evaluation");
  assert.equal(facts(state(), CONTEXT).evaluation, "");
});

test("numbers of the loop and the spool are written with their units", () => {
  const said = facts(state(), CONTEXT);
  assert.equal(said.jitter, "1.3 ms");
  assert.equal(said.missed, "0 of 20");
  assert.equal(said.spool, "1 episode, 2 kB");
  assert.equal(said.task, "Shelf place");
});

test("how the last episode ended is said, and nothing before one did", () => {
  assert.equal(lastWords("sf"), "· last: failure");
  assert.equal(lastWords("st"), "· last: timeout");
  assert.equal(lastWords(""), "");
});

test("outcomes are the last ten in words", () => {
  assert.equal(outcomes("s".repeat(12)).length, 10);
  assert.deepEqual(outcomes("sf").map((o) => o.word), ["success", "failure"]);
});

test("counts and filters agree on what offline means", () => {
  const states = [state(), state({ connection: "stale" }), state({ connection: "offline" }), state({}, { mode: "stopped" })];
  const counts = tally(states);
  assert.deepEqual([counts.all, counts.autonomous, counts.offline, counts.stopped], [4, 1, 2, 1]);
  assert.equal(states.filter((s) => matches(s, "offline")).length, 2);
});

test("a script that drives is counted apart from people", () => {
  const script = state({ lease: { holder: "script-1", holder_kind: "scripted", epoch: 3 } }, { mode: "takeover" });
  const person = state({ lease: { holder: "anna", holder_kind: "human", epoch: 4 } }, { mode: "takeover" });
  const counts = tally([script, person]);
  assert.deepEqual([counts.human, counts.scripted], [1, 1]);
  assert.deepEqual([matches(script, "human"), matches(script, "scripted")], [false, true]);
});

test("only what waits for a person moves to the front of the wall", () => {
  const modes = ["stopped", "holding", "takeover", "autonomous"];
  assert.deepEqual(modes.map((mode) => urgency(state({}, { mode }))), [0, 1, 2, 2]);
});

test("a takeover is offered only where it can be granted, and the button says why not", () => {
  const offer = (s) => takeoverOffer(s, condition(s), "anna");
  const lease = { holder: "anna", holder_kind: "human", epoch: 4 };
  assert.deepEqual(offer(state()), { free: true, words: "Take over" });
  assert.deepEqual(offer(state({}, { mode: "holding" })), { free: true, words: "Take over" });
  assert.deepEqual(offer(state({}, { purpose: "eval" })), { free: false, words: "Evaluation · not offered" });
  assert.deepEqual(offer(state({}, { mode: "stopped" })), { free: false, words: "Stopped · release first" });
  assert.deepEqual(offer(state({ connection: "stale" })), { free: false, words: "Not connected" });
  assert.deepEqual(offer(state({ lease }, { mode: "takeover" })), { free: false, words: "Held by you on another page" });
  assert.deepEqual(offer(state({ lease: { ...lease, holder: "ben" } }, { mode: "takeover" })), { free: false, words: "Held by ben" });
});

test("a page says how long whoever drives may still take", () => {
  const said = (more) => facts(state({}, more), { you: "ada", nowMs: 0, online: true }).left;
  assert.equal(said({ left_s: 9.44 }), "· 9.4 s left");
  assert.equal(said({ left_s: null }), "");
  assert.equal(said({}), "");
});

test("a tick alone does not make pages ask the server", () => {
  assert.equal(changed(state(), state({}, { tick: 88 })), false);
  assert.equal(changed(state(), state({}, { mode: "holding" })), true);
  assert.equal(changed(undefined, state()), true);
});

test("a streak ends with the last episode that did not succeed", () => {
  assert.deepEqual(["", "sss", "ssf", "fss", "stas"].map(streak), [0, 3, 0, 2, 1]);
  const words = (recent) => facts(state({}, { recent }), CONTEXT).streak;
  assert.deepEqual(["", "fs", "ssf", "fss", "s".repeat(20)].map(words), ["", "", "", "2 in a row", "20+ in a row"]);
});

test("what is offered fits what the robot does", () => {
  const said = (s) => Object.entries(offers(s, condition(s))).filter(([, may]) => may).map(([name]) => name);
  assert.deepEqual(said(state({}, { episode: "e1" })), ["hold", "judge"]);
  assert.deepEqual(said(state({}, { episode: "e1", purpose: "eval" })), []);
  assert.deepEqual(said(state({}, { mode: "holding", episode: "" })), ["resume"]);
  assert.deepEqual(said(state({}, { mode: "stopped" })), ["release"]);
  assert.deepEqual(said(state({ stop_pending: true }, { mode: "stopped" })), []);
});
