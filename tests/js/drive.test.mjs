import assert from "node:assert/strict";
import { test } from "node:test";
import { Driver, GRIPPER_MS, KEEP_MS, lockout, motion, PERIOD_MS, PROBE_MS, STALE_VIDEO_MS } from "../../static/js/drive.js";
import { KEYS } from "../../static/js/inputs.js";

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
  close(motion(KEYS.KeyW, 1, 0), [1, 0, 0]);
  close(motion(KEYS.KeyW, 1, Math.PI / 2), [0, 1, 0]);
  close(motion(KEYS.KeyW, 1, Math.PI), [-1, 0, 0]);
});

test("right is clockwise from the camera's heading", () => {
  close(motion(KEYS.KeyD, 1, Math.PI / 2), [1, 0, 0]);
  close(motion(KEYS.KeyA, 1, Math.PI / 2), [-1, 0, 0]);
  close(motion(KEYS.KeyD, 1, 0), [0, -1, 0]);
});

test("a mirror exchanges left and right and nothing else", () => {
  close(motion(KEYS.KeyD, 1, 1.1, true), motion(KEYS.KeyA, 1, 1.1));
  close(motion(KEYS.KeyW, 1, 1.1, true), motion(KEYS.KeyW, 1, 1.1));
  close(motion(KEYS.KeyR, 1, 1.1, true), [0, 0, 1]);
});

test("speed is clipped to the robot's limit", () => {
  close(motion(KEYS.KeyR, 7, 0), [0, 0, 1]);
});

test("nothing is sent without a lease", () => {
  const d = new Driver(ROBOT);
  d.inputs.keyboard.press("KeyW");
  assert.deepEqual(run(d, 0, 2000, LOOKING), []);
});

test("commands go out at twenty a second while a key is down", () => {
  const d = driver();
  d.inputs.keyboard.press("KeyW");
  const sent = run(d, 0, 1000, LOOKING);
  assert.equal(sent.length, 20);
  assert.deepEqual(sent.map((m) => m.seq), [...Array(20).keys()]);
  assert.ok(sent.every((m) => m.type === "Drive" && m.epoch === 7 && m.action[1] === 0.5));
});

test("a key event between two ticks of the clock does not add a command", () => {
  const d = driver();
  d.inputs.keyboard.press("KeyW");
  assert.equal(d.step(100, LOOKING).length, 1);
  d.inputs.keyboard.press("KeyD");
  assert.equal(d.step(110, LOOKING).length, 0);
});

test("one zero command follows the last key and then only the lease is kept", () => {
  const d = driver();
  d.inputs.keyboard.press("KeyW");
  run(d, 0, 200, LOOKING);
  d.inputs.keyboard.lift("KeyW");
  const sent = run(d, 200, 200 + 3 * KEEP_MS, LOOKING);
  assert.deepEqual(sent[0].action.slice(0, 3), [0, 0, 0]);
  assert.ok(sent.slice(1).every((m) => m.type === "KeepLease" && m.epoch === 7));
  assert.ok(sent.length >= 3 && sent.length <= 4);
});

test("looking away sends one zero command and keeps the lease no more", () => {
  const d = driver();
  d.inputs.keyboard.press("KeyW");
  run(d, 0, 200, LOOKING);
  const sent = run(d, 200, 20_000, AWAY);
  assert.equal(sent.length, 1);
  assert.deepEqual(sent[0].action.slice(0, 3), [0, 0, 0]);
});

test("keys held while looking away do not move the robot on return", () => {
  const d = driver();
  d.inputs.keyboard.press("KeyW");
  run(d, 0, 200, LOOKING);
  run(d, 200, 400, AWAY);
  const sent = run(d, 400, 800, LOOKING);
  assert.ok(sent.every((m) => m.type === "KeepLease"));
});

test("a stale picture locks driving out and keeps the lease", () => {
  const d = driver();
  d.inputs.keyboard.press("KeyW");
  run(d, 0, 200, LOOKING);
  const sent = run(d, 200, 200 + 3 * KEEP_MS, STALE);
  assert.ok(sent.length >= 2 && sent.every((m) => m.type === "KeepLease"));
  d.inputs.keyboard.press("KeyW");
  assert.ok(d.step(9000, STALE).every((m) => m.type === "KeepLease"));
});

test("a picture that never came counts as stale", () => {
  const d = driver();
  d.inputs.keyboard.press("KeyW");
  assert.ok(run(d, 0, 500, { attentive: true, frameAgeMs: Infinity }).every((m) => m.type === "KeepLease"));
});

test("the gripper keeps its last command through every other one", () => {
  const d = driver(true);
  d.inputs.keyboard.press("KeyW");
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
  d.inputs.keyboard.press("KeyW");
  assert.deepEqual(d.step(0, LOOKING)[0].action.slice(1), [2, 0, 0]);
  d.inputs.keyboard.lift("KeyW");
  d.inputs.keyboard.press("KeyF");
  assert.ok(Math.abs(d.step(50, LOOKING)[0].action[2] + 0.1) < 1e-9);
});

test("a key that was down before the lease does not move the robot", () => {
  const d = new Driver(ROBOT);
  d.inputs.keyboard.press("KeyW");
  d.grant(7, false);
  assert.ok(run(d, 0, 500, LOOKING).every((m) => m.type === "KeepLease"));
});

test("a link that becomes slow slows the robot down and a late one locks it", () => {
  const d = driver();
  d.inputs.keyboard.press("KeyW");
  const speed = (latencyMs, now) => d.step(now, { ...LOOKING, latencyMs })[0].action[1];
  assert.equal(speed(149, 0), 0.5);
  assert.ok(Math.abs(speed(225, 50) - 0.5 * 0.625) < 1e-9);
  assert.ok(Math.abs(speed(300, 100) - 0.5 * 0.25) < 1e-9);
  const late = { ...LOOKING, latencyMs: 301 };
  assert.equal(lockout(late), "late");
  const sent = run(d, 150, 1150, late);
  assert.ok(sent.length >= 3 && sent.every((m) => m.type === "KeepLease" && m.t_client_ms > 0));
  assert.ok(sent.length <= 1000 / PROBE_MS);
  // The key is still down: what was meant a moment ago is not meant now.
  assert.ok(run(d, 1150, 1650, LOOKING).every((m) => m.type === "KeepLease"));
});

test("an unknown round trip locks nobody out", () => {
  assert.equal(lockout({ frameAgeMs: 10, latencyMs: NaN }), "");
  assert.equal(lockout({ frameAgeMs: NaN, latencyMs: 10 }), "stale");
});
