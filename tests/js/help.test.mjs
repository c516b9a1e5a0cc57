import assert from "node:assert/strict";
import { test } from "node:test";
import { Link } from "../../static/js/link.js";
import { askWords, clock, first, queue, reasonWords, rings, summary, takeable } from "../../static/js/queue.js";

const SECOND_NS = 1e9;
const NOW_MS = 1_000_000;
const OPERATOR = { you: "ada", role: "operator" };
const LEAD = { you: "bo", role: "lead" };

function asks(robot, more = {}) {
  return {
    robot, revision: 1, number: 1, status: "open", reasons: ["doubt"], constraint: false, uncertainty: 0, risk: 0,
    detail: "", note: "", claimed_by: "", claimed_wall_ns: 0, raised_wall_ns: NOW_MS * 1e6 - 10 * SECOND_NS, ...more,
  };
}
const names = (states) => states.map((s) => s.robot);

test("constraint comes before uncertainty before risk before waiting, figures below their thresholds count as none", () => {
  const at = (s) => ({ raised_wall_ns: s * SECOND_NS });
  const table = [
    asks("constraint", { constraint: true, ...at(90) }),
    asks("most uncertain", { uncertainty: 0.9, ...at(80) }),
    asks("uncertain and at risk", { uncertainty: 0.4, risk: 0.6, ...at(70) }),
    asks("uncertain, waits longer", { uncertainty: 0.4, risk: 0.4, ...at(10) }),
    asks("uncertain", { uncertainty: 0.4, ...at(60) }),
    asks("at risk", { uncertainty: 0.1, risk: 0.5, ...at(50) }),
    asks("below both, waits longest", { uncertainty: 0.1, risk: 0.4, ...at(20) }),
    asks("below both", at(30)),
  ];
  assert.deepEqual(queue([...table].reverse(), OPERATOR), table);
});

test("what was given to me comes first, then what I may take, what waits for leads, what others have", () => {
  const states = [
    asks("others", { status: "claimed", claimed_by: "cy", constraint: true }),
    asks("escalated", { status: "escalated", uncertainty: 0.9 }),
    asks("open", { uncertainty: 0.3 }),
    asks("mine", { status: "claimed", claimed_by: "ada" }),
    asks("closed", { status: "skipped", constraint: true }),
  ];
  assert.deepEqual(names(queue(states, OPERATOR)), ["mine", "open", "escalated", "others"]);
  assert.deepEqual(names(queue(states, LEAD)), ["escalated", "open", "others", "mine"]);
  assert.equal(first(queue(states, OPERATOR), OPERATOR).robot, "mine");
  assert.equal(first(queue(states, LEAD), LEAD).robot, "escalated");
  assert.equal(first(queue(states.slice(0, 2), OPERATOR), OPERATOR), undefined);
});

test("an escalated request is for leads and admins", () => {
  const state = asks("arm", { status: "escalated" });
  assert.deepEqual(["viewer", "operator", "lead", "admin"].map((role) => takeable(state, role)), [false, false, true, true]);
});

test("the clock counts what is waited of what is promised, and says when it is overdue", () => {
  assert.deepEqual(clock(asks("arm"), NOW_MS, 30, "ada"), { words: "waiting 10 s of 30 s", waited: "10 s", share: 1 / 3, late: false });
  assert.deepEqual(clock(asks("arm"), NOW_MS, 8, "ada"), { words: "waiting 10 s of 8 s · overdue", waited: "10 s", share: 1, late: true });
  // A page whose clock is a little behind shows no negative time.
  assert.equal(clock(asks("arm"), NOW_MS - 60_000, 30, "ada").words, "waiting 0 s of 30 s");
});

test("a claimed request says who has it, and never passes a script off as a person", () => {
  const claimed = { status: "claimed", claimed_by: "ada", claimed_wall_ns: NOW_MS * 1e6 - 4 * SECOND_NS };
  assert.equal(clock(asks("arm", claimed), NOW_MS, 30, "ada").words, "you have it · 4.0 s");
  assert.equal(clock(asks("arm", { ...claimed, claimed_by_kind: "scripted" }), NOW_MS, 30, "bo").words, "ada (scripted) has it · 4.0 s");
});

test("the newest reason is the one to act on, also one that this page does not know", () => {
  assert.equal(reasonWords(asks("arm", { reasons: ["doubt", "operator_left"] })), "operator left");
  assert.equal(reasonWords(asks("arm", { reasons: ["battery_low"] })), "battery low");
});

test("the summary says how many wait and how long the oldest does", () => {
  assert.equal(summary([], NOW_MS), "nobody waits");
  const states = [asks("a"), asks("b", { raised_wall_ns: NOW_MS * 1e6 - 25 * SECOND_NS }), asks("c", { status: "claimed", claimed_by: "ada" })];
  assert.equal(summary(states, NOW_MS), "2 waiting · oldest 25 s · 1 robot helped");
  assert.equal(summary(states.slice(2), NOW_MS), "nobody waits · 1 robot helped");
});

test("it rings for news that one could take: a request, a new reason, one that is open again", () => {
  const open = asks("arm");
  assert.ok(rings(undefined, open, "operator"));
  assert.ok(!rings(open, { ...open, uncertainty: 0.9 }, "operator"));
  assert.ok(rings(open, { ...open, reasons: ["doubt", "no_progress"] }, "operator"));
  assert.ok(rings({ ...open, status: "claimed" }, open, "operator"));
  assert.ok(!rings(open, { ...open, status: "claimed" }, "operator"));
  assert.ok(!rings(undefined, { ...open, status: "escalated" }, "operator"));
  assert.ok(rings(open, { ...open, status: "escalated", reasons: ["explicit"] }, "lead"));
});

test("a robot's own page says who has its request, and releases whoever drives it", () => {
  assert.equal(askWords(undefined, {}).words, "");
  assert.equal(askWords(asks("arm"), { you: "ada" }).words, "Asks for help: doubt");
  assert.equal(askWords(asks("arm", { status: "claimed", claimed_by: "ada" }), { you: "ada" }).words, "Asks for help: doubt · you have it");
  const resolved = asks("arm", { status: "resolved" });
  assert.equal(askWords(resolved, { you: "ada", mine: true }).words, "Needs no help any more: hand back");
  assert.equal(askWords(resolved, { you: "ada", mine: false }).words, "");
  assert.equal(askWords({ ...resolved, reasons: ["operator_left"] }, { you: "ada", mine: true }).words, "");
});

test("the link keeps the newest request of each robot, and the snapshot starts over", () => {
  const heard = [];
  const link = new Link("/", { emit: (name, detail) => name === "sop:help" && heard.push(detail) });
  link.cameOnline = () => {};
  const state = (revision, status) => ({ type: "HelpState", robot: "arm", revision, status });
  link.receive({ type: "Snapshot", operator: "ada", operator_role: "lead", robots: [], help: [state(5, "open")] });
  assert.equal(link.role, "lead");
  link.receive(state(4, "claimed"));
  link.receive(state(5, "claimed"));
  assert.equal(link.help.get("arm").status, "open");
  link.receive(state(6, "resolved"));
  assert.deepEqual(heard, [state(6, "resolved")]);
  link.receive({ type: "Snapshot", operator: "ada", robots: [] });
  assert.equal(link.help.size, 0);
});
