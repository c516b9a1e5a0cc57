import assert from "node:assert/strict";
import { test } from "node:test";
import { Drag, DRAG_FULL, Gamepad, Inputs, Keyboard, pickPad } from "../../static/js/inputs.js";
import { faster, preferences } from "../../static/js/preferences.js";

const near = (a, b) => a.forEach((value, i) => assert.ok(Math.abs(value - b[i]) < 1e-9, `${a} is not ${b}`));
const pad = ({ axes = [0, 0, 0, 0], down = [], ...more } = {}) => ({
  index: 0,
  connected: true,
  mapping: "standard",
  axes,
  buttons: [...Array(17).keys()].map((i) => ({ pressed: down.includes(i) })),
  ...more,
});
const LEFT_SHOULDER = 4;

/** A gamepad whose dead-man was seen open. */
function found() {
  const device = new Gamepad();
  device.sense(pad());
  return device;
}

test("every device says nothing until its dead-man is closed", () => {
  assert.equal(new Inputs().read(), null);
  const device = found();
  device.sense(pad({ axes: [1, 0, 0, 0] }));
  assert.equal(device.read(), null);
});

test("two keys are no faster than one and opposite keys cancel out", () => {
  const keyboard = new Keyboard();
  for (const key of ["KeyW", "KeyD", "KeyR"]) keyboard.press(key);
  assert.ok(Math.abs(Math.hypot(...keyboard.read()) - 1) < 1e-9);
  const still = new Keyboard();
  for (const key of ["KeyW", "KeyS"]) still.press(key);
  near(still.read(), [0, 0, 0]);
});

test("a key that is no driving key is not taken, whatever it is called", () => {
  const keyboard = new Keyboard();
  assert.equal(keyboard.press("KeyQ"), false);
  assert.equal(keyboard.press("constructor"), false);
  assert.equal(keyboard.read(), null);
});

test("sticks move while a shoulder button is held and rest in the middle", () => {
  const device = found();
  device.sense(pad({ axes: [1, 0, 0, 0], down: [LEFT_SHOULDER] }));
  near(device.read(), [1, 0, 0]);
  device.sense(pad({ axes: [0, -1, 0, 0], down: [LEFT_SHOULDER] }));
  near(device.read(), [0, 1, 0]);
  device.sense(pad({ axes: [0, 0, 0, -1], down: [LEFT_SHOULDER] }));
  near(device.read(), [0, 0, 1]);
  device.sense(pad({ axes: [0.1, -0.14, 0, 0.05], down: [LEFT_SHOULDER] }));
  near(device.read(), [0, 0, 0]);
  device.sense(pad({ axes: [1, 0, 0, 0] }));
  assert.equal(device.read(), null);
});

test("a gamepad that says rubbish stands still", () => {
  const device = found();
  device.sense(pad({ axes: [NaN, "fast", undefined, Infinity], down: [LEFT_SHOULDER] }));
  near(device.read(), [0, 0, 0]);
  device.sense({ connected: true, axes: [], buttons: [] });
  assert.equal(device.read(), null);
});

test("a lost gamepad is said once and its dead-man must be closed anew", () => {
  const device = found();
  device.sense(pad({ axes: [1, 0, 0, 0], down: [LEFT_SHOULDER] }));
  assert.equal(device.sense(null).lost, true);
  assert.equal(device.read(), null);
  assert.equal(device.sense(null).lost, false);
  // It comes back with the button still pressed, or stuck.
  assert.equal(device.sense(pad({ axes: [1, 0, 0, 0], down: [LEFT_SHOULDER] })).found, true);
  assert.equal(device.read(), null);
  device.sense(pad());
  device.sense(pad({ axes: [1, 0, 0, 0], down: [LEFT_SHOULDER] }));
  near(device.read(), [1, 0, 0]);
});

test("after a lockout a held shoulder button does not move the robot", () => {
  const device = found();
  const held = pad({ axes: [1, 0, 0, 0], down: [LEFT_SHOULDER] });
  device.sense(held);
  device.neutral();
  device.sense(held);
  assert.equal(device.read(), null);
});

test("buttons act once a press, and the gripper only with the dead-man", () => {
  const device = found();
  assert.equal(device.sense(pad({ down: [0] })).gripper, false);
  device.sense(pad({ down: [LEFT_SHOULDER] }));
  assert.equal(device.sense(pad({ down: [0, LEFT_SHOULDER] })).gripper, true);
  assert.equal(device.sense(pad({ down: [0, LEFT_SHOULDER] })).gripper, false);
  assert.equal(device.sense(pad({ down: [9] })).takeover, true);
  assert.equal(device.sense(pad({ down: [9] })).takeover, false);
});

test("a button that is down when the gamepad is found does nothing", () => {
  assert.equal(new Gamepad().sense(pad({ down: [9] })).takeover, false);
});

test("the gamepad in use is kept, and one of unknown buttons is never taken", () => {
  const [first, second] = [pad({ index: 1 }), pad({ index: 2 })];
  assert.equal(pickPad([null, first, second], null), first);
  assert.equal(pickPad([null, first, second], 2), second);
  // Not the other one instead: whoever holds it did not ask to drive.
  assert.equal(pickPad([null, first, null], 2), null);
  assert.equal(pickPad([pad({ mapping: "" })], null), null);
});

test("a drag moves by how far it goes and ends with the press", () => {
  const drag = new Drag();
  drag.start(100, 100, 400);
  near(drag.read(), [0, 0, 0]);
  drag.move(100 + 400 * DRAG_FULL, 100, false);
  near(drag.read(), [1, 0, 0]);
  drag.move(100, 100 - 4000, false);
  near(drag.read(), [0, 1, 0]);
  drag.move(100, 100 - 4000, true);
  near(drag.read(), [0, 0, 1]);
  drag.move(101, 100, false);
  near(drag.read(), [0, 0, 0]);
  drag.end();
  assert.equal(drag.read(), null);
  drag.move(0, 0, false);
  assert.equal(drag.read(), null);
});

test("devices add up to no more than one", () => {
  const inputs = new Inputs();
  inputs.keyboard.press("KeyR");
  inputs.drag.start(0, 0, 100);
  inputs.drag.move(100, 0, false);
  near(inputs.read(), [Math.SQRT1_2, 0, Math.SQRT1_2]);
  inputs.neutral();
  assert.equal(inputs.read(), null);
});

test("speed goes in tenths within its limits", () => {
  assert.equal(faster(0.6, 1), 0.7);
  assert.equal(faster(1, 1), 1);
  assert.equal(faster(0.1, -1), 0.1);
});

test("what the browser remembered is believed only where it makes sense", () => {
  const usual = { speed: 0.6, frame: "camera", mirrored: false };
  for (const rubbish of [null, "", "{", "7", '{"speed":"fast","frame":7,"mirrored":"yes"}']) assert.deepEqual(preferences(rubbish), usual);
  assert.deepEqual(preferences('{"speed":99,"frame":"robot","mirrored":true}'), { speed: 1, frame: "robot", mirrored: true });
});
