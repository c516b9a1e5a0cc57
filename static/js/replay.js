// The replay player: synchronised cameras, a scrubber, and strips that share its time.
//
// `mountReplay(element)` brings templates/learning/_replay.html to life. A page that shows one
// episode loads this module and is done; the labelling desk gives its player one after another.
import { fill, gettext, said } from "./language.js";
import { Playhead, controllerAt, meaningOf, packOf } from "./playback.js";
import { Recording } from "./pictures.js";
import { Screens, drawn } from "./screens.js";
import { drawStrips, legendOf } from "./strips.js";

const WORDS = { policy: gettext("policy in control"), human: gettext("operator in control"), handover: gettext("handover"), nobody: gettext("nobody in control") };

export class Replay {
  /** @param {HTMLElement} element from _replay.html @param {{keys?: boolean}} options */
  constructor(element, { keys = true } = {}) {
    this.element = element;
    this.part = (name) => element.querySelector(`[data-replay-${name}]`);
    this.recording = null;
    this.head = new Playhead(0, 0.05);
    this.screens = new Screens(this.part("cameras"));
    // Called when the step or what is shown changed.
    this.changed = () => {};
    this.part("scrub").addEventListener("input", (event) => this.seek(Number(event.target.value)));
    for (const button of element.querySelectorAll("[data-replay-do]")) {
      button.addEventListener("click", () => this.act(button.dataset.replayDo));
    }
    this.part("strips").addEventListener("pointerdown", (event) => this.grab(event));
    this.part("strips").addEventListener("pointermove", (event) => event.buttons & 1 && this.grab(event));
    if (keys) document.addEventListener("keydown", (event) => this.pressed(event));
  }

  get step() {
    return this.head.step;
  }

  /** Fetch an episode and show it. @param {string} url of its replay.json */
  async open(url) {
    this.say(gettext("Loading the episode."));
    try {
      this.show(await Recording.open(url));
    } catch (error) {
      this.say(fill(gettext("The replay cannot be shown: %(problem)s."), { problem: said(error.message) }));
    }
  }

  /**
   * Show an episode from its first step. Pictures that are at hand are on their canvases when this
   * returns; strips and the rest of the pictures follow a frame later, and keep nobody waiting.
   */
  show(recording) {
    this.recording = recording;
    const { replay } = recording;
    const speed = this.head.speed;
    this.head = new Playhead(replay.steps, replay.control_period_s);
    this.head.speed = speed;
    this.part("body").hidden = false;
    this.part("scrub").max = String(this.head.last);
    this.screens.lay(replay.cameras);
    // Never the last episode's strips under this one's name.
    this.part("lanes").style.visibility = "hidden";
    const suggestion = this.part("suggestion");
    suggestion.hidden = !replay.suggestion;
    if (replay.suggestion) suggestion.firstElementChild.textContent = fill(gettext("Suggested point of failure: step %(n)s"), { n: replay.suggestion.step });
    this.say(noticeOf(replay));
    this.draw();
    drawn().then(() => this.recording === recording && this.complete(replay));
  }

  complete(replay) {
    drawStrips(this.part("lanes"), replay);
    this.part("lanes").style.visibility = "";
    this.drawLegend(replay);
    this.load();
  }

  load() {
    const { recording } = this;
    if (!recording?.pictures.cameras.length) return;
    recording.pictures.loadFrom(this.head.step).then(
      () => this.recording === recording && this.draw(),
      (error) => {
        if (this.recording !== recording || error.name === "AbortError") return;
        this.head.pause();
        this.say(fill(gettext("Pictures are missing: %(problem)s. Move in the replay to try again."), { problem: said(error.message) }));
        this.draw();
      },
    );
    // As soon as what one looks at is there, not when everything is.
    recording.pictures.load(packOf(this.head.step)).then(() => this.recording === recording && this.draw(), () => {});
  }

  /** @param {string} words empty: nothing to say */
  say(words) {
    const notice = this.part("notice");
    if (notice.textContent !== words) notice.textContent = words;
    notice.hidden = words === "";
  }

