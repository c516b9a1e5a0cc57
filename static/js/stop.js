// Stop: on every page that shows a robot, by button or by key, and confirmed robot by robot.
//
// The button is the submit of a plain form, so it works with this module missing. With it, the
// request goes two ways at once, socket and form address: either is enough, twice does no harm.
import { condition } from "./facts.js";
import { fill, gettext, ngettext } from "./language.js";
import { pageLink } from "./link.js";

/**
 * What became of a stop. Pure.
 * @param {string[]} names of the robots it was for
 * @param {Map<string, object>} robots newest states
 * @returns {{stopped: string[], waiting: string[], offline: string[]}}
 */
export function stopProgress(names, robots) {
  const progress = { stopped: [], waiting: [], offline: [] };
  for (const name of names) {
    const state = robots.get(name);
    const kind = state ? condition(state) : "offline";
    if (kind === "offline") progress.offline.push(name);
    else if (state.heartbeat.mode === "stopped" && !state.stop_pending) progress.stopped.push(name);
    else progress.waiting.push(name);
  }
  return progress;
}

/** @param {ReturnType<typeof stopProgress>} progress @returns {string} */
export function stopWords({ stopped, waiting, offline }) {
  const n = stopped.length + waiting.length;
  const words = ngettext("%(done)s of %(n)s robot confirmed the stop", "%(done)s of %(n)s robots confirmed the stop", n);
  const parts = [fill(words, { done: stopped.length, n })];
  if (waiting.length) parts.push(fill(gettext("waiting for %(names)s"), { names: waiting.join(", ") }));
  if (offline.length) parts.push(fill(gettext("offline, stops when it connects: %(names)s"), { names: offline.join(", ") }));
  return parts.join(" · ");
}

let current = null;

function report(text, failed) {
  const box = document.querySelector("[data-stop-report]");
  if (!box) return;
  box.hidden = false;
  box.dataset.failed = String(Boolean(failed));
  box.querySelector("[data-stop-words]").textContent = text;
}

function follow() {
  if (!current) return;
  const progress = stopProgress(current.names, pageLink().robots);
  report(stopWords(progress), false);
  if (!progress.waiting.length) current = null;
}

async function post(form) {
  try {
    const answer = await fetch(form.action, { method: "POST", body: new FormData(form), headers: { Accept: "application/json" } });
    return answer.ok;
  } catch {
    return false;
  }
}

/** @param {HTMLFormElement} form a form with data-stop: a robot's name, or empty for all */
export async function stop(form) {
  const link = pageLink();
  const robot = form.dataset.stop;
  const names = robot ? [robot] : [...link.robots.keys()];
  current = { names };
  const sent = link.send(robot ? { type: "StopRobots", robots: [robot] } : { type: "StopRobots", every: true });
  report(gettext("Stop sent, waiting for the robots to confirm"), false);
  const posted = await post(form);
  if (!sent && !posted) {
    current = null;
    report(gettext("The stop did not reach the server. Use the stop on the robot itself."), true);
    return;
  }
  follow();
}

export function startStop() {
  for (const form of document.querySelectorAll("form[data-stop]")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      stop(form);
    });
  }
  document.addEventListener(
    "keydown",
    (event) => {
      if (event.key !== "Escape" || event.repeat) return;
      const form = document.querySelector(event.shiftKey ? "form[data-stop='']" : "form[data-stop]:not([data-stop=''])");
      if (!form) return;
      event.preventDefault();
      stop(form);
    },
    true,
  );
  document.body.addEventListener("sop:state", follow);
}
