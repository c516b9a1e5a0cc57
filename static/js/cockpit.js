// The robot page: pictures, who holds the robot, take over and hand back, outcome, release, resume.
import { cameToTake } from "./arrival.js";
import { Cameras } from "./cameras.js";
import { Controls } from "./controls.js";
import { Driver } from "./drive.js";
import { Episode } from "./episode.js";
import { condition, facts, holder, offers, takeoverOffer } from "./facts.js";
import { Feeds } from "./feed.js";
import { HandoverRow } from "./handover.js";
import { Lamp } from "./lamp.js";
import { fill, gettext, said as heard } from "./language.js";
import { pageLink } from "./link.js";
import { paint, write } from "./paint.js";

const SHOW_MS = 100;
const LANES_MS = 250;
// What was said stays this long: longer than it takes to look up from the picture.
const SAID_MS = 8000;

const page = document.querySelector("[data-cockpit]");
const spec = JSON.parse(document.getElementById("robot-spec").textContent);
const $ = (name) => page.querySelector(`[data-${name}]`);
const robot = page.dataset.cockpit;
const link = pageLink();
const feeds = new Feeds(document.body.dataset.feedSocket);
const cameras = new Cameras({ page, spec, robot, feeds, changed: () => showFrame() });
const episode = new Episode(page, spec);
const driver = new Driver({ robot, actionNames: spec.action_names, low: spec.action_low, high: spec.action_high, headingRad: 0 });
let [state, telemetry, controls] = [null, null, null];
let saidMs = performance.now();
// Whether a state with our lease was seen: one from before the grant must not look like its end.
let [asking, seen] = [false, false];

const mine = () => driver.epoch !== null;

/** Say something once, until the next thing is said. */
function say(text, kind = "") {
  const box = $("message");
  box.textContent = text;
  box.dataset.kind = kind;
  saidMs = performance.now();
}

// Not refused while the picture is stale: a takeover stops the policy, which may be what is needed.
function takeOver() {
  if (mine() || asking || page.dataset.mayDrive !== "true") return;
  asking = link.send({ type: "TakeOver", robot, t_client_ms: performance.now() });
  say(asking ? gettext("Asked for the robot") : gettext("No connection to the server."), asking ? "" : "bad");
}

function handBack() {
  if (!mine()) return;
  link.send({ type: "HandBack", robot, epoch: driver.epoch });
  driver.release();
  say(gettext("Handed back to the policy"));
  show();
}

/** The lease is gone, whoever ended it. */
function lose(text) {
  if (!mine()) return;
  driver.release();
  say(text, "bad");
}

function judge(outcome) {
  if (page.dataset.mayDrive !== "true" || !state?.heartbeat?.episode) return;
  link.send({ type: "Judge", robot, outcome, episode: state.heartbeat.episode });
  say(fill(gettext("Judged this episode: %(outcome)s"), { outcome: heard(outcome) }));
}

const actions = {
  takeover: () => (mine() ? handBack() : takeOver()),
  hold: () => link.send({ type: "HoldRobot", robot }),
  resume: () => link.send({ type: "ResumeRobot", robot }),
  release: () => link.send({ type: "ReleaseRobot", robot }),
  success: () => judge("success"),
  failure: () => judge("failure"),
  abort: () => judge("abort"),
  camera: () => cameras.next(),
  zoom: () => cameras.magnify(),
  enlarge: () => cameras.enlarge(),
  handover: () => handover.act(),
};
const handover = new HandoverRow({
  page,
  robot,
  send: (message) => link.send(message),
  say,
  now: () => ({ mine: mine(), held: state ? holder(state, link.operator) : "", you: link.operator, epoch: driver.epoch }),
});
const lamp = new Lamp({
  page,
  ageMs: (now) => cameras.ageMs(now),
  probedMs: () => link.rttMs + (state?.heartbeat?.rtt_ms ?? NaN),
  say,
});
controls = new Controls({
  page,
  driver,
  actions,
  seen: () => lamp.seen(),
  send: (message) => link.send(message) && lamp.sent(message),
  say,
  frameChanged: () => showFrame(),
});
showFrame();

