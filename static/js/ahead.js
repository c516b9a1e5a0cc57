// The episodes that come next at the labelling desk: claimed, opened, and their first pictures decoded.

// Episodes opened ahead; when one is missing, as many are claimed as are known at most. Few: what
// one page holds, nobody else can judge.
const OPEN = 3;
const KNOWN = 6;
// Episodes named in one question as not wanted.
const MOST_HELD = 100;

export class Ahead {
  /**
   * @param {{sit: (asked: {hold: string[], without: string[], n: number}) => Promise<object>,
   *   recordingOf: (uid: string) => Promise<object>, place: Element, shown: () => string[],
   *   unwanted: () => string[], failed: (error: Error) => void, refilled: () => void,
   *   taken: (uids: string[]) => void}} parts
   *   how the server is asked, how an episode is opened, where the next ones are drawn, what is
   *   looked at, what must not come again, and who hears of a refusal, of every answer, and of what
   *   others have now
   */
  constructor(parts) {
    Object.assign(this, parts);
    this.entries = [];
    // Episodes that wait and are not known here, null before the first answer; those who label.
    this.waiting = null;
    this.labellers = 1;
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
    return this.length > OPEN ? this.asking : this.renew(KNOWN - this.length);
  }

  /** Say what is held here, so that nobody else gets it, and ask for `n` more. One at a time. */
  renew(n = 0) {
    if (this.asking) return this.asking;
    const held = () => [...new Set([...this.shown(), ...this.entries.map((entry) => entry.uid)])];
    const hold = held();
    const without = [...new Set(this.unwanted())].filter((uid) => !hold.includes(uid)).slice(-MOST_HELD);
    this.asking = this.sit({ hold, without, n })
      .then((found) => {
        this.drop(new Set([...found.judged, ...found.taken]));
        // Judged or skipped while the question was under way.
        const known = new Set([...held(), ...this.unwanted()]);
        this.entries.push(...found.episodes.filter((entry) => !known.has(entry.uid)));
        this.waiting = Math.max(0, found.left - held().length);
        this.labellers = found.labellers;
        if (found.taken.length) this.taken(found.taken);
      })
      .catch(this.failed)
      .finally(() => {
        this.asking = null;
        this.openNext();
        this.refilled();
      });
    return this.asking;
  }

  /** Forget what others have now; what was taken back here is judged again all the same. */
  drop(lost) {
    const gone = this.entries.filter((entry) => lost.has(entry.uid) && !entry.again);
    this.entries = this.entries.filter((entry) => !gone.includes(entry));
    gone.forEach((entry) => this.forget(entry));
  }

  /** Let go of an entry's pictures; shown again, it is opened again. */
  forget(entry) {
    entry.opening?.then((recording) => recording.close(), () => {});
    for (const part of ["opening", "recording", "thumbnail"]) delete entry[part];
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
    for (const entry of shown) entry.thumbnail ??= thumbnail(entry.recording);
    this.place.replaceChildren(...shown.map((entry) => entry.thumbnail));
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
