import assert from "node:assert/strict";
import { test } from "node:test";

import { figure, pathOf, rangeOf } from "../../static/js/curve.js";

test("a missing number is a dash, a small one keeps its places", () => {
  assert.equal(figure(null), "—");
  assert.equal(figure(undefined), "—");
  assert.equal(figure(-0.12345), "-0.123");
});

test("a curve spans the whole episode and is broken where nothing was recorded", () => {
  const path = pathOf([0, 1, null, 1], [0, 1, 2, 3], 4, [0, 1]);
  assert.equal(path, "M0.0 86.0L200.0 4.0M600.0 4.0");
});

test("a curve of one value has a range, and one of none has too", () => {
  assert.equal(pathOf([2], [0], 1, rangeOf([2])), "M0.0 86.0");
  assert.deepEqual(rangeOf([null, 3], [1]), [1, 3]);
  assert.deepEqual(rangeOf([null]), [0, 1]);
});
