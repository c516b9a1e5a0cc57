import assert from "node:assert/strict";
import { test } from "node:test";
import { Driver, GRIPPER_MS, KEEP_MS, motion, PERIOD_MS, STALE_VIDEO_MS } from "../../static/js/drive.js";

const ROBOT = {
  robot: "arm-01",
  actionNames: ["x", "y", "z", "gripper"],
  low: [-1, -1, -1, -1],
  high: [1, 1, 1, 1],
  headingRad: Math.PI / 2,
};
const LOOKING = { attentive: true, frameAgeMs: 40 };
const AWAY = { attentive: false, frameAgeMs: 40 };
const STALE = { attentive: true, frameAgeMs: STALE_VIDEO_MS + 1 };

function driver(gripperClosed = false) {
  const made = new Driver(ROBOT);
  made.speed = 0.5;
  made.grant(7, gripperClosed);
  made.keptMs = 0;
  return made;
}

/** Run the 20 Hz clock from one time to another and return what was sent. */
function run(d, fromMs, toMs, seen) {
  const sent = [];
  for (let now = fromMs; now < toMs; now += PERIOD_MS) sent.push(...d.step(now, seen));
  return sent;
}

const close = (a, b) => a.forEach((value, i) => assert.ok(Math.abs(value - b[i]) < 1e-9, `${a} is not ${b}`));

test("forward moves along the camera's heading", () => {
  close(motion(["KeyW"], 1, 0), [1, 0, 0]);
  close(motion(["KeyW"], 1, Math.PI / 2), [0, 1, 0]);
  close(motion(["KeyW"], 1, Math.PI), [-1, 0, 0]);
});

test("right is clockwise from the camera's heading", () => {
  close(motion(["KeyD"], 1, Math.PI / 2), [1, 0, 0]);
  close(motion(["KeyA"], 1, Math.PI / 2), [-1, 0, 0]);
  close(motion(["KeyD"], 1, 0), [0, -1, 0]);
});

test("two keys are no faster than one", () => {
  const move = motion(["KeyW", "KeyD", "KeyR"], 0.6, 1.1);
  assert.ok(Math.abs(Math.hypot(...move) - 0.6) < 1e-9);
});

test("opposite keys cancel out", () => {
  close(motion(["KeyW", "KeyS"], 1, 1), [0, 0, 0]);
});

test("speed is clipped to the robot's limit", () => {
  close(motion(["KeyR"], 7, 0), [0, 0, 1]);
});

test("nothing is sent without a lease", () => {
  const d = new Driver(ROBOT);
  d.press("KeyW");
  assert.deepEqual(run(d, 0, 2000, LOOKING), []);
});

test("commands go out at twenty a second while a key is down", () => {
  const d = driver();
  d.press("KeyW");
  const sent = run(d, 0, 1000, LOOKING);
  assert.equal(sent.length, 20);
  assert.deepEqual(sent.map((m) => m.seq), [...Array(20).keys()]);
  assert.ok(sent.every((m) => m.type === "Drive" && m.epoch === 7 && m.action[1] === 0.5));
});

test("a key event between two ticks of the clock does not add a command", () => {
  const d = driver();
  d.press("KeyW");
  assert.equal(d.step(100, LOOKING).length, 1);
  d.press("KeyD");
  assert.equal(d.step(110, LOOKING).length, 0);
});

test("one zero command follows the last key and then only the lease is kept", () => {
  const d = driver();
  d.press("KeyW");
  run(d, 0, 200, LOOKING);
  d.lift("KeyW");
  const sent = run(d, 200, 200 + 3 * KEEP_MS, LOOKING);
  assert.deepEqual(sent[0].action.slice(0, 3), [0, 0, 0]);
  assert.ok(sent.slice(1).every((m) => m.type === "KeepLease" && m.epoch === 7));
  assert.ok(sent.length >= 3 && sent.length <= 4);
});

test("looking away sends one zero command and keeps the lease no more", () => {
  const d = driver();
  d.press("KeyW");
  run(d, 0, 200, LOOKING);
  const sent = run(d, 200, 20_000, AWAY);
  assert.equal(sent.length, 1);
  assert.deepEqual(sent[0].action.slice(0, 3), [0, 0, 0]);
});

test("keys held while looking away do not move the robot on return", () => {
  const d = driver();
  d.press("KeyW");
  run(d, 0, 200, LOOKING);
  run(d, 200, 400, AWAY);
  const sent = run(d, 400, 800, LOOKING);
  assert.ok(sent.every((m) => m.type === "KeepLease"));
});

test("a stale picture locks driving out and keeps the lease", () => {
  const d = driver();
  d.press("KeyW");
  run(d, 0, 200, LOOKING);
  const sent = run(d, 200, 200 + 3 * KEEP_MS, STALE);
  assert.ok(sent.length >= 2 && sent.every((m) => m.type === "KeepLease"));
  d.press("KeyW");
  assert.ok(d.step(9000, STALE).every((m) => m.type === "KeepLease"));
});

test("a picture that never came counts as stale", () => {
  const d = driver();
  d.press("KeyW");
  assert.ok(run(d, 0, 500, { attentive: true, frameAgeMs: Infinity }).every((m) => m.type === "KeepLease"));
});

test("the gripper keeps its last command through every other one", () => {
  const d = driver(true);
  d.press("KeyW");
  assert.equal(d.step(0, LOOKING)[0].action[3], 1);
  d.toggleGripper(0);
  assert.equal(d.step(50, LOOKING)[0].action[3], -1);
});

test("a gripper command is repeated until the gripper had time to move", () => {
  const d = driver();
  d.toggleGripper(0);
  const sent = run(d, 0, 2000, LOOKING).filter((m) => m.type === "Drive");
  assert.equal(sent.length, GRIPPER_MS / PERIOD_MS + 1);
  assert.ok(sent.every((m) => m.action[3] === 1 && m.action[0] === 0));
});

test("limits of the robot scale each direction on its own", () => {
  const d = new Driver({ ...ROBOT, low: [-0.5, -0.5, -0.1, 0], high: [1, 2, 0.4, 0.08] });
  d.grant(1, false);
  d.speed = 1;
  d.press("KeyW");
  assert.deepEqual(d.step(0, LOOKING)[0].action.slice(1), [2, 0, 0]);
  d.lift("KeyW");
  d.press("KeyF");
  assert.ok(Math.abs(d.step(50, LOOKING)[0].action[2] + 0.1) < 1e-9);
});
