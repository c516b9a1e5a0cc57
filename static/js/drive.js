// What a driver's wish means to the robot, and when commands go out. Pure: time and attention are
// arguments.
//
// Commands go out at 20 Hz while a dead-man is closed (inputs.js), one command of zero motion
// follows, and then only the lease is kept. When the driver looks away (blur, hidden tab) one zero
// command goes out and the lease is kept no more: the robot's own dead-man and the lease's end do
// the rest. On a stale picture or a late link nothing but the lease goes out, and dead-men must be
// closed anew afterwards.
import { Inputs } from "./inputs.js";
import { allowedSpeed, REFUSED_MS } from "./latency.js";

export const PERIOD_MS = 50;
export const KEEP_MS = 1000;
// While a late link locks driving out, the lease is kept this often: each time measures the link.
export const PROBE_MS = 250;
export const STALE_VIDEO_MS = 500;
// A gripper takes this long to open or close; its command is repeated meanwhile.
export const GRIPPER_MS = 600;

/**
 * Motion in the robot's frame from a wish in the picture's.
 * @param {number[]} wish right, forward, up, at most one long
 * @param {number} speed in [0, 1], share of the robot's limit
 * @param {number} headingRad where the picture looks, counterclockwise from the robot's +x
 * @param {boolean} [mirrored] left and right exchanged, as in a mirror
 * @returns {[number, number, number]} x, y, z, each in [-1, 1], at most `speed` long
 */
export function motion(wish, speed, headingRad, mirrored = false) {
  const scale = Math.min(1, Math.max(0, speed));
  const [right, forward, up] = [mirrored ? -wish[0] : wish[0], wish[1], wish[2]];
  const [cos, sin] = [Math.cos(headingRad), Math.sin(headingRad)];
  return [scale * (forward * cos + right * sin), scale * (forward * sin - right * cos), scale * up];
}

/**
 * Why nobody may drive by what is seen now; empty when driving is free.
 * @param {{frameAgeMs: number, latencyMs?: number}} seen
 * @returns {""|"stale"|"late"}
 */
export function lockout({ frameAgeMs, latencyMs = NaN }) {
  if (!(frameAgeMs <= STALE_VIDEO_MS)) return "stale";
  return latencyMs > REFUSED_MS ? "late" : "";
}

/** Turns keys into the messages of one lease. */
export class Driver {
  /**
   * @param {{robot: string, actionNames: string[], low: number[], high: number[], headingRad: number}} robot
   * @param {Inputs} [inputs]
   */
  constructor({ robot, actionNames, low, high, headingRad }, inputs = new Inputs()) {
    Object.assign(this, { robot, actionNames, low, high, headingRad, inputs });
    this.speed = 0.6;
    this.mirrored = false;
    this.gripperClosed = false;
    this.release();
  }

  /** Take the lease of `epoch`. @param {number} epoch @param {boolean} gripperClosed as the robot has it */
  grant(epoch, gripperClosed) {
    this.epoch = epoch;
    this.seq = 0;
    this.gripperClosed = gripperClosed;
    // Whatever was pressed before was not meant for the robot.
    this.inputs.neutral();
  }

  /** Hold no lease. */
  release() {
    this.epoch = null;
    this.seq = 0;
    this.inputs.neutral();
    this.moving = false;
    this.sentMs = -Infinity;
    this.keptMs = -Infinity;
    this.gripperUntilMs = -Infinity;
    this.attentive = true;
  }

  /** Open a closed gripper, close an open one. @param {number} nowMs */
  toggleGripper(nowMs) {
    this.gripperClosed = !this.gripperClosed;
    this.gripperUntilMs = nowMs + GRIPPER_MS;
  }

  /** One action in the robot's order; the gripper goes to one of its limits. */
  action(wish, latencyMs) {
    const move = motion(wish, this.speed * allowedSpeed(latencyMs), this.headingRad, this.mirrored);
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
   * @param {{attentive: boolean, frameAgeMs: number, latencyMs?: number}} seen whether the driver looks
   *   at this page, the age of the newest frame shown, and the round trip of commands (NaN: unknown)
   * @returns {object[]} messages, none most of the time
   */
  step(nowMs, seen) {
    if (this.epoch === null) return [];
    const { attentive } = seen;
    const left = this.attentive && !attentive;
    this.attentive = attentive;
    const locked = lockout(seen);
    if (!attentive || locked) {
      this.inputs.neutral();
      this.gripperUntilMs = -Infinity;
      const ended = this.moving || left;
      this.moving = false;
      // Somebody who looks at a frozen picture is still there; somebody who left is not. On a
      // frozen picture even zero motion would be refused: the robot's dead-man ends the motion.
      if (attentive) return this.keep(nowMs, locked === "late" ? PROBE_MS : KEEP_MS);
      return ended && !locked ? [this.drive([0, 0, 0], nowMs, seen)] : [];
    }
    const wish = this.inputs.read();
    if (wish !== null || nowMs < this.gripperUntilMs) {
      if (nowMs - this.sentMs < PERIOD_MS - 5) return [];
      this.moving = true;
      return [this.drive(wish ?? [0, 0, 0], nowMs, seen)];
    }
    if (this.moving) {
      this.moving = false;
      return [this.drive([0, 0, 0], nowMs, seen)];
    }
    return this.keep(nowMs, KEEP_MS);
  }

  drive(wish, nowMs, { frameAgeMs, latencyMs = NaN }) {
    this.sentMs = nowMs;
    this.keptMs = nowMs;
    return {
      type: "Drive",
      robot: this.robot,
      epoch: this.epoch,
      seq: this.seq++,
      action: this.action(wish, latencyMs),
      t_client_ms: nowMs,
      frame_age_ms: Number.isFinite(frameAgeMs) ? frameAgeMs : 1e9,
    };
  }

  keep(nowMs, everyMs) {
    if (nowMs - this.keptMs < everyMs) return [];
    this.keptMs = nowMs;
    return [{ type: "KeepLease", robot: this.robot, epoch: this.epoch, t_client_ms: nowMs }];
  }
}
