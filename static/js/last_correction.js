// The robot page's bar for the correction that its operator just made: shown once the robot is handed
// back, gone while it is driven again, there again after a reload.
import { follow, KEYS } from "./correction.js";
import { CorrectionBar } from "./correction_bar.js";
import { typing } from "./keys.js";
import { gettext } from "./language.js";
import { pageLink } from "./link.js";

// Until the episode is here, what became of it is asked for this often.
const LOOK_AGAIN_MS = 5000;
// So long a reload still shows it; later it is found on its episode's page.
const REMEMBERED_MS = 3_600_000;

const root = document.querySelector("[data-last-correction]");
const { robot, url } = root.dataset;
const store = `sop.correction/${robot}`;
const link = pageLink();
const bar = new CorrectionBar(root);
const periodS = 1 / (JSON.parse(document.getElementById("robot-spec").textContent).control_hz || 20);
let span = null;

const addressOf = ({ epoch, episode }) => url.replace(/0\/[0-]+\/$/, `${epoch}/${episode}/`);

function mineNow(telemetry) {
  const lease = link.robots.get(robot)?.lease;
  return lease?.holder === link.operator && lease?.epoch === telemetry.epoch;
}

function remember(value) {
  try {
    if (value) localStorage.setItem(store, JSON.stringify({ ...value, by: root.dataset.by, at: Date.now() }));
    else localStorage.removeItem(store);
  } catch {
    // A browser that keeps nothing: a reload forgets the bar, not the correction.
  }
}

/** @param {boolean} fresh whether it was made just now, in front of this page */
async function show(fresh) {
  const { episode, epoch, start, end } = span;
  root.hidden = false;
  const known = await bar.open(addressOf(span), { robot, episode, epoch, steps: end - start, period_s: periodS });
  // Said after the bar is there, so that screen readers hear of it.
  if (known && fresh && bar.state.revision < 1) bar.say(gettext("Imitated as a correction unless you say otherwise"));
  if (known) return;
  // Its episode came without it: it was too short to be recorded, or the robot died.
  root.hidden = true;
  remember(null);
}

function take(telemetry) {
  const before = span;
  span = follow(span, telemetry, mineNow(telemetry));
  if (span === before) return;
  if (span.over) {
    remember(span);
    show(true);
  } else if (!root.hidden) root.hidden = true;
}

function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(store));
    if (kept?.by !== root.dataset.by || Date.now() - kept.at > REMEMBERED_MS) return;
    span = { episode: kept.episode, epoch: kept.epoch, start: kept.start, end: kept.end, over: true };
    show(false);
  } catch {
    // As above.
  }
}

document.body.addEventListener("sop:telemetry", ({ detail }) => detail.robot === robot && take(detail.telemetry));
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || typing(event.target)) return;
  const what = KEYS[event.code];
  if (!what || root.hidden) return;
  event.preventDefault();
  bar.act(what);
});
setInterval(() => !root.hidden && !document.hidden && bar.state && !bar.state.stored && bar.load(), LOOK_AGAIN_MS);
recall();
