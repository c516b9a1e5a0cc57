// The hands on the robot page: which keys act, when the driver counts as looking, and the 20 Hz clock.
import { PERIOD_MS } from "./drive.js";
import { bindDrag, PadReader } from "./hands.js";
import { KEYS } from "./inputs.js";
import { typing } from "./keys.js";
import { gettext, pgettext } from "./language.js";
import { write } from "./paint.js";
import { faster, preferences, SPEEDS } from "./preferences.js";

const SHORTCUTS = { KeyT: "takeover", KeyY: "success", KeyN: "failure", KeyX: "abort", KeyC: "frame", KeyM: "mirror", KeyV: "camera", KeyZ: "zoom", KeyB: "enlarge", KeyG: "handover" };
// By what is printed on the key: where it is differs between keyboards.
const SIGNS = { "+": "faster", "=": "faster", "-": "slower", "?": "keymap" };
const REMEMBERED = "sop.driving";

export class Controls {
  /**
   * @param {{page: HTMLElement, driver: import("./drive.js").Driver,
   *   actions: Record<string, () => void>, seen: () => {frameAgeMs: number, latencyMs: number},
   *   send: (message: object) => void, say: (text: string, kind?: string) => void,
   *   frameChanged: () => void}} parts
   */
  constructor({ page, driver, actions, seen, send, say, frameChanged }) {
    Object.assign(this, { page, driver, seen, send, frameChanged });
    this.actions = {
      ...actions,
      faster: () => this.prefer({ speed: faster(this.liked.speed, 1) }),
      slower: () => this.prefer({ speed: faster(this.liked.speed, -1) }),
      frame: () => this.prefer({ frame: this.liked.frame === "camera" ? "robot" : "camera" }),
      mirror: () => this.prefer({ mirrored: !this.liked.mirrored }),
      keymap: () => (this.keymap.open = !this.keymap.open),
      gripper: () => this.toggleGripper(),
    };
    this.keymap = page.querySelector("[data-keymap]");
    this.buttons = new Map([...page.querySelectorAll("[data-key]")].map((b) => [b.dataset.key, b]));
    this.pads = new PadReader(driver.inputs.gamepad, { say, gripper: () => this.toggleGripper(), takeover: () => actions.takeover() });
    const picture = page.querySelector(".cam.main");
    if (picture) bindDrag(picture, driver.inputs.drag, { driving: () => driver.epoch !== null, changed: () => this.tick() });
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
    this.bindPreferences();
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

  // ---- how this person drives -------------------------------------------------------------------

  bindPreferences() {
    const fields = (name) => this.page.querySelector(`[data-${name}]`);
    this.fields = { speed: fields("speed"), word: fields("speed-word"), frame: fields("frame"), mirrored: fields("mirrored") };
    Object.assign(this.fields.speed, { min: SPEEDS.low, max: SPEEDS.high, step: SPEEDS.step });
    let remembered = null;
    try {
      remembered = localStorage.getItem(REMEMBERED);
    } catch {
      // A browser that keeps nothing: every visit starts with the defaults.
    }
    this.prefer(preferences(remembered));
    this.fields.speed.addEventListener("input", () => this.prefer({ speed: Number(this.fields.speed.value) }));
    this.fields.frame.addEventListener("change", () => {
      this.prefer({ frame: this.fields.frame.value });
      // A list that keeps the focus would keep the driving keys, too.
      this.fields.frame.blur();
    });
    this.fields.mirrored.addEventListener("change", () => this.prefer({ mirrored: this.fields.mirrored.checked }));
  }

  /** Drive so from now on, and at the next visit. */
  prefer(change) {
    this.liked = preferences(JSON.stringify({ ...this.liked, ...change }));
    const { speed, frame, mirrored } = this.liked;
    Object.assign(this.driver, { speed, mirrored });
    this.fields.speed.value = String(speed);
    write(this.fields.word, speed.toFixed(1));
    this.fields.frame.value = frame;
    this.fields.mirrored.checked = mirrored;
    try {
      localStorage.setItem(REMEMBERED, JSON.stringify(this.liked));
    } catch {
      // As above.
    }
    this.frameChanged();
  }

  // ---- keys ---------------------------------------------------------------------------------------

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
    const act = SHORTCUTS[event.code] ?? SIGNS[event.key];
    if (act) {
      if (!event.repeat || act === "faster" || act === "slower") this.actions[act]();
      return;
    }
    if (Object.hasOwn(KEYS, event.code) && !event.repeat) this.press(event.code);
  }

  press(code) {
    if (this.driver.epoch === null) return;
    this.driver.inputs.keyboard.press(code);
    this.tick();
  }

  keyUp(code) {
    if (this.driver.inputs.keyboard.lift(code)) this.tick();
  }

  toggleGripper() {
    if (this.driver.epoch === null) return;
    this.driver.toggleGripper(performance.now());
    this.showGripper();
    this.tick();
  }

  showGripper() {
    write(this.page.querySelector("[data-gripper-word]"), this.driver.gripperClosed ? pgettext("gripper", "closed") : pgettext("gripper", "open"));
  }

  // ---- the clock ------------------------------------------------------------------------------------

  /** One turn of the 20 Hz clock; also called at once when a key or the attention changes. */
  tick(attentive = this.attentive()) {
    const { inputs } = this.driver;
    // A page that nobody looks at must not take over because somebody picks up a gamepad.
    if (attentive) this.pads.poll(this.driver.epoch !== null);
    const messages = this.driver.step(performance.now(), { attentive, ...this.seen() });
    for (const message of messages) this.send(message);
    for (const [key, button] of this.buttons) {
      const pressed = String(inputs.keyboard.keys.has(key));
      if (button.ariaPressed !== pressed) button.ariaPressed = pressed;
    }
    for (const [name, device] of Object.entries({ keyboard: inputs.keyboard, gamepad: inputs.gamepad, pointer: inputs.drag })) {
      const slot = this.page.querySelector(`[data-device=${name}]`);
      slot.dataset.active = String(device.read() !== null);
      if (name !== "gamepad") continue;
      slot.dataset.present = String(device.present);
      write(slot, device.present ? gettext("Gamepad") : gettext("No gamepad"));
    }
  }
}
