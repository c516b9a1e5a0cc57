// The robot page: pictures, who holds the robot, take over and hand back, outcome, release, resume.
import { Cameras } from "./cameras.js";
import { Controls } from "./controls.js";
import { Driver, lockout } from "./drive.js";
import { Episode } from "./episode.js";
import { condition, facts, holder, takeoverOffer, underEvaluation } from "./facts.js";
import { Feeds } from "./feed.js";
import { HandoverRow } from "./handover.js";
import { Latency, latencyKind, latencyWords } from "./latency.js";
import { pageLink } from "./link.js";
import { colour, paint, write } from "./paint.js";

const SHOW_MS = 100;
const LANES_MS = 250;
// What was said stays this long: longer than it takes to look up from the picture.
const SAID_MS = 8000;
const LOCKED = { stale: "Driving locked: the picture is stale", late: "Driving locked: the link is too late" };

const page = document.querySelector("[data-cockpit]");
const spec = JSON.parse(document.getElementById("robot-spec").textContent);
const $ = (name) => page.querySelector(`[data-${name}]`);
const robot = page.dataset.cockpit;
const link = pageLink();
const feeds = new Feeds(document.body.dataset.feedSocket);
const cameras = new Cameras({ page, spec, robot, feeds, changed: () => showFrame() });
const episode = new Episode(page, spec);
// A robot's own axes, where no camera gives a sense of direction: forward is +y.
const OWN_AXES_RAD = Math.PI / 2;
const driver = new Driver({
  robot,
  actionNames: spec.action_names,
  low: spec.action_low,
  high: spec.action_high,
  headingRad: OWN_AXES_RAD,
});
let state = null;
let telemetry = null;
const latency = new Latency();
let asking = false;
let saidMs = performance.now();
// Whether a state with our lease was seen: one from before the grant must not look like its end.
let seen = false;

/** From here to the robot and back: by commands while there are any, else by what probes both ways say. */
const latencyMs = () => latency.at(performance.now(), link.rttMs + (state?.heartbeat?.rtt_ms ?? NaN));
const seenNow = () => ({ frameAgeMs: cameras.ageMs(performance.now()), latencyMs: latencyMs() });
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
  say(asking ? "Asked for the robot" : "No connection to the server.", asking ? "" : "bad");
}

