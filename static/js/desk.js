// The labelling desk: one episode after another, one key a judgement.
//
// The next episodes are fetched and their first pictures decoded while one is looked at, so that a
// label shows the next one at once; the label itself is sent beside that, from an outbox.
import { Ahead } from "./ahead.js";
import { askedOf, failurePoint, newUid, pace, verdict } from "./judging.js";
import { fill, gettext, ngettext, said } from "./language.js";
import { Outbox } from "./outbox.js";
import { Recording } from "./pictures.js";
import { mountReplay } from "./replay.js";
import { drawn } from "./screens.js";
import { keepSeat } from "./seat.js";
import { sendJson } from "./send.js";

// Judged episodes that stay open, for taking back.
const OPEN_BEHIND = 3;
const FIRST_SPEED = 4;
// An empty desk looks for what robots ended meanwhile, or for a server that answers again.
const LOOK_AGAIN_MS = 5000;

const page = document.querySelector("[data-desk]");
const $ = (name) => page.querySelector(`[data-desk-${name}]`);
const base = page.dataset.desk;
const replay = mountReplay(page.querySelector("[data-replay]"));
replay.head.speed = FIRST_SPEED;
const still = matchMedia("(prefers-reduced-motion: reduce)");

let current = null;
let reason = "";
const done = [];
const skipped = [];
const times = [];

const outbox = new Outbox({ storage: localStorage, prefix: `sop.label/${encodeURIComponent(page.dataset.operator)}/`, send: post, said: showUnsaved });

async function post({ path, uid, body }) {
  await sendJson(`${base}${path}`, { ...body, uid, by: page.dataset.operator });
}

function showUnsaved(box, problem, lost) {
  const n = box.keys().length;
  const slot = $("unsaved");
  slot.hidden = n === 0;
  const waits = ngettext("%(n)s label not saved yet: %(problem)s; trying again", "%(n)s labels not saved yet: %(problem)s; trying again", n);
  slot.textContent = fill(problem && !lost ? waits : ngettext("saving %(n)s label", "saving %(n)s labels", n), { n, problem: said(problem) });
  if (lost) say(fill(gettext("A label was refused and is not stored: %(problem)s."), { problem: said(problem) }));
}

function say(words) {
  $("message").textContent = words;
}

/** What must not come again: skipped, just judged, judged and not stored yet. */
const unwanted = () => [...skipped, ...done.slice(-20).map((entry) => entry.uid), ...outbox.items().map((item) => item.episode)];
const name = newUid();

const ahead = new Ahead({
  sit: (asked) => sendJson(page.dataset.seat, { page: name, by: page.dataset.operator, ...asked }),
  recordingOf: (uid) => Recording.open(`${base}${uid}/replay.json`, `${page.dataset.episodes}${uid}/replay.json`),
  place: $("ahead"),
  shown: () => (current ? [current.uid] : []),
  unwanted,
  taken: (uids) => uids.includes(current?.uid) && say(gettext("Somebody else looks at this episode now: your label will count as a second one.")),
  failed: (error) => say(fill(gettext("The queue cannot be read: %(problem)s."), { problem: said(error.message) })),
  refilled: show,
});

/** Show the next episode. @param {number | null} sinceMs when the key that asked for it went down */
async function next(sinceMs = null) {
  const entry = ahead.shift();
  current = entry;
  reason = "";
  if (entry) {
    if (!entry.recording) replay.say(gettext("Loading the next episode."));
    try {
      const recording = entry.recording ?? (await ahead.open(entry));
      if (current !== entry) return;
      present(entry, recording, sinceMs);
    } catch (error) {
      if (current !== entry) return;
      say(fill(gettext("Episode %(uid)s cannot be shown and is left out: %(problem)s."), { uid: entry.uid.slice(0, 8), problem: said(error.message) }));
      skipped.push(entry.uid);
      return next();
    }
  }
  show();
  // The picture first: what comes later must not keep the browser from drawing it.
  await drawn();
  ahead.paint();
  await ahead.refill();
  ahead.openNext();
  if (!current && ahead.length) return next();
}

function present(entry, recording, sinceMs) {
  // For whoever measures: from the key to the first picture of the next episode. Waits first, so that
  // it is told before what else waits for that frame.
  if (sinceMs !== null) drawn().then(() => performance.measure("sop:next-frame", { start: sinceMs, end: performance.now(), detail: entry.uid }));
  replay.show(recording);
  if (!still.matches && !replay.head.playing) replay.act("play");
}

