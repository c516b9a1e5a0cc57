// The help queue on the fleet page: sorted, with its clock; one key from a request to driving.
import { typing } from "./keys.js";
import { fill, gettext, said } from "./language.js";
import { pageLink } from "./link.js";
import { once } from "./once.js";
import { write } from "./paint.js";
import { clock, first, queue, reasonWords, summary, takeable, waits } from "./queue.js";
import { title } from "./words.js";

const CLOCK_MS = 500;
const panel = document.querySelector("[data-help]");
const list = panel.querySelector("[data-help-list]");
const blank = panel.querySelector("template");
const link = pageLink();
const mayDrive = panel.dataset.mayDrive === "true";
/** @type {Map<string, HTMLElement>} items by robot */
const items = new Map();
let slaS = Number(panel.dataset.slaS);
// The robot whose request was asked for and is not yet ours.
let taking = null;

const who = () => ({ you: link.operator, role: link.role });
const sorted = () => queue(link.help.values(), who());
const slot = (item, name) => item.querySelector(`[data-help-${name}]`);

function drive(robot) {
  location.assign(`${panel.dataset.robotUrl.replace("ROBOT", robot)}#take`);
}

/** From a request to driving: claim it, so that nobody else comes too, then open the robot. */
function take(state) {
  if (!mayDrive || taking || !state) return;
  if (state.status === "claimed" && state.claimed_by === link.operator) return drive(state.robot);
  if (link.send({ type: "ClaimHelp", robot: state.robot })) taking = state.robot;
}

function escalate(state) {
  if (mayDrive && state?.status === "open") link.send({ type: "EscalateHelp", robot: state.robot, number: state.number });
}

function askWhy(item) {
  if (!mayDrive || !item) return;
  const form = slot(item, "skip-form");
  form.hidden = !form.hidden;
  if (!form.hidden) form.elements.reason.focus();
}

function make(robot) {
  const item = blank.content.firstElementChild.cloneNode(true);
  const state = () => link.help.get(robot);
  item.dataset.helpRobot = robot;
  const name = slot(item, "name");
  name.textContent = robot;
  name.href = panel.dataset.robotUrl.replace("ROBOT", robot);
  const field = slot(item, "skip-form").elements.reason;
  field.id = `skip-${robot}`;
  item.querySelector("label").htmlFor = field.id;
  slot(item, "take").addEventListener("click", () => take(state()));
  slot(item, "skip").addEventListener("click", () => askWhy(item));
  slot(item, "escalate").addEventListener("click", () => escalate(state()));
  slot(item, "resume").addEventListener("click", () => link.send({ type: "ResumeRobot", robot }));
  slot(item, "give")?.addEventListener("change", ({ target }) => {
    link.send({ type: "ClaimHelp", robot, operator: target.value });
    target.value = "";
  });
  const form = slot(item, "skip-form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const reason = field.value.trim();
    if (reason && link.send({ type: "SkipHelp", robot, number: state().number, reason })) form.hidden = true;
  });
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    form.hidden = true;
    slot(item, "skip").focus();
  });
  items.set(robot, item);
  return item;
}

function paintItem(item, state, isFirst) {
  const { you, role } = who();
  const mine = state.status === "claimed" && state.claimed_by === you;
  const free = mayDrive && takeable(state, role);
  write(slot(item, "reason"), reasonWords(state));
  const task = link.robots.get(state.robot)?.heartbeat?.task;
  write(slot(item, "detail"), [task ? title(task) : "", said(state.detail)].filter(Boolean).join(" · "));
  write(slot(item, "note"), state.status === "escalated" ? said(state.note) || gettext("escalated") : said(state.note));
  item.dataset.status = state.status;
  item.classList.toggle("quiet", !waits(state));
  slot(item, "take").hidden = !(free || (mayDrive && mine));
  write(slot(item, "take-word"), mine ? gettext("Drive") : gettext("Take"));
  slot(item, "skip").hidden = slot(item, "escalate").hidden = !free;
  if (state.status === "escalated") slot(item, "escalate").hidden = true;
  slot(item, "resume").hidden = !(mayDrive && waits(state) && state.reasons.includes("operator_left"));
  const give = slot(item, "give");
  if (give) give.hidden = !waits(state);
  if (!free) slot(item, "skip-form").hidden = true;
  // Keys act on the first: shown there, and nowhere else.
  for (const key of item.querySelectorAll("kbd")) key.hidden = !isFirst;
  slot(item, "take").classList.toggle("takeover", isFirst);
}

