import assert from "node:assert/strict";
import { test } from "node:test";
import { asked, follow, handles, inWords, KEYS } from "../../static/js/correction.js";

const state = { steps: 84, period_s: 0.05, mark: "correction", discarded: false, trim_start: 0, trim_end: 0, undoable: null };

test("a correction is what this operator's lease did in one episode, and is over when it ends", () => {
  let span = null;
  const tick = (n, mode, { episode = "e1", epoch = 4, mine = true } = {}) => (span = follow(span, { episode, epoch, tick: n, mode }, mine));
  assert.equal(tick(0, "autonomous"), null);
  assert.equal(tick(3, "takeover", { mine: false }), null, "somebody else's");
  tick(10, "handover");
  // Telemetry is state: ticks may be missing.
  tick(14, "takeover");
  assert.deepEqual(span, { episode: "e1", epoch: 4, start: 10, end: 15, over: false });
  assert.equal(tick(15, "autonomous").over, true);
  const last = span;
  assert.equal(tick(16, "autonomous"), last, "nothing changes until the next one");
  // The next episode begins under the same lease: another correction.
  tick(20, "takeover", { epoch: 5 });
  tick(0, "takeover", { episode: "", epoch: 5 });
  assert.deepEqual([span.start, span.over], [20, true]);
  assert.deepEqual(tick(2, "takeover", { episode: "e2", epoch: 5 }), { episode: "e2", epoch: 5, start: 2, end: 3, over: false });
});

test("the handles push each other and always leave a step", () => {
  assert.deepEqual(handles(10, 4, 8, "from"), { from: 4, to: 8 });
  assert.deepEqual(handles(10, 9, 6, "from"), { from: 9, to: 10 });
  assert.deepEqual(handles(10, 9, 3, "to"), { from: 2, to: 3 });
  assert.deepEqual(handles(10, -4, 99, "to"), { from: 0, to: 10 });
  assert.deepEqual(handles(1, 5, 0, "to"), { from: 0, to: 1 });
});

test("it is said how long a correction was and what is left of it", () => {
  assert.equal(inWords(state), "Correction of 4.2 s");
  assert.equal(inWords({ ...state, mark: "recovery", trim_start: 10, trim_end: 2 }), "Recovery: 3.6 s of 4.2 s");
  assert.equal(inWords({ ...state, discarded: true }), "Correction of 4.2 s, discarded");
});

test("each key asks for one change, and for none that is in force already", () => {
  const all = { from: 0, to: 84 };
  assert.deepEqual(asked("recovery", state, all).body, { mark: "recovery" });
  assert.equal(asked("correction", state, all), null);
  assert.deepEqual(asked("discard", state, all).body, { discarded: true });
  assert.equal(asked("discard", { ...state, discarded: true }, all), null);
  assert.equal(asked("undo", state, all), null);
  assert.deepEqual(asked("undo", { ...state, undoable: "a" }, all).body, { undoes: "a" });
  assert.equal(asked("keep", state, all), null);
  assert.deepEqual(asked("keep", state, { from: 10, to: 80 }), { body: { trim: [10, 4] }, said: "Kept 0.5 s to 4.0 s" });
});

test("no key of a correction drives, takes over or ends an episode", () => {
  const taken = "WSADRFTYNXCMVZBGH".split("").map((letter) => `Key${letter}`);
  assert.deepEqual(Object.keys(KEYS).filter((code) => taken.includes(code) || ["Space", "Escape"].includes(code)), []);
});
