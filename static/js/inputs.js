// What a driver's hands say: keyboard, gamepad, drag on the picture. Pure: no DOM, no clock.
//
// Every device has the same small interface:
//   read()     → null, or the wish [right, forward, up] in the picture's frame, each in [-1, 1].
//                null means that its dead-man is open: nobody asks for anything.
//   neutral()  the driver looked away or was locked out: the dead-man must be closed anew.

/** Key → wish: right, forward, up. */
export const KEYS = {
  KeyW: [0, 1, 0],
  KeyS: [0, -1, 0],
  KeyA: [-1, 0, 0],
  KeyD: [1, 0, 0],
  KeyR: [0, 0, 1],
  KeyF: [0, 0, -1],
};

/** A wish no longer than one. @param {number[]} wish @returns {number[]} */
function atMostOne(wish) {
  const length = Math.hypot(...wish);
  return length > 1 ? wish.map((value) => value / length) : wish;
}

/** Keys, on the keyboard or on screen: one that is down is the dead-man and the direction. */
export class Keyboard {
  constructor() {
    this.keys = new Set();
  }

  /** @param {string} code of a KeyboardEvent @returns {boolean} whether it is a driving key */
  press(code) {
    if (!Object.hasOwn(KEYS, code)) return false;
    this.keys.add(code);
    return true;
  }

  /** @param {string} code @returns {boolean} whether it was down */
  lift(code) {
    return this.keys.delete(code);
  }

  read() {
    if (this.keys.size === 0) return null;
    const wish = [0, 0, 0];
    for (const key of this.keys) KEYS[key].forEach((value, i) => (wish[i] += value));
    return atMostOne(wish);
  }

  neutral() {
    this.keys.clear();
  }
}

// A stick that nobody touches rests within this of its middle.
export const STICK_REST = 0.15;
/** Buttons of a standard gamepad (W3C Gamepad, "standard" mapping). */
export const PAD_BUTTONS = { gripper: 0, deadMan: [4, 5], takeover: 9 };

/** A stick's deflection beyond its rest, from 0 to ±1. Rubbish is rest. */
function deflection(value) {
  if (!Number.isFinite(value)) return 0;
  const beyond = (Math.abs(value) - STICK_REST) / (1 - STICK_REST);
  return beyond <= 0 ? 0 : Math.sign(value) * Math.min(1, beyond);
}

/** A gamepad: a shoulder button held is the dead-man, sticks give the direction. */
export class Gamepad {
  constructor() {
    this.forget();
  }

  forget() {
    this.present = false;
    this.held = false;
    // Whether the dead-man was seen open since the driver was last locked out.
    this.armed = false;
    this.wish = [0, 0, 0];
    this.down = { gripper: true, takeover: true };
  }

  /**
   * Take what the browser says of the gamepad now.
   * @param {{connected?: boolean, axes: readonly number[], buttons: readonly {pressed: boolean}[]}|null} pad
   * @returns {{lost: boolean, found: boolean, gripper: boolean, takeover: boolean}} what just happened
   */
  sense(pad) {
    if (!pad || pad.connected === false) {
      const lost = this.present;
      this.forget();
      return { lost, found: false, gripper: false, takeover: false };
    }
    const found = !this.present;
    this.present = true;
    const pressed = (index) => pad.buttons[index]?.pressed === true;
    const closed = PAD_BUTTONS.deadMan.some(pressed);
    if (!closed) this.armed = true;
    this.held = closed && this.armed;
    const [x, y, , up] = [0, 1, 2, 3].map((i) => deflection(pad.axes[i]));
    // Up on a stick is negative.
    this.wish = atMostOne([x || 0, -y || 0, -up || 0]);
    const once = (name) => {
      const now = pressed(PAD_BUTTONS[name]);
      const fresh = now && !this.down[name];
      this.down[name] = now;
      return fresh;
    };
    return { lost: false, found, gripper: once("gripper") && this.held, takeover: once("takeover") };
  }

  read() {
    return this.present && this.held ? this.wish : null;
  }

  neutral() {
    this.held = false;
    this.armed = false;
  }
}

// A drag of this share of the picture's width is full speed; within the smaller share it is none.
export const DRAG_FULL = 0.25;
export const DRAG_REST = 0.02;

/** A drag on the picture: pressed is the dead-man, the way from where it began is the direction. */
export class Drag {
  constructor() {
    this.neutral();
  }

  /** @param {number} x @param {number} y @param {number} width of the picture, all in one unit */
  start(x, y, width) {
    this.from = [x, y];
    this.width = width;
    this.wish = [0, 0, 0];
  }

  /** @param {number} x @param {number} y @param {boolean} vertical up and down instead of forward and back */
  move(x, y, vertical) {
    if (!this.from || !(this.width > 0)) return;
    const [dx, dy] = [(x - this.from[0]) / this.width, (this.from[1] - y) / this.width];
    const length = Math.hypot(dx, dy);
    if (!(length > DRAG_REST)) {
      this.wish = [0, 0, 0];
      return;
    }
    const scale = Math.min(1, (length - DRAG_REST) / (DRAG_FULL - DRAG_REST)) / length;
    this.wish = [dx * scale, vertical ? 0 : dy * scale, vertical ? dy * scale : 0];
  }

  end() {
    this.neutral();
  }

  read() {
    return this.from ? this.wish : null;
  }

  neutral() {
    this.from = null;
    this.width = 0;
    this.wish = [0, 0, 0];
  }
}

/** All devices of one driver; what several say at once adds up, to no more than one. */
export class Inputs {
  constructor() {
    this.keyboard = new Keyboard();
    this.gamepad = new Gamepad();
    this.drag = new Drag();
    this.devices = [this.keyboard, this.gamepad, this.drag];
  }

  /** @returns {number[]|null} the wish of all devices; null while every dead-man is open */
  read() {
    const wishes = this.devices.map((device) => device.read()).filter((wish) => wish !== null);
    if (wishes.length === 0) return null;
    return atMostOne([0, 1, 2].map((i) => wishes.reduce((sum, wish) => sum + wish[i], 0)));
  }

  neutral() {
    for (const device of this.devices) device.neutral();
  }
}

/**
 * The gamepad to use: the one in use while it is there, else the first whose buttons are known.
 * @param {readonly (object|null)[]} pads from navigator.getGamepads() @param {number|null} index in use
 * @returns {object|null}
 */
export function pickPad(pads, index) {
  if (index !== null) return pads.find((pad) => pad?.index === index && pad.connected) ?? null;
  return pads.find((pad) => pad?.connected && pad.mapping === "standard") ?? null;
}
