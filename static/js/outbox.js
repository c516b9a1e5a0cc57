// Labels on their way: kept in the browser until the server has stored them, sent in their order.
//
// Each item carries its own name, so sending it twice changes nothing, and has a key of its own, so
// two tabs never overwrite each other's.

const FIRST_RETRY_MS = 1000;
const LAST_RETRY_MS = 15_000;
// The server's word on these is not about the label: sign in, wait, try again.
const NOT_FINAL = [401, 403, 408, 429];

/** @param {number | undefined} status @returns {boolean} whether sending it again is useless */
export const final = (status) => status >= 400 && status < 500 && !NOT_FINAL.includes(status);

export class Outbox {
  /**
   * @param {{storage: Storage, prefix: string, send: (item: object) => Promise<void>, later?: (run: () => void, ms: number) => void, now?: () => number, said?: (outbox: Outbox, problem: string, lost: object | null) => void}} options
   *   `send` throws an error with a `status` when the server refused; `said` hears of every change
   */
  constructor({ storage, prefix, send, later = (run, ms) => setTimeout(run, ms), now = Date.now, said = () => {} }) {
    Object.assign(this, { storage, prefix, send, later, now, said });
    this.sending = false;
    this.waiting = false;
    this.retryMs = FIRST_RETRY_MS;
    this.count = 0;
  }

  /** Keys of what is not stored yet, oldest first. */
  keys() {
    const found = [];
    for (let i = 0; i < this.storage.length; i += 1) {
      const key = this.storage.key(i);
      if (key?.startsWith(this.prefix)) found.push(key);
    }
    return found.sort();
  }

  items() {
    return this.keys().map((key) => JSON.parse(this.storage.getItem(key)));
  }

  /** Keep an item at once, and send it as soon as possible after `ready`. */
  async put(item, ready = null) {
    this.count += 1;
    const order = `${String(this.now()).padStart(15, "0")}-${String(this.count).padStart(6, "0")}`;
    this.storage.setItem(`${this.prefix}${order}-${item.uid}`, JSON.stringify(item));
    this.said(this, "", null);
    await ready;
    return this.flush();
  }

  /** Send what is kept, one after another; after a failure again later. */
  async flush() {
    if (this.sending || this.waiting) return;
    this.sending = true;
    try {
      for (let key = this.keys()[0]; key; key = this.keys()[0]) {
        const item = JSON.parse(this.storage.getItem(key));
        try {
          await this.send(item);
        } catch (error) {
          if (!final(error.status)) {
            this.said(this, error.message, null);
            return this.tryLater();
          }
          this.storage.removeItem(key);
          this.said(this, error.message, item);
          continue;
        }
        this.storage.removeItem(key);
        this.retryMs = FIRST_RETRY_MS;
        this.said(this, "", null);
      }
    } finally {
      this.sending = false;
    }
  }

  tryLater() {
    this.waiting = true;
    this.later(() => {
      this.waiting = false;
      this.flush();
    }, this.retryMs);
    this.retryMs = Math.min(LAST_RETRY_MS, this.retryMs * 2);
  }
}
