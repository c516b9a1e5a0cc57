// Words in the reader's language: what is filled in, and what robots said in English.
import assert from "node:assert/strict";
import test from "node:test";
import { fill, gettext, ngettext, said } from "../../static/js/language.js";

const PHRASES = {
  "stopped by %(name)s": "由 %(name)s 停止",
  "no progress for %(seconds)s s": "%(seconds)s s 没有进展",
  "it rejected v%(number)s: %(why)s": "它拒绝了 v%(number)s：%(why)s",
  "its actions are not finite": "其动作不是有限数值",
  "%(robot)s is held by %(name)s": "%(robot)s 由 %(name)s 持有",
  "%(robot)s is held by %(name)s, who judges": "%(robot)s 由 %(name)s 持有，应由其评判",
};

test("without a catalog every string stands for itself", () => {
  assert.equal(gettext("Take over"), "Take over");
  assert.equal(ngettext("%(n)s robot", "%(n)s robots", 1), "%(n)s robot");
  assert.equal(ngettext("%(n)s robot", "%(n)s robots", 0), "%(n)s robots");
  assert.equal(said("stopped by ada"), "stopped by ada");
});

test("placeholders are filled wherever a language puts them, and never twice", () => {
  assert.equal(fill("%(b)s after %(a)s", { a: 1, b: "%(a)s" }), "%(a)s after 1");
  assert.equal(fill("%(missing)s", {}), "%(missing)s");
});

test("what a robot said is found by its phrase, with what it says of it", () => {
  assert.equal(said("stopped by ada", PHRASES), "由 ada 停止");
  assert.equal(said("Its actions are not finite", PHRASES), "其动作不是有限数值");
  assert.equal(said("it rejected v7: its actions are not finite", PHRASES), "它拒绝了 v7：其动作不是有限数值");
  assert.equal(said("stopped by ada · no progress for 4 s", PHRASES), "由 ada 停止 · 4 s 没有进展");
  // Of two phrases that fit, the one that says more.
  assert.equal(said("arm-1 is held by ada, who judges", PHRASES), "arm-1 由 ada 持有，应由其评判");
});

test("what nobody knows is shown as it came", () => {
  assert.equal(said("flux capacitor is low", PHRASES), "flux capacitor is low");
  assert.equal(said("", PHRASES), "");
});
