// Writes what sockets say into the slots the server rendered.
//
// Fragments (htmx) are for what rows say. A heartbeat a second a robot as fragments would be a
// request a second a robot, so live facts are written here, into [data-live=<fact>].
import { fill, gettext } from "./language.js";
import { outcomes } from "./outcomes.js";

const KINDS = ["autonomous", "human", "holding", "stopped", "stale", "offline"];

/** @param {Element} element @param {string} kind give it the colour of a state, and no other */
export function colour(element, kind, kinds = KINDS) {
  if (element.classList.contains(kind)) return;
  element.classList.remove(...kinds);
  element.classList.add(kind);
}

/** Write one slot, and hide it while it is empty. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
  if (element.hasAttribute("data-optional")) element.hidden = text === "";
}

function paintOutcomes(element, recent) {
  if (element.dataset.recent === recent) return;
  element.dataset.recent = recent;
  const seen = outcomes(recent);
  element.replaceChildren(
    ...seen.map(({ code, word }) => {
      const dot = document.createElement("i");
      dot.className = code;
      dot.title = word;
      return dot;
    }),
  );
  element.setAttribute("aria-label", seen.length ? fill(gettext("recent outcomes: %(words)s"), { words: seen.map((o) => o.word).join(", ") }) : gettext("no episode yet"));
}

/** @param {Element} root @param {Record<string, string>} facts from facts.js */
export function paint(root, facts) {
  if (root.hasAttribute("data-kind")) {
    if (root.dataset.kind !== facts.kind) root.dataset.kind = facts.kind;
    colour(root, facts.kind);
  }
  for (const element of root.querySelectorAll("[data-live]")) {
    const name = element.dataset.live;
    if (name === "recent" && facts.recent !== undefined) paintOutcomes(element, facts.recent);
    else if (typeof facts[name] === "string") write(element, facts[name]);
    if (name === "state") colour(element, facts.kind);
    if (name === "link" && facts.linkKind) colour(element, facts.linkKind, ["good", "holding", "bad", "offline"]);
  }
}
