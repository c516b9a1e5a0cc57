import assert from "node:assert/strict";
import { test } from "node:test";
import { FrameAge, unpackFrame } from "../../static/js/feed.js";
import { stopProgress, stopWords } from "../../static/js/stop.js";
import { describe, extend } from "../../static/js/timeline.js";
import { age, size } from "../../static/js/words.js";

test("ages are short and never negative", () => {
  assert.deepEqual([-5, 41, 2400, 45_000, 180_000, 7_200_000, NaN].map(age), ["0 ms", "41 ms", "2.4 s", "45 s", "3 min", "2 h", "—"]);
});

test("sizes have a unit", () => {
  assert.deepEqual([12, 2048, 3 * 1024 * 1024].map(size), ["12 B", "2 kB", "3.0 MB"]);
});

test("a frame is a length, a header and a picture", () => {
  const header = new TextEncoder().encode(JSON.stringify({ robot: "arm-01", camera: "front", size: "full", seq: 3, age_ms: 7 }));
  const data = new Uint8Array(2 + header.length + 3);
  new DataView(data.buffer).setUint16(0, header.length);
  data.set(header, 2);
  data.set([255, 216, 1], 2 + header.length);
  const frame = unpackFrame(data.buffer);
  assert.equal(frame.header.seq, 3);
  assert.deepEqual([...frame.jpeg], [255, 216, 1]);
});

test("a frame ages from when it was taken, not from when it arrived", () => {
  const frame = new FrameAge();
  assert.equal(frame.at(100), Infinity);
  frame.shown(1000, 30);
  assert.equal(frame.at(1000), 30);
  assert.equal(frame.at(1600), 630);
});

const heard = (mode, stop_pending, connection = "online") => ({ connection, stop_pending, heartbeat: { mode } });

test("a stop counts only when the robot confirmed it", () => {
  const robots = new Map([
    ["a", heard("stopped", false)],
    ["b", heard("stopped", true)],
    ["c", heard("autonomous", true)],
    ["d", heard("autonomous", true, "offline")],
  ]);
  const progress = stopProgress(["a", "b", "c", "d"], robots);
  assert.deepEqual(progress, { stopped: ["a"], waiting: ["b", "c"], offline: ["d"] });
  assert.equal(stopWords(progress), "1 of 3 robots confirmed the stop · waiting for b, c · offline, stops when it connects: d");
});

test("who had control is a list of spans without gaps", () => {
  let line = { episode: "", spans: [] };
  const tick = (n, mode, episode = "e1") => (line = extend(line, { episode, tick: n, mode }));
  [0, 1, 2].forEach((n) => tick(n, "autonomous"));
  [5, 6].forEach((n) => tick(n, "takeover"));
  assert.equal(describe(line), "autonomous ticks 0 to 3, takeover ticks 3 to 7");
  tick(0, "autonomous", "e2");
  assert.equal(describe(line), "autonomous ticks 0 to 1");
});
