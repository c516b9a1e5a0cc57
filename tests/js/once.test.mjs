import assert from "node:assert/strict";
import { test } from "node:test";
import { arrange, once } from "../../static/js/once.js";

test("what was asked for a hundred times is done once, and may be asked for again", () => {
  const due = [];
  let done = 0;
  const soon = once(() => (done += 1), (run) => due.push(run));
  for (let i = 0; i < 100; i += 1) soon();
  assert.deepEqual([done, due.length], [0, 1]);
  due.shift()();
  soon();
  due.shift()();
  assert.equal(done, 2);
});

/** A parent of `names` that counts how often an element is put somewhere. */
function parentOf(names) {
  const list = [];
  const child = (name) => ({
    name,
    get nextElementSibling() {
      return list[list.indexOf(this) + 1] ?? null;
    },
    remove() {
      if (list.includes(this)) list.splice(list.indexOf(this), 1);
    },
  });
  list.push(...[...names].map(child));
  const parent = {
    moves: 0,
    get firstElementChild() {
      return list[0] ?? null;
    },
    insertBefore(one, place) {
      parent.moves += 1;
      one.remove();
      list.splice(place ? list.indexOf(place) : list.length, 0, one);
    },
  };
  return { parent, list, names: () => list.map((one) => one.name).join("") };
}

for (const [before, wanted, after, moves] of [
  ["abcd", "abcd", "abcd", 0],
  ["abcd", "dabc", "dabc", 1],
  ["abcd", "bcda", "bcda", 1],
  ["abcd", "acbd", "acbd", 1],
  ["abcd", "dcba", "dcba", 3],
  // What is not asked for stays behind the rest.
  ["axbc", "cba", "cbax", 2],
  ["xab", "ab", "abx", 2],
  ["abcdefgh", "hgabcdef", "hgabcdef", 2],
  ["", "", "", 0],
]) {
  test(`${before || "nothing"} put in the order ${wanted || "of nothing"} moves ${moves}`, () => {
    const { parent, list, names } = parentOf(before);
    arrange(parent, [...wanted].map((name) => list.find((one) => one.name === name)));
    assert.equal(names(), after);
    assert.equal(parent.moves, moves);
  });
}
