// What every page has: the link, its state, the stop, and the counts in the top bar.
import { startAlerts } from "./alert.js";
import { loadAnew } from "./anew.js";
import { tally } from "./facts.js";
import { startKeys } from "./keys.js";
import { fill, gettext, ngettext } from "./language.js";
import { pageLink } from "./link.js";
import { once } from "./once.js";
import { write } from "./paint.js";
import { waits } from "./queue.js";
import { startStop } from "./stop.js";

function showLink({ online, code }) {
  const bar = document.querySelector("[data-lost]");
  bar.hidden = online;
  if (online) return;
  bar.textContent =
    code === 4401 || code === 4403
      ? gettext("The server refused the live connection: sign in again.")
      : gettext("No connection to the server. Nothing below is fresh; trying again.");
}

const showCounts = once(() => {
  const link = pageLink();
  const counts = { ...tally([...link.robots.values()]), help: [...link.help.values()].filter(waits).length };
  for (const chip of document.querySelectorAll("[data-count]")) {
    const n = counts[chip.dataset.count];
    chip.hidden = n === 0 && chip.hasAttribute("data-optional");
    const words = chip.dataset.word ? `${n} ${chip.dataset.word}` : String(n);
    if (chip.textContent !== words) chip.textContent = words;
  }
  const line = document.querySelector("[data-policy-line]");
  if (line) write(line, policyLine([...link.robots.values()]));
});

/** A page about a robot nobody has heard of is made anew when it is heard. */
function reloadWhenHeard({ detail: state }) {
  const waiting = document.querySelector("[data-reload-on]");
  if (waiting?.dataset.reloadOn === state.robot && state.connection === "online" && state.heartbeat) loadAnew();
}

/** @param {object[]} states @returns {string} "v128 on 3 of 4 robots" */
export function policyLine(states) {
  const newest = Math.max(0, ...states.map((s) => s.assigned_number ?? 0));
  if (!newest) return gettext("no policy assigned yet");
  const on = states.filter((s) => s.heartbeat?.policy?.number === newest).length;
  const words = ngettext("Policy v%(newest)s on %(on)s of %(n)s robot", "Policy v%(newest)s on %(on)s of %(n)s robots", states.length);
  return fill(words, { newest, on, n: states.length });
}

if (document.body.dataset.operatorSocket) {
  startKeys();
  document.body.addEventListener("sop:link", (event) => showLink(event.detail));
  document.body.addEventListener("sop:snapshot", showCounts);
  document.body.addEventListener("fleet:changed", showCounts);
  document.body.addEventListener("sop:help", showCounts);
  document.body.addEventListener("sop:state", reloadWhenHeard);
  startStop();
  startAlerts();
  // Pages that need more than every robot's state open the link themselves.
  if (!document.querySelector("[data-opens-link]")) pageLink().open({ type: "Watch", every: true });
}
