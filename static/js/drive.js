// What the keys of a driver mean, and when commands go out. Pure: time and attention are arguments.
//
// Commands go out at 20 Hz while a key is down, one command of zero motion follows the last key,
// and then only the lease is kept. When the driver looks away (blur, hidden tab) one zero command
// goes out and the lease is kept no more: the robot's own dead-man and the lease's end do the rest.
// On a stale picture nothing but the lease goes out, and keys must be pressed anew afterwards.

export const PERIOD_MS = 50;
export const KEEP_MS = 1000;
export const STALE_VIDEO_MS = 500;
// A gripper takes this long to open or close; its command is repeated meanwhile.
export const GRIPPER_MS = 600;

/** Key → direction in the camera's frame: right, forward, up. */
export const KEYS = {
  KeyW: [0, 1, 0],
  KeyS: [0, -1, 0],
  KeyA: [-1, 0, 0],
  KeyD: [1, 0, 0],
  KeyR: [0, 0, 1],
  KeyF: [0, 0, -1],
};

/**
 * Motion in the robot's frame from the keys held in the camera's.
 * @param {Iterable<string>} keys codes of KeyboardEvent
 * @param {number} speed in [0, 1], share of the robot's limit
 * @param {number} headingRad where the camera looks, counterclockwise from the robot's +x
 * @returns {[number, number, number]} x, y, z, each in [-1, 1], at most `speed` long
 */
export function motion(keys, speed, headingRad) {
  let [right, forward, up] = [0, 0, 0];
  for (const key of keys) {
    const direction = KEYS[key];
    if (!direction) continue;
    right += direction[0];
    forward += direction[1];
    up += direction[2];
  }
  const length = Math.hypot(right, forward, up);
  if (length === 0) return [0, 0, 0];
  const scale = Math.min(1, Math.max(0, speed)) / length;
  const [cos, sin] = [Math.cos(headingRad), Math.sin(headingRad)];
  return [scale * (forward * cos + right * sin), scale * (forward * sin - right * cos), scale * up];
}

/** Turns keys into the messages of one lease. */
export class Driver {
  /**
   * @param {{robot: string, actionNames: string[], low: number[], high: number[], headingRad: number}} robot
   */
  constructor({ robot, actionNames, low, high, headingRad }) {
    Object.assign(this, { robot, actionNames, low, high, headingRad });
    this.keys = new Set();
    this.speed = 0.6;
    this.gripperClosed = false;
    this.release();
  }

  /** Take the lease of `epoch`. @param {number} epoch @param {boolean} gripperClosed as the robot has it */
  grant(epoch, gripperClosed) {
    this.epoch = epoch;
    this.seq = 0;
    this.gripperClosed = gripperClosed;
  }

  /** Hold no lease. */
  release() {
    this.epoch = null;
    this.seq = 0;
    this.keys.clear();
    this.moving = false;
    this.sentMs = -Infinity;
    this.keptMs = -Infinity;
    this.gripperUntilMs = -Infinity;
    this.attentive = true;
  }

  /** @param {string} code @returns {boolean} whether it is a driving key */
  press(code) {
    if (!(code in KEYS)) return false;
    this.keys.add(code);
    return true;
  }

  /** @param {string} code @returns {boolean} */
  lift(code) {
    return this.keys.delete(code);
  }

  /** Open a closed gripper, close an open one. @param {number} nowMs */
  toggleGripper(nowMs) {
    this.gripperClosed = !this.gripperClosed;
    this.gripperUntilMs = nowMs + GRIPPER_MS;
  }

  /** One action in the robot's order; the gripper goes to one of its limits. */
  action(keys) {
    const move = motion(keys, this.speed, this.headingRad);
    const axes = ["x", "y", "z"];
    return this.actionNames.map((name, i) => {
      if (name.includes("gripper")) return this.gripperClosed ? this.high[i] : this.low[i];
      const axis = axes.indexOf(name);
      if (axis < 0) return Math.min(this.high[i], Math.max(this.low[i], 0));
      const value = move[axis];
      return value >= 0 ? value * this.high[i] : -value * this.low[i];
    });
  }

  /**
   * What to send now.
   * @param {number} nowMs monotonic
   * @param {{attentive: boolean, frameAgeMs: number}} seen whether the driver looks at this page, and
   *   the age of the newest frame shown
   * @returns {object[]} messages, none most of the time
   */
  step(nowMs, { attentive, frameAgeMs }) {
    if (this.epoch === null) return [];
    const left = this.attentive && !attentive;
    this.attentive = attentive;
    const locked = frameAgeMs > STALE_VIDEO_MS;
    if (!attentive || locked) {
      this.keys.clear();
      this.gripperUntilMs = -Infinity;
      const ended = this.moving || left;
      this.moving = false;
      // Somebody who looks at a frozen picture is still there; somebody who left is not. On a
      // frozen picture even zero motion would be refused: the robot's dead-man ends the motion.
      if (attentive) return this.keep(nowMs);
      return ended && !locked ? [this.drive([], nowMs, frameAgeMs)] : [];
    }
    const active = this.keys.size > 0 || nowMs < this.gripperUntilMs;
    if (active) {
      if (nowMs - this.sentMs < PERIOD_MS - 5) return [];
      this.moving = true;
      return [this.drive(this.keys, nowMs, frameAgeMs)];
    }
    if (this.moving) {
      this.moving = false;
      return [this.drive([], nowMs, frameAgeMs)];
    }
    return this.keep(nowMs);
  }

  drive(keys, nowMs, frameAgeMs) {
    this.sentMs = nowMs;
    this.keptMs = nowMs;
    return {
      type: "Drive",
      robot: this.robot,
      epoch: this.epoch,
      seq: this.seq++,
      action: this.action(keys),
      t_client_ms: nowMs,
      frame_age_ms: Number.isFinite(frameAgeMs) ? frameAgeMs : 1e9,
    };
  }

  keep(nowMs) {
    if (nowMs - this.keptMs < KEEP_MS) return [];
    this.keptMs = nowMs;
    return [{ type: "KeepLease", robot: this.robot, epoch: this.epoch }];
  }
}
