// Sound and browser notification when a robot asks for help: on every page, only for who wants it.
import { fill, gettext, said } from "./language.js";
import { pageLink } from "./link.js";
import { reasonWords, rings } from "./queue.js";

const KEPT = "sop-help-alert";
const BEEPS_HZ = [660, 880];
const BEEP_S = 0.14;

let audio = null;
const known = new Map();
let started = false;

function wanted() {
  return localStorage.getItem(KEPT) === "on";
}

/** Two short tones, made here: nothing to load, nothing to be missing. */
function beep() {
  audio ??= new AudioContext();
  // Without a click since the page was opened the browser keeps it silent; the notification stays.
  audio.resume().then(() => {
    BEEPS_HZ.forEach((frequency, i) => {
      const [tone, volume] = [audio.createOscillator(), audio.createGain()];
      const start = audio.currentTime + i * BEEP_S;
      tone.frequency.value = frequency;
      volume.gain.setValueAtTime(0.12, start);
      volume.gain.exponentialRampToValueAtTime(0.001, start + BEEP_S);
      tone.connect(volume).connect(audio.destination);
      tone.start(start);
      tone.stop(start + BEEP_S);
    });
    document.body.dataset.beeps = String(Number(document.body.dataset.beeps ?? 0) + 1);
  });
}

function notify(state) {
  if (globalThis.Notification?.permission !== "granted") return;
  // One notification a robot, whatever the number of tabs.
  const note = new Notification(fill(gettext("%(robot)s asks for help"), { robot: state.robot }), { body: said(state.detail) || reasonWords(state), tag: `help-${state.robot}` });
  note.onclick = () => {
    window.focus();
    location.assign("/");
  };
}

function heard(state) {
  const before = known.get(state.robot);
  known.set(state.robot, state);
  if (!wanted() || !rings(before, state, pageLink().role)) return;
  beep();
  notify(state);
}

function snapshot() {
  const { help } = pageLink();
  for (const robot of [...known.keys()]) if (!help.has(robot)) known.delete(robot);
  for (const state of help.values()) {
    // What waits already when the page is opened is on the page; what came while offline is news.
    if (started) heard(state);
    else known.set(state.robot, state);
  }
  started = true;
}

async function choose(box, words) {
  localStorage.setItem(KEPT, box.checked ? "on" : "off");
  if (!box.checked) return describe(box, words);
  beep();
  if (globalThis.Notification?.permission === "default") await Notification.requestPermission();
  describe(box, words);
}

function describe(box, words) {
  if (!box.checked) words.textContent = "";
  else words.textContent = globalThis.Notification?.permission === "granted" ? gettext("on") : gettext("sound only: this browser does not allow notifications here");
}

/** Listen, and tie the switch on this page to what was chosen, if there is one. */
export function startAlerts() {
  document.body.addEventListener("sop:help", (event) => heard(event.detail));
  document.body.addEventListener("sop:snapshot", snapshot);
  const box = document.querySelector("[data-help-alert]");
  if (!box) return;
  const words = document.querySelector("[data-help-alert-words]");
  box.checked = wanted();
  describe(box, words);
  box.addEventListener("change", () => choose(box, words));
}
