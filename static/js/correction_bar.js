// The bar of one correction (templates/fleet/_correction.html): says what is in force, and changes it.
import { asked, handles, inWords, seconds } from "./correction.js";
import { newUid } from "./judging.js";
import { fill, gettext, said as heard } from "./language.js";
import { write } from "./paint.js";
import { ask } from "./pictures.js";

// A server that hangs must not keep the next key waiting for ever.
const ANSWER_MS = 10_000;

export class CorrectionBar {
  /** @param {HTMLElement} root holds the bar; its `data-by` is who looks */
  constructor(root) {
    this.root = root;
    this.state = null;
    this.queue = Promise.resolve();
    this.unsaved = null;
    root.addEventListener("click", (event) => {
      const button = event.target.closest("button[data-say]");
      if (button && !button.disabled) this.act(button.dataset.say);
    });
    for (const name of ["from", "to"]) {
      const range = this.part(name);
      range?.addEventListener("input", () => this.move(name));
      range?.addEventListener("keydown", (event) => {
        if (event.key !== "Enter") return;
        event.preventDefault();
        this.act("keep");
      });
    }
    document.body.addEventListener("sop:correction", ({ detail }) => this.heard(detail));
    // What was said while the connection was away was not heard.
    document.body.addEventListener("sop:link", ({ detail }) => detail.online && this.state && this.load());
  }

  part(name) {
    return this.root.querySelector(`[data-part=${name}]`);
  }

  /** Show a correction. @param {string} url of it @param {object} guess what the page knows until the server says */
  open(url, guess) {
    this.url = url;
    this.state = { revision: -1, mark: "correction", discarded: false, trim_start: 0, trim_end: 0, undoable: null, stored: false, told: "", history: [], ...guess };
    this.guessed = guess?.steps;
    this.unsaved = null;
    this.say("");
    this.showTrim(false);
    this.show();
    return this.load();
  }

  /** Ask what is in force. @returns {Promise<boolean>} whether the server knows of it */
  async load() {
    const { url } = this;
    try {
      const state = await (await ask(url, { signal: AbortSignal.timeout(ANSWER_MS) })).json();
      if (url === this.url) this.take(state);
      return true;
    } catch (error) {
      if (url === this.url && error.status !== 404) this.say(fill(gettext("Cannot be read: %(problem)s."), { problem: heard(error.message) }));
      return error.status !== 404;
    }
  }

  take(state) {
    if (state.revision < this.state.revision) return;
    // Before the episode is here the server knows an upper bound, and this page has counted.
    const steps = state.stored || !this.guessed ? state.steps : Math.min(state.steps, this.guessed);
    this.state = { ...state, steps };
    this.show();
  }

  /** Somebody, perhaps another tab of the same person, changed a correction. */
  heard({ robot, episode, epoch, revision, by }) {
    const { state } = this;
    if (!state || robot !== state.robot || episode !== state.episode || epoch !== state.epoch || revision <= state.revision) return;
    this.queue = this.queue.then(async () => {
      if (revision <= this.state.revision) return;
      await this.load();
      this.say(fill(gettext("Changed by %(name)s"), { name: by }));
    });
  }

  /** One thing after another: an undo needs to know what it undoes. */
  act(what) {
    if (what === "trim") return this.showTrim(this.part("trim").hidden);
    this.queue = this.queue.then(() => this.change(what));
    return this.queue;
  }

