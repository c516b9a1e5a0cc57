import assert from "node:assert/strict";
import { test } from "node:test";
import { extent } from "../../static/js/curve.js";
import { Playhead, SPEEDS, controllerAt, meaningOf, newestAt, pathOf, runs, unpackPictures, wantedPacks } from "../../static/js/playback.js";
import { noticeOf } from "../../static/js/replay.js";

test("a replay plays in the robot's time, faster and slower, and ends at the last step", () => {
  const head = new Playhead(100, 0.05);
  head.toggle(1000);
  head.advance(1500);
  assert.equal(head.step, 10);
  head.changeSpeed(1, 1500);
  assert.equal(head.speed, 2);
  head.advance(2000);
  assert.equal(head.step, 30);
  head.changeSpeed(-1, 2000);
  head.changeSpeed(-1, 2000);
  head.advance(3000);
  assert.equal(head.step, 40);
  head.advance(60_000);
  assert.deepEqual([head.step, head.playing], [99, false]);
  head.toggle(60_000);
  assert.deepEqual([head.step, head.playing], [0, true]);
});

test("speeds have a lowest and a highest", () => {
  const head = new Playhead(10, 0.05);
  for (let i = 0; i < 20; i += 1) head.changeSpeed(1, 0);
  assert.equal(head.speed, SPEEDS.at(-1));
  for (let i = 0; i < 20; i += 1) head.changeSpeed(-1, 0);
  assert.equal(head.speed, SPEEDS[0]);
});

test("a replay waits for its pictures and then goes on from there, not from where it would be", () => {
  const head = new Playhead(100, 0.05);
  head.toggle(0);
  head.advance(5000, (step) => step < 20);
  assert.equal(head.step, 19);
  head.advance(5100, () => true);
  assert.equal(head.step, 21);
});

test("seeking stays inside the episode, and an empty one has nowhere to go", () => {
  const head = new Playhead(10, 0.05);
  head.seek(500);
  assert.equal(head.step, 9);
  head.seek(-3);
  assert.equal(head.step, 0);
  const empty = new Playhead(0, 0.05);
  empty.toggle(0);
  assert.deepEqual([empty.step, empty.playing], [0, false]);
});

test("what one looks at is fetched first, then what comes, then the rest", () => {
  assert.deepEqual(wantedPacks(70, 200), [1, 2, 3, 0]);
  assert.deepEqual(wantedPacks(0, 0), []);
});

test("a pack is a length, a list and the pictures", () => {
  const meta = new TextEncoder().encode(JSON.stringify({ steps: [0, 2], sizes: [2, 1] }));
  const data = new Uint8Array(4 + meta.length + 3);
  new DataView(data.buffer).setUint32(0, meta.length);
  data.set(meta, 4);
  data.set([7, 8, 9], 4 + meta.length);
  assert.deepEqual(unpackPictures(data.buffer).map(({ step, jpeg }) => [step, ...jpeg]), [[0, 7, 8], [2, 9]]);
});

test("a step without a picture shows the newest before it", () => {
  assert.deepEqual([-1, 0, 1, 5, 99].map((step) => newestAt([0, 2, 4, 6], step)), [-1, 0, 0, 4, 6]);
  assert.equal(newestAt([], 3), -1);
});

test("series become paths with gaps, and noise is not drawn large", () => {
  assert.equal(pathOf([0, 1, null, 0.5], [0, 1], 10), "M0.5 10L1.5 0M3.5 5");
  assert.deepEqual(extent([-0.5, 0]), [-0.5, 0]);
  assert.deepEqual(extent([0.2, 0.2], 0.1).map((v) => Math.round(v * 100) / 100), [0.15, 0.25]);
  assert.deepEqual(runs([1, 1, 2]), [{ value: 1, start: 0, end: 2 }, { value: 2, start: 2, end: 3 }]);
  assert.equal(controllerAt([{ who: "human", start: 3, end: 5 }], 5), "nobody");
});

const key = (code, more = {}) => ({ code, shiftKey: false, ctrlKey: false, metaKey: false, altKey: false, ...more });

test("keys steer the replay, but not while one writes or a button has the focus", () => {
  assert.equal(meaningOf(key("Space")), "play");
  assert.equal(meaningOf(key("ArrowLeft"), { tag: "INPUT", type: "range" }), "back");
  assert.equal(meaningOf(key("Space"), { tag: "BUTTON" }), null);
  assert.equal(meaningOf(key("KeyG"), { tag: "INPUT", type: "text" }), null);
  assert.equal(meaningOf(key("KeyL", { ctrlKey: true })), null);
  assert.equal(meaningOf(key("KeyQ")), null);
});

test("an episode says what is special about it", () => {
  const plain = { cameras: [{}], steps: 5, recorded_steps: 5, complete: true };
  assert.equal(noticeOf(plain), "");
  assert.match(noticeOf({ ...plain, cameras: [] }), /without cameras/);
  assert.match(noticeOf({ ...plain, recorded_steps: 9 }), /first 5 of 9/);
  assert.match(noticeOf({ ...plain, complete: false }), /never trained on/);
});