/** Drive in the frame of the large picture, or in the robot's own. */
function showFrame() {
  cameras.direct(driver, controls?.liked.frame ?? "camera");
}

function show() {
  if (!state) return;
  const said = facts(state, { you: link.operator, nowMs: link.now(), online: link.online });
  paint(page, said);
  for (const slot of document.querySelectorAll("header [data-live]")) write(slot, said[slot.dataset.live] ?? "");
  const kind = link.online ? condition(state) : "offline";
  const offer = mine() ? { free: true, words: gettext("Driving · hand back") } : takeoverOffer(state, kind, link.operator);
  $("takeover").disabled = page.dataset.mayDrive !== "true" || !offer.free;
  write($("takeover-word"), offer.words);
  page.classList.toggle("mine", mine());
  handover.show();
  const may = page.dataset.mayDrive === "true" && link.online;
  const offered = offers(state, kind);
  for (const name of ["hold", "release", "resume"]) $(name).hidden = !(may && offered[name]);
  for (const outcome of page.querySelectorAll("[data-outcome]")) outcome.disabled = !(may && offered.judge);
  episode.describe();
}

/** What changes many times a second. */
function showFast() {
  const now = performance.now();
  cameras.tell(now);
  episode.showPlan(cameras, condition(state ?? { connection: "offline" }) === "human", now);
  lamp.show(link.online, mine());
  if (now - saidMs > SAID_MS && page.dataset.mayDrive === "true") say("");
  if (telemetry) episode.showNumbers(telemetry);
}

const on = (name, then) => document.body.addEventListener(name, (event) => then(event.detail));
on("sop:state", (next) => {
  if (next.robot !== robot) return;
  state = next;
  seen ||= mine() && next.lease?.epoch === driver.epoch;
  if (mine() && (next.lease ? next.lease.epoch > driver.epoch : seen)) {
    if (handover.passingTo) {
      driver.release();
      say(fill(gettext("Handed over to %(name)s"), { name: handover.passingTo }));
    } else lose(next.lease ? fill(gettext("%(holder)s holds the robot now."), { holder: holder(next, link.operator) }) : gettext("Your lease ended; the robot does not resume by itself."));
  }
  show();
});
on("sop:telemetry", (message) => {
  if (message.robot !== robot) return;
  telemetry = message.telemetry;
  episode.take(telemetry, performance.now());
});
on("sop:takeover", (message) => {
  if (message.robot !== robot) return;
  asking = seen = false;
  if (!message.lease) return say(heard(message.reason) || gettext("The robot is not free."), "bad");
  const gripper = spec.action_names.findIndex((name) => name.includes("gripper"));
  lamp.latency.forget();
  handover.passingTo = "";
  driver.grant(message.lease.epoch, gripper >= 0 && (telemetry?.action[gripper] ?? 0) > 0);
  controls.showGripper();
  say(gettext("You are driving. Silence means hold; hand back with T."));
  show();
});
on("sop:answer", ({ robot: name, answer }) => {
  if (name !== robot) return;
  lamp.answered(answer);
  if (answer.command === "Probe") return;
  if (answer.command === "Teleop") {
    page.dataset.accepted = String(Number(page.dataset.accepted ?? 0) + (answer.accepted ? 1 : 0));
  }
  if (answer.accepted) return;
  if (answer.command === "LeaseGranted") lose("");
  if (answer.command === "PassControl") handover.passingTo = "";
  say(heard(answer.reason) || gettext("The robot refused."), "bad");
});
on("sop:refused", (message) => {
  asking = false;
  say(heard(message.reason), "bad");
});
on("sop:link", ({ online }) => {
  asking = false;
  if (!online) lose(gettext("The connection broke: the robot holds and does not resume by itself."));
  show();
});
if (cameToTake()) document.body.addEventListener("sop:snapshot", takeOver, { once: true });

link.open({ type: "Watch", every: true, robots: [robot], telemetry: true });
setInterval(show, 1000);
setInterval(showFast, SHOW_MS);
setInterval(() => document.hidden || episode.showLanes(state?.heartbeat), LANES_MS);
