// The pictures of one robot: which is large, how far it is zoomed in, and how old each is.
import { STALE_VIDEO_MS } from "./drive.js";
import { fill, gettext } from "./language.js";
import { write } from "./paint.js";
import { age } from "./words.js";

export const ZOOM_MOST = 4;
const ZOOMS = [1, 2, 3];
// A robot's own axes, where no camera gives a sense of direction: forward is +y.
const OWN_AXES_RAD = Math.PI / 2;

/**
 * Zoom so that the point under the pointer stays where it is and the picture still fills its frame.
 * @param {{scale: number, x: number, y: number}} zoom x and y are how far the picture's corner moved, in
 *   widths and heights of the frame, never positive
 * @param {number} scale wanted @param {number} px @param {number} py the pointer, 0 to 1 in the frame
 * @returns {{scale: number, x: number, y: number}}
 */
export function zoomTo(zoom, scale, px, py) {
  const next = Math.min(ZOOM_MOST, Math.max(1, scale));
  const kept = (offset, p) => Math.min(0, Math.max(1 - next, p - ((p - offset) / zoom.scale) * next));
  return { scale: next, x: kept(zoom.x, px), y: kept(zoom.y, py) };
}

export class Cameras {
  /**
   * @param {{page: HTMLElement, spec: object, robot: string, feeds: import("./feed.js").Feeds, changed: () => void}} parts
   */
  constructor({ page, spec, robot, feeds, changed }) {
    Object.assign(this, { page, spec, changed });
    /** @type {Map<string, HTMLElement>} camera → its picture with what stands on it */
    this.views = new Map([...page.querySelectorAll("[data-camera]")].map((view) => [view.dataset.camera, view]));
    this.ages = new Map();
    for (const [name, view] of this.views) this.ages.set(name, feeds.show(robot, name, "full", view.querySelector("canvas")));
    this.slot = page.querySelector(".cam.main");
    this.zoom = { scale: 1, x: 0, y: 0 };
    this.pointer = [0.5, 0.5];
    for (const side of page.querySelectorAll(".side .cam")) {
      side.addEventListener("click", () => this.show(side.querySelector("[data-camera]").dataset.camera));
    }
    this.slot?.addEventListener("pointermove", (event) => (this.pointer = this.within(event)));
    this.slot?.addEventListener("wheel", (event) => {
      // With Ctrl, as pinches come too: a page that zooms at every turn of the wheel cannot be scrolled.
      if (!event.ctrlKey) return;
      event.preventDefault();
      this.setZoom(zoomTo(this.zoom, this.zoom.scale * Math.exp(-event.deltaY / 300), ...this.within(event)));
    }, { passive: false });
  }

  within({ clientX, clientY }) {
    const box = this.slot.getBoundingClientRect();
    return [(clientX - box.left) / box.width, (clientY - box.top) / box.height];
  }

  /** The view in the large frame. @returns {HTMLElement|null} */
  get main() {
    return this.slot?.querySelector("[data-camera]") ?? null;
  }

  /** What the robot says of the large picture's camera. @returns {object|undefined} */
  get camera() {
    return this.spec.cameras.find(({ name }) => name === this.main?.dataset.camera);
  }

  /** How old the picture is that people drive by. */
  ageMs(nowMs) {
    return this.ages.get(this.main?.dataset.camera)?.at(nowMs) ?? Infinity;
  }

  /**
   * Let a driver's forward be where the large picture looks, or along the robot's axes, and say so.
   * @param {import("./drive.js").Driver} driver @param {"camera"|"robot"} frame
   */
  direct(driver, frame) {
    const heading = frame === "robot" ? null : this.camera?.heading_rad;
    driver.headingRad = heading ?? OWN_AXES_RAD;
    const hint = this.page.querySelector("[data-hint]");
    if (!hint) return;
    const seen = driver.mirrored ? gettext("W moves away from this camera, A to its right") : gettext("W moves away from this camera, A to its left");
    const axis = driver.mirrored ? "+x" : "−x";
    write(hint, heading != null ? seen : fill(gettext("W moves along the robot's +y axis, A along %(axis)s"), { axis }));
  }

  /** Put a camera into the large frame, and the one there into its place. */
  show(name) {
    const [view, main] = [this.views.get(name), this.main];
    if (!view || view === main) return;
    this.setZoom({ scale: 1, x: 0, y: 0 });
    const side = view.parentElement;
    side.prepend(main);
    this.slot.prepend(view);
    this.changed();
  }

  next() {
    const names = [...this.views.keys()];
    this.show(names[(names.indexOf(this.main?.dataset.camera) + 1) % names.length]);
  }

  /** The next step of the zoom, about where the pointer was last. */
  magnify() {
    const next = ZOOMS.find((scale) => scale > this.zoom.scale + 0.01) ?? 1;
    this.setZoom(zoomTo(this.zoom, next, ...this.pointer));
  }

  setZoom(zoom) {
    this.zoom = zoom;
    const stage = this.main?.querySelector(".stage");
    if (!stage) return;
    stage.style.transform = zoom.scale === 1 ? "" : `translate(${zoom.x * 100}%, ${zoom.y * 100}%) scale(${zoom.scale})`;
    write(this.page.querySelector("[data-zoom]"), `${zoom.scale.toFixed(zoom.scale % 1 ? 1 : 0)}×`);
  }

  /** Give the large picture all the room there is, or take it back. */
  enlarge() {
    const large = this.page.classList.toggle("large");
    this.page.querySelector("[data-act=enlarge]").ariaPressed = String(large);
  }

  /** Write the age on every picture, and how far apart in time they are. */
  tell(nowMs) {
    const taken = [];
    for (const [name, view] of this.views) {
      const frame = this.ages.get(name);
      const ms = frame.at(nowMs);
      const slot = view.querySelector("[data-age]");
      write(slot, ms === Infinity ? gettext("no frame") : fill(gettext("frame %(age)s"), { age: age(ms) }));
      slot.dataset.stale = String(ms > STALE_VIDEO_MS);
      if (frame.takenWallMs) taken.push(frame.takenWallMs);
    }
    const apart = this.page.querySelector("[data-apart]");
    if (apart) write(apart, taken.length > 1 ? fill(gettext("pictures %(age)s apart"), { age: age(Math.max(...taken) - Math.min(...taken)) }) : "");
  }
}