function handBack() {
  if (!mine()) return;
  link.send({ type: "HandBack", robot, epoch: driver.epoch });
  driver.release();
  say("Handed back to the policy");
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
  say(`Judged this episode: ${outcome}`);
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
let controls = null;
controls = new Controls({
  page,
  driver,
  actions,
  seen: seenNow,
  send: (message) => {
    if (link.send(message) && message.type === "Drive") latency.sent(message.t_client_ms);
  },
  say,
  frameChanged: () => showFrame(),
});
showFrame();

/** Drive in the frame of the large picture or in the robot's own, and say which way forward is. */
function showFrame() {
  const heading = controls?.liked.frame === "robot" ? null : cameras.camera?.heading_rad;
  driver.headingRad = heading ?? OWN_AXES_RAD;
  const hint = $("hint");
  if (!hint) return;
  const [side, axis] = driver.mirrored ? ["right", "+x"] : ["left", "−x"];
  write(hint, heading != null ? `W moves away from this camera, A to its ${side}` : `W moves along the robot's +y axis, A along ${axis}`);
}

function show() {
  if (!state) return;
  const context = { you: link.operator, nowMs: link.now(), online: link.online };
  const said = facts(state, context);
  paint(page, said);
  for (const slot of document.querySelectorAll("header [data-live]")) write(slot, said[slot.dataset.live] ?? "");
  const kind = link.online ? condition(state) : "offline";
  const evaluation = underEvaluation(state);
  const offer = mine() ? { free: true, words: "Driving · hand back" } : takeoverOffer(state, kind, link.operator);
  $("takeover").disabled = page.dataset.mayDrive !== "true" || !offer.free;
  write($("takeover-word"), offer.words);
  page.classList.toggle("mine", mine());
  handover.show();
  const may = page.dataset.mayDrive === "true" && link.online;
  $("hold").hidden = !(may && kind === "autonomous" && !evaluation);
  $("release").hidden = !(may && kind === "stopped" && !state.stop_pending);
  $("resume").hidden = !(may && kind === "holding" && !state.lease);
  for (const outcome of page.querySelectorAll("[data-outcome]")) {
    outcome.disabled = !may || evaluation || !state.heartbeat?.episode || (kind !== "human" && kind !== "autonomous" && kind !== "holding");
  }
  episode.describe();
}

/** What changes many times a second. */
function showFast() {
  const now = performance.now();
  cameras.tell(now);
  episode.showPlan(cameras, condition(state ?? { connection: "offline" }) === "human", now);
  const locked = mine() ? lockout(seenNow()) : "";
  const plate = $("lockout");
  if (plate) {
    if (!plate.hidden && !locked && mine()) say("Driving is free again. Press a key to go on.");
    if (locked) write(plate, LOCKED[locked]);
    plate.hidden = !locked;
  }
  if (now - saidMs > SAID_MS && page.dataset.mayDrive === "true") say("");
  const ms = link.online ? latencyMs() : NaN;
  const light = $("latency");
  write(light, latencyWords(ms));
  colour(light, latencyKind(ms), ["good", "holding", "bad", "offline"]);
  if (!telemetry) return;
  const { state: values, action } = telemetry;
  spec.state_names.slice(0, 4).forEach((name, i) => write($(`value='${name}'`), values[i].toFixed(3)));
  write($("applied"), action.map((v) => v.toFixed(2)).join("  "));
}

const on = (name, then) => document.body.addEventListener(name, (event) => then(event.detail));
on("sop:state", (next) => {
  if (next.robot !== robot) return;
  state = next;
  seen ||= mine() && next.lease?.epoch === driver.epoch;
  if (mine() && (next.lease ? next.lease.epoch > driver.epoch : seen)) {
    if (handover.passingTo) {
      driver.release();
      say(`Handed over to ${handover.passingTo}`);
    } else lose(next.lease ? `${holder(next, link.operator)} holds the robot now.` : "Your lease ended; the robot does not resume by itself.");
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
  if (!message.lease) return say(message.reason || "The robot is not free.", "bad");
  const gripper = spec.action_names.findIndex((name) => name.includes("gripper"));
  latency.forget();
  handover.passingTo = "";
  driver.grant(message.lease.epoch, gripper >= 0 && (telemetry?.action[gripper] ?? 0) > 0);
  controls.showGripper();
  say("You are driving. Silence means hold; hand back with T.");
  show();
});
on("sop:answer", ({ robot: name, answer }) => {
  if (name !== robot) return;
  if (answer.command === "Teleop" || answer.command === "Probe") latency.answered(answer.t_client_ms, performance.now());
  if (answer.command === "Probe") return;
  if (answer.command === "Teleop") {
    page.dataset.accepted = String(Number(page.dataset.accepted ?? 0) + (answer.accepted ? 1 : 0));
  }
  if (answer.accepted) return;
  if (answer.command === "LeaseGranted") lose("");
  if (answer.command === "PassControl") handover.passingTo = "";
  say(answer.reason || "The robot refused.", "bad");
});
on("sop:refused", (message) => {
  asking = false;
  say(message.reason, "bad");
});
on("sop:link", ({ online }) => {
  asking = false;
  if (!online) lose("The connection broke: the robot holds and does not resume by itself.");
  show();
});
// Opened from the help queue to take over at once; a reload of this page does not.
if (location.hash === "#take") {
  history.replaceState(null, "", location.pathname);
  document.body.addEventListener("sop:snapshot", takeOver, { once: true });
}
document.addEventListener("visibilitychange", () => feeds.later());

link.open({ type: "Watch", every: true, robots: [robot], telemetry: true });
setInterval(show, 1000);
setInterval(showFast, SHOW_MS);
setInterval(() => document.hidden || episode.showLanes(), LANES_MS);
