import assert from "node:assert/strict";
import { test } from "node:test";
import { allowedSpeed, Latency, latencyKind, latencyWords } from "../../static/js/latency.js";

test("the light is green, amber or red, and has a word", () => {
  assert.deepEqual([12, 149, 150, 300, 301, 0, NaN].map(latencyKind), ["good", "good", "holding", "holding", "bad", "offline", "offline"]);
  assert.deepEqual([24, 200, 900, NaN].map(latencyWords), ["24 ms · good", "200 ms · slow", "900 ms · too late", "—"]);
});

test("speed falls from all of it at 150 ms to nothing above 300 ms", () => {
  assert.deepEqual([NaN, 0, 149, 150, 225, 300, 301].map(allowedSpeed), [1, 1, 1, 1, 0.625, 0.25, 0]);
});

test("nothing measured is nothing known, unless other probes say something", () => {
  const latency = new Latency();
  assert.ok(Number.isNaN(latency.at(1000)));
  assert.equal(latency.at(1000, 30), 30);
});

test("the round trip is the mean of the last second", () => {
  const latency = new Latency();
  latency.sent(1000);
  latency.answered(1000, 1020);
  latency.sent(1050);
  latency.answered(1050, 1090);
  assert.equal(latency.at(1100, 999), 30);
  assert.equal(latency.at(2060, 999), 40);
  // The last one stands for a while, then nothing does.
  assert.equal(latency.at(4000, 999), 40);
  assert.equal(latency.at(6000, 999), 999);
});

test("a command that nobody answers makes the link late at once", () => {
  const latency = new Latency();
  latency.sent(1000);
  latency.answered(1000, 1020);
  latency.sent(1050);
  assert.equal(latency.at(1060), 20);
  assert.equal(latency.at(1450), 400);
});

test("a later answer says that earlier commands were dropped", () => {
  const latency = new Latency();
  latency.sent(1000);
  latency.sent(1050);
  latency.answered(1050, 1070);
  assert.equal(latency.at(1500), 20);
});

test("an answer from the future or of nothing is not believed", () => {
  const latency = new Latency();
  for (const sentMs of [0, -3, NaN, undefined, 5000]) latency.answered(sentMs, 1000);
  assert.ok(Number.isNaN(latency.at(1000)));
});

test("another lease starts with nothing", () => {
  const latency = new Latency();
  latency.sent(1000);
  latency.answered(1000, 1500);
  latency.forget();
  assert.ok(Number.isNaN(latency.at(1500)));
});
