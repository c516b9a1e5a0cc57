import assert from "node:assert/strict";
import { test } from "node:test";
import { ZOOM_MOST, zoomTo } from "../../static/js/cameras.js";
import { Plan, project, way } from "../../static/js/plan.js";
import { extent } from "../../static/js/curve.js";
import { path, Series } from "../../static/js/traces.js";

const near = (a, b) => a.forEach((value, i) => assert.ok(Math.abs(value - b[i]) < 1e-9, `${a} is not ${b}`));
const WHOLE = { scale: 1, x: 0, y: 0 };
const SPEC = {
  state_names: ["hand_x", "hand_y", "hand_z", "open"],
  action_names: ["x", "y", "z", "gripper"],
  action_low: [-1, -1, -1, -1],
  action_high: [1, 1, 1, 1],
  hand: { position: ["hand_x", "hand_y", "hand_z"], action: ["x", "y", "z"], unit_m: 0.01 },
};
// At the origin, looking along +y, upright.
const VIEW = { position_m: [0, 0, 0], right: [1, 0, 0], down: [0, 0, -1], forward: [0, 1, 0], focal_heights: 1 };

test("a zoom keeps the point under the pointer in its place", () => {
  const zoom = zoomTo(WHOLE, 2, 0.25, 0.75);
  near([zoom.x + 2 * 0.25, zoom.y + 2 * 0.75], [0.25, 0.75]);
});

test("a zoomed picture still fills its frame and zooms no further than it may", () => {
  const out = zoomTo(zoomTo(WHOLE, 3, 1, 1), 1.5, 0, 0);
  assert.ok(out.x <= 0 && out.x >= 1 - out.scale && out.y <= 0 && out.y >= 1 - out.scale);
  assert.equal(zoomTo(WHOLE, 99, 0.5, 0.5).scale, ZOOM_MOST);
  assert.deepEqual(zoomTo(zoomTo(WHOLE, 3, 0.3, 0.9), 0.2, 0.5, 0.5), { scale: 1, x: 0, y: 0 });
});

test("a plan adds up to where the hand goes, within the robot's limits", () => {
  const points = way(SPEC, [0.1, 0.6, 0.2, 1], [[1, 0, -0.5, 1], [7, 0, 0, 1]]);
  near(points.flat(), [0.1, 0.6, 0.2, 0.11, 0.6, 0.195, 0.12, 0.6, 0.195]);
});

test("a robot that does not say how actions move its hand gets no line", () => {
  assert.deepEqual(way({ ...SPEC, hand: null }, [0, 0, 0, 1], [[1, 0, 0, 1]]), []);
  assert.deepEqual(way(SPEC, [0, 0, 0, 1], []), []);
  assert.deepEqual(way(SPEC, [0, 0], [[1, 0, 0, 1]]), []);
});

test("a point ahead is in the middle, one to the right to the right, one above above", () => {
  near(project(VIEW, [0, 2, 0], 320, 240), [160, 120]);
  near(project(VIEW, [1, 2, 0], 320, 240), [160 + 120, 120]);
  near(project(VIEW, [0, 2, 0.5], 320, 240), [160, 60]);
  // Half as far is twice as large; the picture's width changes nothing.
  near(project(VIEW, [0.5, 1, 0], 640, 240), [320 + 120, 120]);
});

test("what is behind the camera is not drawn", () => {
  assert.equal(project(VIEW, [0, -1, 0], 320, 240), null);
  assert.equal(project(VIEW, [0, 0, 0], 320, 240), null);
});

test("a tick without a plan keeps the last one", () => {
  const plan = new Plan(SPEC);
  plan.take({ state: [0, 1, 0, 1], plan: [[1, 0, 0, 0]] }, 100);
  plan.take({ state: [0, 1, 0, 1], plan: [] }, 150);
  plan.take({ state: [0, 1, 0, 1] }, 150);
  assert.equal(plan.points.length, 2);
  assert.equal(plan.atMs, 100);
});

const tick = (n, episode = "e1") => ({ episode, tick: n, doubt: n / 10, state: [n], action: [1], policy_action: [] });

test("a series holds one episode and each tick once", () => {
  const series = new Series();
  for (const n of [0, 1, 1, 3]) series.add(tick(n));
  assert.deepEqual(series.ticks, [0, 1, 3]);
  series.add(tick(0, "e2"));
  assert.deepEqual([series.ticks, series.doubt], [[0], [0]]);
  series.add(tick(0, ""));
  assert.deepEqual(series.ticks, []);
});

test("a series keeps a value of 0, which is the best, apart from none", () => {
  const series = new Series();
  series.add({ ...tick(0), value: null });
  series.add({ ...tick(1), value: 0 });
  series.add(tick(2));
  series.add({ ...tick(3), value: -0.5 });
  assert.deepEqual(series.value, [undefined, 0, undefined, -0.5]);
  assert.equal(path(series.ticks, series.value, [-1, 0]), "M1,0.0M3,50.0");
});

test("a line goes from low at the bottom to high at the top and leaves gaps where nothing is known", () => {
  assert.equal(path([0, 1, 2, 50, 51], [0, 1, undefined, 0.5, 9], [0, 1]), "M0,100.0L1,0.0M50,50.0L51,0.0");
  assert.equal(path([], [], [0, 1]), "");
});

test("a range is never narrower than asked and survives nothing at all", () => {
  near(extent([0.2, 0.21], 0.05), [0.18, 0.23]);
  near(extent([0.1, 0.4, NaN, undefined], 0.05), [0.1, 0.4]);
  near(extent([], 0.05), [0, 0.05]);
});

test("a series may be longer than a function takes arguments", () => {
  assert.deepEqual(extent(Array.from({ length: 300_000 }, (_, i) => i % 7), 1), [0, 6]);
});
