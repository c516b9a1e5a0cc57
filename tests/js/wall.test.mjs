import assert from "node:assert/strict";
import { test } from "node:test";
import { EVERYTHING, queryOf, ranked, readView, shows } from "../../static/js/wall.js";

function robot(name, beat = {}, more = {}) {
  const heartbeat = { mode: "autonomous", task: "hammer", policy: { number: 5 }, recent: "", rtt_ms: 10, ...beat };
  return { robot: name, connection: "online", assigned_number: 5, lease: null, heartbeat, ...more };
}

test("a view survives its address, and an address without one hides nothing", () => {
  const view = { state: "holding", task: "hammer", site: "hall 3", policy: "behind", sort: "streak" };
  assert.deepEqual(readView(`?${queryOf(view)}`), view);
  assert.deepEqual(readView(""), EVERYTHING);
  assert.equal(queryOf(EVERYTHING), "");
});

test("what an address says and no wall knows is left out", () => {
  const rubbish = `?state=flying&sort=constructor&policy=__proto__&__proto__=x&constructor=y&site=${"a".repeat(65)}&q=%00`;
  assert.deepEqual(readView(rubbish), EVERYTHING);
});

test("a view shows what is in all of its filters", () => {
  const view = { ...EVERYTHING, task: "hammer", site: "hall 3" };
  assert.ok(shows(robot("a"), "hall 3", view));
  assert.ok(!shows(robot("a"), "hall 4", view));
  assert.ok(!shows(robot("a", { task: "drawer-open" }), "hall 3", view));
  assert.ok(!shows(robot("a"), "hall 3", { ...view, state: "holding" }));
  assert.ok(!shows({ robot: "b", connection: "offline", heartbeat: null }, "hall 3", view));
});

test("robots are told apart by the version they run", () => {
  const shown = (policy) =>
    [robot("new"), robot("late", { policy: { number: 3 } }), robot("trial", { evaluation: "6f3a" }), robot("dumb", { policy: null })]
      .filter((state) => shows(state, "", { ...EVERYTHING, policy }))
      .map((state) => state.robot);
  assert.deepEqual(shown("current"), ["new"]);
  assert.deepEqual(shown("behind"), ["late"]);
  assert.deepEqual(shown("evaluated"), ["trial"]);
  assert.equal(shown("").length, 4);
});

test("what waits for a person comes first, and equals stand by number", () => {
  const states = [robot("arm-10"), robot("arm-2"), robot("arm-3", { mode: "holding" }), robot("arm-4", { mode: "stopped" })];
  assert.deepEqual(ranked(states, "urgency"), ["arm-4", "arm-3", "arm-2", "arm-10"]);
  assert.deepEqual(ranked(states, "name"), ["arm-2", "arm-3", "arm-4", "arm-10"]);
});

test("robots that ask for help are first of all, and can be seen alone", () => {
  const states = [robot("arm-1"), robot("arm-2"), robot("arm-3", { mode: "stopped" })];
  const asking = new Set(["arm-2"]);
  assert.deepEqual(ranked(states, "urgency", asking), ["arm-2", "arm-3", "arm-1"]);
  assert.deepEqual(ranked(states, "name", asking), ["arm-1", "arm-2", "arm-3"]);
  const shown = states.filter((state) => shows(state, "", { ...EVERYTHING, state: "help" }, asking));
  assert.deepEqual(shown.map((state) => state.robot), ["arm-2"]);
});

test("the worst comes first when the wall is sorted by a figure", () => {
  const fine = robot("fine", { recent: "ssss", rtt_ms: 5 });
  const poor = robot("poor", { recent: "sssf", rtt_ms: 300, policy: { number: 2 } });
  const gone = { robot: "gone", connection: "offline", heartbeat: null, assigned_number: 5, lease: null };
  assert.deepEqual(ranked([fine, poor, gone], "link"), ["gone", "poor", "fine"]);
  assert.deepEqual(ranked([fine, poor, gone], "policy"), ["gone", "poor", "fine"]);
  assert.deepEqual(ranked([fine, poor], "streak"), ["poor", "fine"]);
  assert.deepEqual(ranked([poor, robot("early", { task: "drawer-open" }), gone], "task"), ["early", "poor", "gone"]);
});
