// Where a replay is, and what it needs next. Pure: time is an argument.

export const PACK_STEPS = 64;
export const SPEEDS = [0.25, 0.5, 1, 2, 4, 8];

/** A place in an episode that moves by itself while it plays. */
export class Playhead {
  /** @param {number} steps @param {number} periodS seconds of one step at speed 1 */
  constructor(steps, periodS) {
    this.steps = steps;
    this.periodS = periodS;
    this.speed = 1;
    this.step = 0;
    this.playing = false;
    this.since = { ms: 0, step: 0 };
  }

  get last() {
    return Math.max(0, this.steps - 1);
  }

  /** @param {number} step @param {number} nowMs */
  seek(step, nowMs = 0) {
    this.step = Math.min(this.last, Math.max(0, Math.round(step)));
    this.since = { ms: nowMs, step: this.step };
  }

  /** Play, or pause; at the end, from the start. @param {number} nowMs */
  toggle(nowMs) {
    if (this.playing) return this.pause();
    if (this.step >= this.last) this.step = 0;
    this.playing = this.steps > 1;
    this.since = { ms: nowMs, step: this.step };
  }

  pause() {
    this.playing = false;
  }

  /** @param {-1 | 1} direction @param {number} nowMs */
  changeSpeed(direction, nowMs) {
    const at = SPEEDS.indexOf(this.speed) + direction;
    this.speed = SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, at))];
    this.since = { ms: nowMs, step: this.step };
  }

  /**
   * Move to where the time says, but not onto a step that cannot be shown yet: a replay waits for
   * its pictures, so that none is missed.
   * @param {number} nowMs @param {(step: number) => boolean} ready @returns {boolean} whether it moved
   */
  advance(nowMs, ready = () => true) {
    if (!this.playing) return false;
    const due = this.since.step + Math.floor(((nowMs - this.since.ms) / 1000 / this.periodS) * this.speed);
    let step = this.step;
    while (step < Math.min(due, this.last) && ready(step + 1)) step += 1;
    if (step < Math.min(due, this.last)) this.since = { ms: nowMs, step };
    const moved = step !== this.step;
    this.step = step;
    if (step >= this.last) this.playing = false;
    return moved;
  }
}

/** @param {number} step @returns {number} the pack that holds it */
export const packOf = (step) => Math.floor(step / PACK_STEPS);

/** The packs to fetch, the most urgent first: where one is, what comes, then the rest. */
export function wantedPacks(step, steps) {
  const count = Math.ceil(steps / PACK_STEPS);
  const here = packOf(step);
  return Array.from({ length: count }, (_, i) => (here + i) % count);
}

/**
 * Take a pack apart, see `learning/selectors/frames.py`.
 * @param {ArrayBuffer} buffer @returns {{step: number, jpeg: Uint8Array}[]}
 */
export function unpackPictures(buffer) {
  const length = new DataView(buffer).getUint32(0);
  const { steps, sizes } = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let at = 4 + length;
  return steps.map((step, i) => {
    const jpeg = new Uint8Array(buffer, at, sizes[i]);
    at += sizes[i];
    return { step, jpeg };
  });
}

/** @param {number[]} steps sorted @returns {number} the newest at or before `step`, or -1 */
export function newestAt(steps, step) {
  let [low, high] = [0, steps.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] <= step) low = middle + 1;
    else high = middle;
  }
  return low ? steps[low - 1] : -1;
}

/** Runs of equal values as `start <= i < end`. @param {any[]} values */
export function runs(values) {
  const found = [];
  values.forEach((value, i) => {
    const last = found.at(-1);
    if (last && last.value === value) last.end = i + 1;
    else found.push({ value, start: i, end: i + 1 });
  });
  return found;
}

/**
 * A series as an SVG path, one unit of x a step; gaps where nothing is known.
 * @param {(number | null)[]} values @param {[number, number]} range @param {number} height
 */
export function pathOf(values, [low, high], height) {
  let pen = "M";
  let path = "";
  values.forEach((value, i) => {
    if (value === null) {
      pen = "M";
      return;
    }
    const y = height - ((value - low) / (high - low)) * height;
    path += `${pen}${i + 0.5} ${Math.round(y * 100) / 100}`;
    pen = "L";
  });
  return path;
}

/** Who has control at a step. @param {{who: string, start: number, end: number}[]} spans */
export const controllerAt = (spans, step) => spans.find((s) => s.start <= step && step < s.end)?.who ?? "nobody";

const MEANINGS = {
  Space: "play", KeyK: "play", ArrowLeft: "back", KeyJ: "back", ArrowRight: "on", KeyL: "on",
  Comma: "slower", Period: "faster", KeyG: "suggestion", Home: "start", End: "end",
};

/**
 * What a key asks of a replay; null for the rest, and while one writes or a button has the focus.
 * @param {{code: string, shiftKey: boolean, ctrlKey: boolean, metaKey: boolean, altKey: boolean}} event
 * @param {{tag: string, type?: string}} focus
 */
export function meaningOf(event, focus = { tag: "" }) {
  if (event.ctrlKey || event.metaKey || event.altKey) return null;
  if (["TEXTAREA", "SELECT"].includes(focus.tag)) return null;
  if (focus.tag === "INPUT" && !["range", "checkbox", "radio"].includes(focus.type)) return null;
  if (event.code === "Space" && ["BUTTON", "A", "SUMMARY", "INPUT"].includes(focus.tag) && focus.type !== "range") return null;
  return MEANINGS[event.code] ?? null;
}
