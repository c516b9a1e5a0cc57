// Pictures of one recorded episode: fetched in packs, the needed ones first, decoded when shown.
import { fill, gettext } from "./language.js";
import { bitmapOf } from "./jpeg.js";
import { newestAt, packOf, unpackPictures, wantedPacks } from "./playback.js";

// Decoded pictures kept; the compressed ones are kept all.
const DECODED = 240;

/** A refusal of the server in its own words. */
export class Refused extends Error {}

/** @param {string} url @param {RequestInit} options @returns {Promise<Response>} @throws {Refused} in words for people */
export async function ask(url, options = {}) {
  let answer;
  try {
    answer = await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(gettext("the server does not answer"));
  }
  if (answer.redirected && answer.url.includes("/login/")) throw new Refused(gettext("you are signed out: sign in again"));
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  const refused = new Refused(said.reason ?? fill(gettext("the server answered %(status)s"), { status: answer.status }));
  refused.status = answer.status;
  throw refused;
}

export class Pictures {
  /** @param {string} base address that ends in /frames/ @param {string[]} cameras @param {number} steps */
  constructor(base, cameras, steps) {
    Object.assign(this, { base, cameras, steps });
    this.jpegs = new Map(cameras.map((camera) => [camera, new Map()]));
    this.known = new Map(cameras.map((camera) => [camera, []]));
    this.asked = new Map();
    this.loaded = new Set();
    this.decoded = new Map();
    this.failed = "";
    this.closing = new AbortController();
  }

  /** Whether everything for `step` is here. */
  ready(step) {
    return !this.cameras.length || this.loaded.has(packOf(step));
  }

  /** Fetch one pack of every camera; again only after a failure. @param {number} pack */
  load(pack) {
    if (!this.asked.has(pack)) {
      const task = Promise.all(this.cameras.map((camera) => this.fetchPack(camera, pack))).then(
        () => {
          this.loaded.add(pack);
          this.failed = "";
        },
        (error) => {
          this.asked.delete(pack);
          if (error.name !== "AbortError") this.failed = error.message;
          throw error;
        },
      );
      this.asked.set(pack, task);
    }
    return this.asked.get(pack);
  }

  /** Fetch everything, what is near `step` first, one pack at a time. */
  async loadFrom(step) {
    for (const pack of wantedPacks(step, this.steps)) await this.load(pack);
  }

  async fetchPack(camera, pack) {
    const url = `${this.base}${encodeURIComponent(camera)}/${pack}.pack`;
    const answer = await ask(url, { signal: this.closing.signal });
    const jpegs = this.jpegs.get(camera);
    for (const { step, jpeg } of unpackPictures(await answer.arrayBuffer())) jpegs.set(step, jpeg);
    this.known.set(camera, [...jpegs.keys()].sort((a, b) => a - b));
  }

  /** The decoded picture of a camera at a step, if it is at hand. @returns {ImageBitmap | null} */
  at(camera, step) {
    const newest = newestAt(this.known.get(camera) ?? [], step);
    return this.decoded.get(`${camera}/${newest}`) ?? null;
  }

  /** Decode the picture of a camera at a step. @returns {Promise<ImageBitmap | null>} */
  async decode(camera, step) {
    const newest = newestAt(this.known.get(camera) ?? [], step);
    if (newest < 0 || this.closing.signal.aborted) return null;
    const key = `${camera}/${newest}`;
    if (!this.decoded.has(key)) {
      this.keep(key, await bitmapOf(this.jpegs.get(camera).get(newest)));
    }
    return this.decoded.get(key) ?? null;
  }

  keep(key, bitmap) {
    if (this.closing.signal.aborted) return bitmap.close();
    this.decoded.get(key)?.close();
    this.decoded.set(key, bitmap);
    for (const old of this.decoded.keys()) {
      if (this.decoded.size <= DECODED) break;
      this.decoded.get(old).close();
      this.decoded.delete(old);
    }
  }

  close() {
    this.closing.abort();
    for (const bitmap of this.decoded.values()) bitmap.close();
    this.decoded.clear();
  }
}

/** An episode ready to be shown: what the server says of it, and its pictures. */
export class Recording {
  /** @param {string} url of replay.json @param {object} replay */
  constructor(url, replay) {
    this.replay = replay;
    const base = `${url.slice(0, url.lastIndexOf("/") + 1)}frames/`;
    this.pictures = new Pictures(base, replay.cameras.map((c) => c.name), replay.steps);
  }

  /** @param {string} url of replay.json @param {string} frames address of its pictures, where it is another */
  static async open(url, frames = url) {
    const replay = await (await ask(url)).json();
    return new Recording(frames, replay);
  }

  /** Resolves when the first picture of every camera is decoded: showing it then takes no time. */
  async first() {
    if (!this.pictures.cameras.length) return;
    await this.pictures.load(0);
    await Promise.all(this.pictures.cameras.map((camera) => this.pictures.decode(camera, 0)));
  }

  close() {
    this.pictures.close();
  }
}
