// Camera frames on canvases: newest frame only, and how old it is.
//
// The server sends a frame only while it holds credit for it; we return the credit when a frame was
// drawn or was overtaken. So a slow tab lowers its own frame rate and never its own freshness.

import { decode } from "./jpeg.js";

const RETRY_MS = 1000;

/** @param {ArrayBuffer} data one binary message @returns {{header: object, jpeg: Uint8Array}} */
export function unpackFrame(data) {
  const length = new DataView(data).getUint16(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 2, length)));
  return { header, jpeg: new Uint8Array(data, 2 + length) };
}

/** The key under which a camera of a robot is watched. */
export function feedKey(robot, camera, size) {
  return `${robot}/${camera}/${size}`;
}

/** How old the newest shown frame of one feed is. Pure: time is an argument. */
export class FrameAge {
  constructor() {
    this.takenMs = NaN;
    // By the robot's own clock: what tells pictures of one robot apart in time.
    this.takenWallMs = 0;
  }

  /** @param {number} nowMs @param {number} ageMs age on arrival, from the server @param {number} [wallNs] of the robot */
  shown(nowMs, ageMs, wallNs = 0) {
    this.takenMs = nowMs - ageMs;
    this.takenWallMs = wallNs / 1e6;
  }

  /** @param {number} nowMs @returns {number} milliseconds, Infinity before the first frame */
  at(nowMs) {
    return Number.isNaN(this.takenMs) ? Infinity : Math.max(0, nowMs - this.takenMs);
  }
}

class Feed {
  constructor(robot, camera, size, canvas) {
    Object.assign(this, { robot, camera, size, canvas });
    this.age = new FrameAge();
    this.next = null;
    this.drawing = false;
    this.context = canvas.getContext("2d", { alpha: false });
  }

  /** Draw the newest frame; one that arrives meanwhile replaces the one that waits. */
  async draw(frame, give) {
    if (this.next) give(this.next.header);
    this.next = frame;
    if (this.drawing) return;
    this.drawing = true;
    while (this.next) {
      const { header, jpeg, arrivedMs } = this.next;
      this.next = null;
      try {
        const image = await decode(jpeg);
        const width = image.displayWidth ?? image.width;
        if (this.canvas.width !== width) {
          this.canvas.width = width;
          this.canvas.height = image.displayHeight ?? image.height;
        }
        this.context.drawImage(image, 0, 0);
        image.close();
        this.age.shown(arrivedMs, header.age_ms, header.t_wall_ns);
        this.canvas.dataset.frame = String(header.seq);
      } catch {
        // A frame that does not decode is skipped: its age keeps growing on screen.
      }
      give(header);
    }
    this.drawing = false;
  }
}

export class Feeds {
  /** @param {string} path of the feed socket */
  constructor(path) {
    this.path = path;
    /** @type {Map<string, Feed>} */
    this.feeds = new Map();
    this.wanted = "";
    // A hidden page shows nothing, and asks for nothing.
    document.addEventListener("visibilitychange", () => this.later());
    this.connect();
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${location.host}${this.path}`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.ask(true);
    this.socket.onmessage = (event) => {
      if (typeof event.data === "string") return;
      const arrivedMs = performance.now();
      const { header, jpeg } = unpackFrame(event.data);
      const give = (h) => this.send({ type: "FrameShown", robot: h.robot, camera: h.camera, size: h.size, seq: h.seq });
      const feed = this.feeds.get(feedKey(header.robot, header.camera, header.size));
      if (feed) feed.draw({ header, jpeg, arrivedMs }, give);
      else give(header);
    };
    this.socket.onclose = () => setTimeout(() => this.connect(), RETRY_MS);
  }

  send(message) {
    if (this.socket.readyState === 1) this.socket.send(JSON.stringify(message));
  }

  /** Watch a camera on a canvas. @returns {FrameAge} */
  show(robot, camera, size, canvas) {
    const key = feedKey(robot, camera, size);
    let feed = this.feeds.get(key);
    if (!feed || feed.canvas !== canvas) {
      feed = new Feed(robot, camera, size, canvas);
      this.feeds.set(key, feed);
      this.later();
    }
    return feed.age;
  }

  /** Stop watching a camera. */
  hide(robot, camera, size) {
    if (this.feeds.delete(feedKey(robot, camera, size))) this.later();
  }

  /** Ask once for all that changed in this turn: scrolling moves many tiles at a time. */
  later() {
    this.asking ??= setTimeout(() => {
      this.asking = null;
      this.ask(false);
    }, 50);
  }

  ask(anew) {
    const feeds = document.hidden ? [] : [...this.feeds.values()].map((f) => [f.robot, f.camera, f.size]);
    const wanted = JSON.stringify(feeds);
    if (!anew && wanted === this.wanted) return;
    this.wanted = wanted;
    this.send({ type: "WatchFrames", feeds });
  }
}
