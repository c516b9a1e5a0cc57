import assert from "node:assert/strict";
import { test } from "node:test";
import { Ahead } from "../../static/js/ahead.js";
import { askedOf, failurePoint, newUid, pace, verdict } from "../../static/js/judging.js";
import { Outbox } from "../../static/js/outbox.js";

class Storage extends Map {
  get length() {
    return this.size;
  }
  key(i) {
    return [...this.keys()][i];
  }
  getItem(key) {
    return this.get(key) ?? null;
  }
  setItem(key, value) {
    this.set(key, value);
  }
  removeItem(key) {
    this.delete(key);
  }
}

const refusal = (status) => Object.assign(new Error(`refused ${status}`), { status });

function box(send, storage = new Storage()) {
  const later = [];
  const said = [];
  let clock = 1000;
  const made = new Outbox({
    storage, prefix: "l.", send, now: () => (clock += 1),
    later: (run, ms) => later.push({ run, ms }),
    said: (_, problem, lost) => said.push([problem, lost?.uid ?? null]),
  });
  return { made, later, said, storage };
}

test("labels are sent in their order and forgotten when they are stored", async () => {
  const sent = [];
  const { made, storage } = box(async (item) => sent.push(item.uid));
  await Promise.all(["a", "b", "c"].map((uid) => made.put({ uid })));
  await made.flush();
  assert.deepEqual(sent, ["a", "b", "c"]);
  assert.equal(storage.length, 0);
});

test("a label outlives a lost connection and a reload, and waits longer each time", async () => {
  const storage = new Storage();
  let online = false;
  const sent = [];
  const send = async (item) => {
    if (!online) throw new Error("the server does not answer");
    sent.push(item.uid);
  };
  const first = box(send, storage);
  await first.made.put({ uid: "a" });
  await first.made.put({ uid: "b" });
  for (let i = 0; i < 6; i += 1) await first.later.at(-1).run();
  await new Promise((done) => setImmediate(done));
  assert.deepEqual(first.later.map(({ ms }) => ms), [1000, 2000, 4000, 8000, 15000, 15000, 15000]);
  assert.equal(storage.length, 2);
  online = true;
  await box(send, storage).made.flush();
  assert.deepEqual(sent, ["a", "b"]);
});

test("a label the server will never take is said, and the next one goes on", async () => {
  const sent = [];
  const { made, said } = box(async (item) => {
    if (item.uid === "bad") throw refusal(422);
    sent.push(item.uid);
  });
  await made.put({ uid: "bad" });
  await made.put({ uid: "good" });
  assert.deepEqual(sent, ["good"]);
  assert.ok(said.some(([problem, lost]) => lost === "bad" && problem === "refused 422"));
});

for (const status of [401, 403, 429, 500, 503]) {
  test(`${status} is not about the label: it is kept`, async () => {
    const { made, storage, later } = box(async () => {
      throw refusal(status);
    });
    await made.put({ uid: "a" });
    assert.equal(storage.length, 1);
    assert.equal(later.length, 1);
  });
}

const key = (code, more = {}) => ({ code, shiftKey: false, ctrlKey: false, metaKey: false, altKey: false, repeat: false, ...more });

test("one key is one judgement, and a key held down is not many", () => {
  assert.deepEqual(["KeyS", "KeyF", "KeyP", "KeyA"].map((c) => askedOf(key(c)).label), ["success", "failure", "partial", "abort"]);
  assert.equal(askedOf(key("KeyS", { repeat: true })), null);
  assert.equal(askedOf(key("KeyS", { ctrlKey: true })), null);
  assert.equal(askedOf(key("KeyS"), { tag: "INPUT", type: "text" }), null);
  assert.deepEqual(askedOf(key("Digit3")), { reason: 3 });
  assert.deepEqual(askedOf(key("KeyZ")), { undo: true });
  assert.equal(askedOf(key("KeyQ")), null);
});