function show() {
  const empty = !current && !ahead.asking;
  page.querySelector("[data-replay]").hidden = !current;
  $("empty").hidden = !empty;
  $("panel").hidden = !current;
  const left = ahead.waiting === null ? null : ahead.waiting + ahead.length + (current ? 1 : 0);
  $("waiting").textContent = left === null ? "" : fill(ngettext("%(n)s labeller here, %(left)s left · what teaches most first", "%(n)s labellers here, %(left)s left · what teaches most first", ahead.labellers), { n: ahead.labellers, left });
  $("none").textContent = left ? fill(gettext("The last %(n)s are with other labellers"), { n: left }) : gettext("Nothing waits to be judged");
  const rate = pace(times, Date.now());
  const given = fill(ngettext("%(n)s label in this session", "%(n)s labels in this session", times.length), { n: times.length });
  $("pace").textContent = times.length ? given + (rate ? fill(gettext(" · %(n)s a minute"), { n: Math.round(rate) }) : "") : "";
  $("undo").disabled = done.length === 0;
  if (!current?.recording) return;
  const { replay: told } = current.recording;
  $("title").textContent = fill(gettext("Episode %(uid)s"), { uid: told.uid.slice(0, 8) });
  $("robot").textContent = [told.robot, told.policy_number === null ? "" : `v${told.policy_number}`].filter(Boolean).join(" · ");
  const spans = told.interventions.map((i) => fill(gettext("steps %(start)s to %(end)s"), i));
  const corrected = ngettext(" %(n)s intervention: %(spans)s.", " %(n)s interventions: %(spans)s.", spans.length);
  const helped = spans.length ? fill(corrected, { n: spans.length, spans: spans.join(", ") }) : "";
  $("task").textContent = `${told.task}: “${told.instruction}”.${helped}`;
  paintChoice();
}

function paintChoice() {
  const point = failurePoint(replay.head);
  for (const slot of page.querySelectorAll("[data-point]")) slot.textContent = point === null ? "" : fill(gettext("at step %(n)s"), { n: point });
  for (const chip of page.querySelectorAll("[data-reason]")) chip.setAttribute("aria-pressed", String(chip.dataset.reason === reason));
}

function label(outcome, sinceMs) {
  if (!current?.recording) return;
  const entry = current;
  const uid = newUid();
  const body = verdict(uid, outcome, replay.head, reason);
  done.push({ uid: entry.uid, label: uid, entry });
  times.push(Date.now());
  next(sinceMs);
  drawn().then(() => done.slice(0, -OPEN_BEHIND).forEach((old) => ahead.forget(old.entry)));
  const detail = [body.failure_step === null ? "" : fill(gettext("at step %(n)s"), { n: body.failure_step }), said(body.reason.replaceAll("_", " "))].filter(Boolean).join(", ");
  say(`${entry.uid.slice(0, 8)}: ${said(outcome)}${detail ? `, ${detail}` : ""}`);
  outbox.put({ uid, episode: entry.uid, path: `${entry.uid}/give/`, body }, drawn());
}

function undo() {
  const last = done.pop();
  if (!last) return;
  times.pop();
  if (current) ahead.unshift(current);
  ahead.unshift({ ...last.entry, again: true });
  say(fill(gettext("%(uid)s: taken back, judge it again"), { uid: last.uid.slice(0, 8) }));
  outbox.put({ uid: newUid(), episode: last.uid, path: "withdraw/", body: { label: last.label } });
  next();
}

function skip() {
  if (!current) return;
  skipped.push(current.uid);
  say(fill(gettext("%(uid)s: skipped"), { uid: current.uid.slice(0, 8) }));
  ahead.forget(current);
  next();
}

function chooseReason(number) {
  const chip = page.querySelectorAll("[data-reason]")[number - 1];
  if (!chip) return;
  reason = reason === chip.dataset.reason ? "" : chip.dataset.reason;
  paintChoice();
}

document.addEventListener("keydown", (event) => {
  const focus = document.activeElement;
  const asked = askedOf(event, { tag: focus?.tagName ?? "", type: focus?.type });
  if (!asked) return;
  event.preventDefault();
  if (asked.label) label(asked.label, event.timeStamp);
  else if (asked.reason) chooseReason(asked.reason);
  else if (asked.undo) undo();
  else skip();
});
for (const button of page.querySelectorAll("[data-label]")) {
  button.addEventListener("click", (event) => {
    // After a click by mouse, Space is the replay's again: it must not judge the next episode.
    if (event.detail > 0) button.blur();
    label(button.dataset.label, event.timeStamp);
  });
}
for (const [i, chip] of [...page.querySelectorAll("[data-reason]")].entries()) chip.addEventListener("click", () => chooseReason(i + 1));
$("undo").addEventListener("click", undo);
$("skip").addEventListener("click", skip);
replay.changed = paintChoice;

if (page.dataset.first) ahead.unshift({ uid: page.dataset.first, task: "" });
outbox.flush();
showUnsaved(outbox, "", null);
next();
setInterval(() => !current && !ahead.asking && !document.hidden && next(), LOOK_AGAIN_MS);
keepSeat({ renew: () => ahead.renew(), leave: page.dataset.leave, name });