  async change(what) {
    const wish = asked(what, this.state, { from: Number(this.part("from").value), to: Number(this.part("to").value) });
    if (!wish) return this.say(what === "undo" ? gettext("There is nothing to undo") : gettext("It is so already"));
    const said = JSON.stringify(wish.body);
    // The same name until it is stored: pressing again after a failure changes nothing twice.
    if (this.unsaved?.said !== said) this.unsaved = { said, uid: newUid() };
    const note = this.part("note")?.value.trim() ?? "";
    const body = { ...wish.body, uid: this.unsaved.uid, by: this.root.dataset.by, note };
    const headers = { "Content-Type": "application/json", ...JSON.parse(document.body.getAttribute("hx-headers")) };
    try {
      const state = await (await ask(this.url, { method: "POST", headers, body: JSON.stringify(body), signal: AbortSignal.timeout(ANSWER_MS) })).json();
      this.unsaved = null;
      if (this.part("note")) this.part("note").value = "";
      if (what === "keep") this.showTrim(false);
      this.say(wish.said);
      this.take(state);
    } catch (error) {
      if (error.status === 409) await this.load();
      this.say(fill(error.status ? gettext("Not saved: %(problem)s.") : gettext("Not saved: %(problem)s; press it again."), { problem: heard(error.message) }));
    }
  }

  say(words) {
    write(this.part("said"), words);
  }

  // ---- trimming -----------------------------------------------------------------------------------

  showTrim(open) {
    const panel = this.part("trim");
    if (!panel) return;
    if (panel.hidden && !open) return;
    panel.hidden = !open;
    this.root.querySelector("[data-say=trim]").setAttribute("aria-expanded", String(open));
    if (open) {
      this.layHandles();
      this.part("from").focus();
    } else if (panel.contains(document.activeElement)) document.activeElement.blur();
  }

  layHandles() {
    const { steps, trim_start: start, trim_end: end } = this.state;
    for (const name of ["from", "to"]) this.part(name).max = String(steps);
    this.put(handles(steps, start, steps - end, "from"));
  }

  move(name) {
    this.put(handles(this.state.steps, Number(this.part("from").value), Number(this.part("to").value), name));
  }

  put({ from, to }) {
    const { period_s: periodS } = this.state;
    for (const [name, value] of Object.entries({ from, to })) {
      this.part(name).value = String(value);
      this.part(name).setAttribute("aria-valuetext", seconds(value, periodS));
    }
    write(this.part("range"), fill(gettext("%(low)s to %(high)s"), { low: seconds(from, periodS), high: seconds(to, periodS) }));
  }

  // ---- what is in force -----------------------------------------------------------------------------

  show() {
    const { state, root } = this;
    write(this.part("title"), inWords(state));
    write(this.part("told"), state.told);
    root.dataset.revision = String(state.revision);
    for (const mark of ["correction", "recovery"]) root.querySelector(`[data-say=${mark}]`)?.setAttribute("aria-pressed", String(state.mark === mark && !state.discarded));
    root.querySelector("[data-say=discard]")?.setAttribute("aria-pressed", String(state.discarded));
    for (const button of root.querySelectorAll("[data-say=undo]")) button.disabled = !state.undoable;
    if (this.part("trim") && !this.part("trim").hidden && Number(this.part("to").max) !== state.steps) this.layHandles();
    this.showRow();
  }

  /** The facts of the episode page's rows: one for each span of this lease. */
  showRow() {
    const { state } = this;
    for (const { start, kept_start: from, kept_end: to } of state.spans ?? []) {
      const row = document.querySelector(`[data-row="${start}"]`);
      if (!row) continue;
      write(row.querySelector("[data-fact=mark]"), state.discarded ? `${state.mark}, discarded` : state.mark);
      write(row.querySelector("[data-fact=kept]"), from < to ? `${from}–${to}` : "nothing");
      write(row.querySelector("[data-fact=by]"), state.history[0]?.by ?? "");
    }
    this.part("history")?.replaceChildren(...state.history.map(entryOf));
  }
}

function entryOf({ by, at, when, said, note, undone }) {
  const item = document.createElement("li");
  const time = Object.assign(document.createElement("time"), { dateTime: at, textContent: when });
  item.append(time, ` ${by}: ${said}${note ? ` (“${note}”)` : ""}${undone ? gettext(", undone since") : ""}`);
  return item;
}
