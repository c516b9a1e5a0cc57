// Keys and buttons of the robot page: which act, when the driver counts as looking, and the 20 Hz clock.
import { KEYS, PERIOD_MS } from "./drive.js";
import { write } from "./paint.js";

const SHORTCUTS = { KeyT: "takeover", KeyY: "success", KeyN: "failure", KeyX: "abort" };

/** Whether a key pressed here is meant for a field, not for the robot. */
function typing(target) {
  return target.matches?.("input:not([type=range]), textarea, select, [contenteditable]") ?? false;
}

export class Controls {
  /**
   * @param {{page: HTMLElement, driver: import("./drive.js").Driver,
   *   actions: Record<string, () => void>, frameAgeMs: () => number,
   *   send: (message: object) => boolean}} parts
   */
  constructor({ page, driver, actions, frameAgeMs, send }) {
    Object.assign(this, { page, driver, actions, frameAgeMs, send });
    this.buttons = new Map([...page.querySelectorAll("[data-key]")].map((b) => [b.dataset.key, b]));
    document.addEventListener("keydown", (event) => this.keyDown(event));
    document.addEventListener("keyup", (event) => {
      // Space must not press the button that happens to have the focus: it could hand back.
      if (event.code === "Space" && this.driver.epoch !== null) event.preventDefault();
      this.keyUp(event.code);
    });
    window.addEventListener("blur", () => this.tick());
    document.addEventListener("visibilitychange", () => this.tick());
    window.addEventListener("pagehide", () => this.tick(false));
    for (const [key, button] of this.buttons) this.bindPointer(key, button);
    page.addEventListener("click", (event) => {
      const button = event.target.closest("[data-act]");
      if (button && !button.disabled) this.actions[button.dataset.act]();
    });
    page.querySelector("[data-gripper]").addEventListener("click", () => this.toggleGripper());
    const speed = page.querySelector("[data-speed]");
    const setSpeed = () => {
      driver.speed = Number(speed.value);
      write(page.querySelector("[data-speed-word]"), driver.speed.toFixed(1));
    };
    speed.addEventListener("input", setSpeed);
    setSpeed();
    // A hidden tab's timers are slowed to one a second; it does not drive anyway.
    setInterval(() => this.tick(), PERIOD_MS);
  }

  /** Holding a button on screen is holding its key: for touch, and for people without a keyboard. */
  bindPointer(key, button) {
    button.addEventListener("pointerdown", (event) => {
      button.setPointerCapture(event.pointerId);
      this.press(key);
    });
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
      button.addEventListener(name, () => this.keyUp(key));
    }
    // Enter on a focused button has no key-up of its own to end it: one short step instead.
    button.addEventListener("click", (event) => {
      if (event.detail !== 0) return;
      this.press(key);
      setTimeout(() => this.keyUp(key), 4 * PERIOD_MS);
    });
  }

  attentive() {
    return document.visibilityState === "visible" && document.hasFocus();
  }

  keyDown(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    if (event.code === "Space" && this.driver.epoch !== null) {
      event.preventDefault();
      if (!event.repeat) this.toggleGripper();
      return;
    }
    if (event.code in SHORTCUTS) {
      if (!event.repeat) this.actions[SHORTCUTS[event.code]]();
      return;
    }
    if (event.code in KEYS && !event.repeat) this.press(event.code);
  }

  press(code) {
    if (this.driver.epoch === null) return;
    this.driver.press(code);
    this.tick();
  }

  keyUp(code) {
    if (this.driver.lift(code)) this.tick();
  }

  toggleGripper() {
    if (this.driver.epoch === null) return;
    this.driver.toggleGripper(performance.now());
    this.showGripper();
    this.tick();
  }

  showGripper() {
    write(this.page.querySelector("[data-gripper-word]"), this.driver.gripperClosed ? "closed" : "open");
  }

  /** One turn of the 20 Hz clock; also called at once when a key or the attention changes. */
  tick(attentive = this.attentive()) {
    const messages = this.driver.step(performance.now(), { attentive, frameAgeMs: this.frameAgeMs() });
    for (const message of messages) this.send(message);
    for (const [key, button] of this.buttons) {
      const pressed = String(this.driver.keys.has(key));
      if (button.ariaPressed !== pressed) button.ariaPressed = pressed;
    }
  }
}
