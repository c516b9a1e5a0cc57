import assert from "node:assert/strict";
import { test } from "node:test";
import { wordsOf } from "../../static/js/thresholds.js";

test("a slider says how many steps turn, either way", () => {
  const counts = { epsilons: Array(99).fill(0.1), positive_steps: Array.from({ length: 99 }, (_, i) => 1000 + 10 * i), free_steps: 4000, forced_steps: 500, episodes: 30, unreadable: 0 };
  assert.equal(wordsOf(counts, 40, 40), "1,390 of 4,500 steps positive, 500 of them forced · ε 0.100 · n = 30 episodes");
  assert.match(wordsOf(counts, 50, 40), / · 100 turn positive · /);
  assert.match(wordsOf(counts, 30, 40), / · 100 turn negative · /);
  assert.match(wordsOf({ ...counts, unreadable: 2 }, 30, 40), /2 episodes cannot be read/);
});