function paintClocks() {
  const nowMs = link.now();
  const states = sorted();
  write(panel.querySelector("[data-help-summary]"), link.online ? summary(states, nowMs) : gettext("not connected"));
  for (const state of states) {
    const item = items.get(state.robot);
    const { words, share, late, waited } = clock(state, nowMs, slaS, link.operator);
    write(slot(item, "clock"), words);
    item.classList.toggle("late", late);
    const bar = item.querySelector("progress");
    bar.hidden = !waits(state);
    bar.value = share;
    const plate = tilePlate(state.robot);
    if (plate && waits(state)) write(plate, `${reasonWords(state)} · ${waited}`);
  }
}

function tilePlate(robot) {
  return document.querySelector(`.tile[data-robot="${CSS.escape(robot)}"] [data-help-plate]`);
}

/** The tile of a robot that waits has the only coloured border. */
function markTiles() {
  for (const tile of document.querySelectorAll(".tile[data-robot]")) {
    const state = link.help.get(tile.dataset.robot);
    const asks = Boolean(state && waits(state));
    tile.classList.toggle("asks", asks);
    const plate = tile.querySelector("[data-help-plate]");
    if (plate) plate.hidden = !asks;
  }
}

function paint() {
  const states = sorted();
  const next = first(states, who());
  const shown = new Set(states.map((state) => state.robot));
  for (const [robot, item] of items) {
    if (shown.has(robot)) continue;
    item.remove();
    items.delete(robot);
  }
  states.forEach((state, i) => {
    const item = items.get(state.robot) ?? make(state.robot);
    paintItem(item, state, mayDrive && state === next);
    // Moved only where the order changed: a field that is typed into keeps the focus.
    if (list.children[i] !== item) list.insertBefore(item, list.children[i] ?? null);
  });
  panel.querySelector("[data-help-none]").hidden = states.length > 0 || !link.online;
  paintClocks();
  markTiles();
}

function heard({ detail: state }) {
  if (taking === state.robot && state.status === "claimed") {
    taking = null;
    if (state.claimed_by === link.operator) return drive(state.robot);
  }
  paint();
  if (waits(state)) write(panel.querySelector("[data-help-said]"), fill(gettext("%(robot)s asks for help: %(why)s"), { robot: state.robot, why: said(state.detail) || reasonWords(state) }));
}

function onKey(event) {
  const { target, key } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (typing(target)) return;
  const state = first(sorted(), who());
  if (!state) return;
  const act = { h: () => take(state), k: () => takeable(state, link.role) && askWhy(items.get(state.robot)), e: () => escalate(state) }[key.toLowerCase()];
  if (!act) return;
  event.preventDefault();
  act();
}

document.body.addEventListener("sop:help", heard);
document.body.addEventListener("sop:snapshot", paint);
document.body.addEventListener("fleet:changed", once(paint));
document.body.addEventListener("sop:refused", () => {
  taking = null;
  paint();
});
document.body.addEventListener("sop:link", () => {
  taking = null;
  paint();
});
document.body.addEventListener("sop:fleet", ({ detail }) => {
  slaS = detail.help_sla_s ?? slaS;
  paintClocks();
});
document.addEventListener("keydown", onKey);
setInterval(paintClocks, CLOCK_MS);
