// The devices of inputs.js on a real page: gamepads that the browser knows, drags on the main picture.
import { pickPad } from "./inputs.js";
import { gettext } from "./language.js";

/** Reads the gamepad once a tick; the browser has no events for sticks. */
export class PadReader {
  /** @param {import("./inputs.js").Gamepad} device @param {{say: (text: string, kind?: string) => void, gripper: () => void, takeover: () => void}} then */
  constructor(device, then) {
    Object.assign(this, { device, then });
    this.index = null;
    window.addEventListener("gamepadconnected", ({ gamepad }) => {
      if (gamepad.mapping !== "standard") then.say(gettext("This gamepad's buttons are not known to the browser: it cannot drive."), "bad");
    });
  }

  /** @param {boolean} driving whether this page holds the robot */
  poll(driving) {
    const pads = navigator.getGamepads ? [...navigator.getGamepads()] : [];
    const pad = pickPad(pads, this.index);
    const { lost, found, gripper, takeover } = this.device.sense(pad);
    this.index = pad ? pad.index : null;
    if (lost) this.then.say(driving ? gettext("Gamepad lost: the robot stands still.") : gettext("Gamepad lost."), driving ? "bad" : "");
    if (found) this.then.say(gettext("Gamepad found: hold a shoulder button to move."));
    if (gripper) this.then.gripper();
    if (takeover) this.then.takeover();
  }
}

/**
 * Let a drag on the large picture drive.
 * @param {HTMLElement} cam @param {import("./inputs.js").Drag} device
 * @param {{driving: () => boolean, changed: () => void}} page
 */
export function bindDrag(cam, device, { driving, changed }) {
  let pointer = null;
  cam.addEventListener("pointerdown", (event) => {
    if (pointer !== null || event.button !== 0 || !driving()) return;
    if (event.target.closest("button")) return;
    event.preventDefault();
    pointer = event.pointerId;
    cam.setPointerCapture(pointer);
    device.start(event.clientX, event.clientY, cam.clientWidth);
    changed();
  });
  cam.addEventListener("pointermove", (event) => {
    if (event.pointerId === pointer) device.move(event.clientX, event.clientY, event.shiftKey);
  });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
    cam.addEventListener(name, (event) => {
      if (event.pointerId !== pointer) return;
      pointer = null;
      device.end();
      changed();
    });
  }
}
