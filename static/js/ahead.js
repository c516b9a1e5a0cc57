// The episodes that come next at the labelling desk: known, opened, and their first pictures decoded.
import { ask } from "./pictures.js";

// Episodes opened ahead, and asked for ahead of those.
const OPEN = 3;
const KNOWN = 8;
// Episodes named in one question as not wanted.
const MOST_HELD = 100;

export class Ahead {
  /**
   * @param {{queue: string, recordingOf: (uid: string) => Promise<object>, place: Element,
   *   held: () => string[], failed: (error: Error) => void, refilled: () => void}} parts
   *   where to ask, how an episode is opened, where the next ones are drawn, what must not come
   *   again, and who hears of a refusal and of every answer
   */
  constructor(parts) {
    Object.assign(this, parts);
    this.entries = [];
    // Episodes that wait and are not known here; null before the first answer.
    this.waiting = null;
    this.asking = null;
  }

  get length() {
    return this.entries.length;
  }

  /** @returns {object|null} the next episode */
  shift() {
    return this.entries.shift() ?? null;
  }

  unshift(entry) {
    this.entries.unshift(entry);
  }

  /** Ask for more, unless enough are known or they were just asked for. */
  refill() {
    if (this.length >= KNOWN / 2 || this.asking) return this.asking;
    const own = () => this.entries.map((entry) => entry.uid);
    const held = [...new Set([...own(), ...this.held()])];
    this.asking = ask(`${this.queue}?n=${KNOWN}&without=${held.slice(-MOST_HELD).join(",")}`)
      .then((answer) => answer.json())
      .then((found) => {
        const known = new Set([...held, ...own()]);
        const added = found.episodes.filter((entry) => !known.has(entry.uid));
        this.waiting = Math.max(0, found.waiting - added.length);
        this.entries.push(...added);
      })
      .catch(this.failed)
      .finally(() => {
        this.asking = null;
        this.openNext();
        this.refilled();
      });
    return this.asking;
  }

  /** @returns {Promise<object>} the entry's recording, with its first pictures */
  open(entry) {
    entry.opening ??= this.recordingOf(entry.uid).then(async (recording) => {
      await recording.first();
      entry.recording = recording;
      this.paint();
      return recording;
    });
    // Whoever shows it hears of it; until then it is nobody's error.
    entry.opening.catch(() => {});
    return entry.opening;
  }

  async openNext() {
    // One after another: what comes next comes first.
    for (const entry of this.entries.slice(0, OPEN)) await this.open(entry).catch(() => {});
  }

  paint() {
    const shown = this.entries.slice(0, OPEN).filter((entry) => entry.recording);
    this.place.replaceChildren(...shown.map(({ recording }) => thumbnail(recording)));
  }
}

function thumbnail(recording) {
  const item = document.createElement("li");
  const [camera] = recording.pictures.cameras;
  const bitmap = camera && recording.pictures.at(camera, 0);
  if (bitmap) {
    const canvas = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    item.append(canvas);
  }
  item.append(Object.assign(document.createElement("small"), { textContent: recording.replay.task }));
  return item;
}