test("a failure points at the step where the labeller stopped, and at none where a replay rests", () => {
  const head = { step: 40, last: 99, playing: false };
  assert.equal(failurePoint(head), 40);
  assert.deepEqual([{ ...head, playing: true }, { ...head, step: 0 }, { ...head, step: 99 }].map(failurePoint), [null, null, null]);
  assert.deepEqual(verdict("u", "failure", head, "slipped"), { uid: "u", outcome: "failure", failure_step: 40, reason: "slipped" });
  assert.deepEqual(verdict("u", "success", head, "slipped"), { uid: "u", outcome: "success", failure_step: null, reason: "" });
});

test("the pace is of the last minutes", () => {
  assert.equal(pace([0], 1000), null);
  assert.equal(pace([0, 3000, 6000], 6000), 20);
  assert.equal(pace([0, 600_000, 603_000], 603_000), 20);
  assert.equal(pace([5, 5], 5), null);
});

test("names are version 4 UUIDs without https", () => {
  assert.match(newUid(), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.notEqual(newUid(), newUid());
});

/** A desk that looks at `current`, whose server answers with what `answers` holds, one after another. */
function queueOf(answers, { current = [], unwanted = [] } = {}) {
  const asked = [];
  const closed = [];
  const taken = [];
  const ahead = new Ahead({
    sit: async (question) => {
      asked.push(question);
      return { left: 0, labellers: 1, judged: [], taken: [], episodes: [], ...answers.shift() };
    },
    recordingOf: async (uid) => ({ first: async () => {}, close: () => closed.push(uid), pictures: { cameras: [] }, replay: {} }),
    place: { replaceChildren() {} },
    shown: () => current,
    unwanted: () => unwanted,
    failed: (error) => assert.fail(error),
    refilled: () => {},
    taken: (uids) => taken.push(...uids),
  });
  ahead.paint = () => {};
  return { ahead, asked, closed, taken, current, unwanted };
}
const entries = (...uids) => uids.map((uid) => ({ uid }));

test("a page names what it holds, takes few ahead, and says how many are left for all", async () => {
  const { ahead, asked } = queueOf([{ left: 41, labellers: 3, episodes: entries("b", "c", "d", "e") }], { current: ["a"], unwanted: ["x", "a"] });
  await ahead.refill();
  assert.deepEqual(asked, [{ hold: ["a"], without: ["x"], n: 6 }]);
  assert.deepEqual([ahead.length, ahead.waiting, ahead.labellers], [4, 36, 3]);
  // Enough is known: nothing is asked, but what is held is said again.
  assert.equal(ahead.refill(), null);
  await ahead.renew();
  assert.deepEqual(asked[1], { hold: ["a", "b", "c", "d", "e"], without: ["x"], n: 0 });
});

test("what others have now is dropped, but not what was taken back here", async () => {
  const { ahead, closed, taken } = queueOf(
    [{ episodes: entries("b", "c") }, { judged: ["b", "z"], taken: ["a", "c"], left: 9 }],
    { current: ["a"] },
  );
  await ahead.refill();
  await Promise.all(ahead.entries.map((entry) => ahead.open(entry)));
  ahead.unshift({ uid: "z", again: true });
  await ahead.renew();
  assert.deepEqual(ahead.entries.map((entry) => entry.uid), ["z"]);
  await new Promise((done) => setImmediate(done));
  assert.deepEqual(closed, ["b", "c"]);
  assert.deepEqual(taken, ["a", "c"]);
});

test("what was judged while the question was under way does not come again", async () => {
  const made = queueOf([{ episodes: entries("b", "c"), left: 2 }]);
  const asking = made.ahead.refill();
  assert.equal(made.ahead.renew(), asking);
  made.unwanted.push("b");
  await asking;
  assert.deepEqual(made.ahead.entries.map((entry) => entry.uid), ["c"]);
});
