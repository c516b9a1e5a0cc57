import assert from "node:assert/strict";
import { test } from "node:test";
import { handover } from "../../static/js/handover.js";

const now = (more) => handover({ mine: false, held: "", asking: [], you: "anna", mayDrive: true, ...more });

test("a free robot is taken over, not asked for", () => {
  assert.equal(now({}).offer, "");
});

test("somebody who watches may ask, and ask no more", () => {
  assert.deepEqual(now({ held: "ben" }), { words: "", offer: "ask", label: "Ask for control", to: "" });
  assert.deepEqual(now({ held: "ben", asking: ["anna"] }), { words: "You ask for control", offer: "withdraw", label: "Ask no more", to: "" });
});

test("the holder hands over to the first who asks", () => {
  assert.equal(now({ mine: true, held: "you" }).offer, "");
  const said = now({ mine: true, held: "you", asking: ["ben", "cy"] });
  assert.deepEqual(said, { words: "Ben, cy ask for control", offer: "pass", label: "Hand over to ben", to: "ben" });
  assert.equal(now({ mine: true, held: "you", asking: ["anna"] }).label, "Hand over to your other page");
});

test("somebody who may not drive sees who asks and is offered nothing", () => {
  const said = now({ held: "ben", asking: ["cy"], mayDrive: false });
  assert.deepEqual([said.words, said.offer], ["Cy asks for control", ""]);
});
