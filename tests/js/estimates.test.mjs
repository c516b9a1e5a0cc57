import assert from "node:assert/strict";
import { test } from "node:test";
import { noDoubt, noValue, valueNote, valueWords } from "../../static/js/estimates.js";
import { facts } from "../../static/js/facts.js";

test("a page says why a policy says no doubt, and when that will be otherwise", () => {
  const cases = [
    [null, "no policy acts"],
    [{ number: 1, parent: null }, "v1 was imported without an ensemble to disagree; doubt comes with the first version"],
    [{ number: 1 }, "v1 was imported"],
    [{ number: 7, parent: 6 }, "v7 was trained without an ensemble (recipe option doubt_heads)"],
  ];
  for (const [policy, words] of cases) assert.ok(noDoubt(policy).startsWith("none") && noDoubt(policy).includes(words), words);
});

test("a page says why a robot says no value", () => {
  const status = { told: "", number: null, correlation: null, reason: "", took_ms: 0 };
  const cases = [
    [undefined, "agent does not know"],
    [null, "agent does not know"],
    [status, "no value function is fitted yet (learner page)"],
    [{ ...status, told: "ab" }, "waits for the next episode"],
    [{ ...status, told: "ab", reason: "value function 3 was refused: the robot has no camera wrist" }, "no camera wrist"],
    [{ ...status, told: "ab", number: 3 }, "function 3 speaks after the next inference"],
  ];
  for (const [given, words] of cases) assert.ok(noValue(given).startsWith("none") && noValue(given).includes(words), words);
});

test("a value comes with its function, how well that ranks, and what is wrong with a newer one", () => {
  const status = { told: "ab", number: 3, correlation: 0.714, reason: "", took_ms: 1.26 };
  assert.equal(valueNote(status), "function 3 · rank correlation 0.71 on held-out episodes");
  assert.equal(valueNote({ ...status, correlation: null, reason: "value function 4 is on its way" }),
    "function 3 · of unknown rank correlation · value function 4 is on its way");
  assert.equal(valueNote(null), "");
  assert.equal(valueWords(status), "3 · 1.3 ms an inference");
  assert.equal(valueWords({ ...status, took_ms: 0 }), "3");
  const state = { connection: "online", heartbeat: { mode: "autonomous", policy: null, t_wall_ns: 0, value: status } };
  assert.equal(facts(state, { you: "ada", nowMs: 0, online: true }).value, "3 · 1.3 ms an inference");
  assert.equal(valueWords(undefined), "none");
});