  seek(step) {
    this.head.pause();
    this.head.seek(step, performance.now());
    if (this.recording && !this.recording.pictures.ready(this.head.step)) this.load();
    this.draw();
  }

  act(what, far = false) {
    if (!this.recording) return;
    const now = performance.now();
    const stride = far ? 10 : 1;
    if (what === "play") this.head.toggle(now);
    else if (what === "back") return this.seek(this.head.step - stride);
    else if (what === "on") return this.seek(this.head.step + stride);
    else if (what === "start") return this.seek(0);
    else if (what === "end") return this.seek(this.head.last);
    else if (what === "slower") this.head.changeSpeed(-1, now);
    else if (what === "faster") this.head.changeSpeed(1, now);
    else if (what === "suggestion" && this.recording.replay.suggestion) return this.seek(this.recording.replay.suggestion.step);
    this.draw();
    if (this.head.playing) this.run();
  }

  run() {
    if (this.running) return;
    const tick = (now) => {
      this.running = this.head.playing;
      if (!this.running) return this.draw();
      const pictures = this.recording.pictures;
      if (this.head.advance(now, (step) => pictures.ready(step))) this.draw();
      requestAnimationFrame(tick);
    };
    this.running = true;
    requestAnimationFrame(tick);
  }

  pressed(event) {
    const focus = document.activeElement;
    const what = meaningOf(event, { tag: focus?.tagName ?? "", type: focus?.type });
    if (!what || !this.recording || this.element.hidden) return;
    event.preventDefault();
    this.act(what, event.shiftKey);
  }

  grab(event) {
    const box = this.part("strips").getBoundingClientRect();
    if (this.recording && box.width) this.seek(((event.clientX - box.left) / box.width) * this.head.steps - 0.5);
  }

  drawLegend(replay) {
    this.part("legend").replaceChildren(
      ...legendOf(replay).map(({ kind, word }) => Object.assign(document.createElement("span"), { className: `chip ${kind}`, textContent: word })),
    );
  }

  draw() {
    const { recording, head } = this;
    if (!recording) return;
    const { replay, pictures } = recording;
    const { step } = head;
    this.screens.draw(recording, step, () => this.recording === recording && this.head.step === step);
    const share = (head.step + 0.5) / Math.max(1, replay.steps);
    this.part("line").style.left = `${100 * share}%`;
    const scrub = this.part("scrub");
    scrub.value = String(head.step);
    const at = (head.step * replay.control_period_s).toFixed(1);
    const who = WORDS[controllerAt(replay.control, head.step)];
    scrub.setAttribute("aria-valuetext", fill(gettext("step %(step)s of %(last)s, %(seconds)s seconds, %(who)s"), { step: head.step, last: head.last, seconds: at, who }));
    this.part("where").textContent = fill(gettext("step %(step)s of %(last)s · %(seconds)s s · %(who)s"), { step: head.step, last: head.last, seconds: at, who });
    this.part("speed").textContent = `${head.speed}×`;
    const waiting = !pictures.ready(head.step) || (head.playing && !pictures.ready(Math.min(head.last, head.step + 1)));
    this.element.toggleAttribute("data-waiting", waiting);
    this.element.dataset.step = String(head.step);
    const play = this.part("play");
    play.setAttribute("aria-pressed", String(head.playing));
    play.firstElementChild.textContent = head.playing ? gettext("Pause") : gettext("Play");
    this.changed();
  }
}

/** What a person has to know of an episode beside what they see. @param {object} replay */
export function noticeOf(replay) {
  const words = [];
  if (!replay.cameras.length) words.push(gettext("This episode was recorded without cameras: the robot senses states only. What it did is drawn below."));
  if (replay.recorded_steps > replay.steps) words.push(fill(gettext("Only the first %(n)s of %(total)s steps are shown."), { n: replay.steps, total: replay.recorded_steps }));
  if (!replay.complete) words.push(gettext("The recording was cut short and is never trained on."));
  return words.join(" ");
}

/** @param {HTMLElement} element @param {{keys?: boolean}} options @returns {Replay} */
export function mountReplay(element, options = {}) {
  const replay = new Replay(element, options);
  if (element.dataset.replay) replay.open(element.dataset.replay);
  return replay;
}
