// The robot page: pictures, who holds the robot, take over and hand back, outcome, release, resume.
import { Controls } from "./controls.js";
import { Driver, STALE_VIDEO_MS } from "./drive.js";
import { condition, facts, holder, latencyKind, takeoverOffer, underEvaluation } from "./facts.js";
import { Feeds } from "./feed.js";
import { pageLink } from "./link.js";
import { colour, paint, write } from "./paint.js";
import { describe, draw, extend } from "./timeline.js";
import { age } from "./words.js";

const SHOW_MS = 100;
// Round trips are averaged over about this many commands.
const SMOOTHING = 0.2;
// What was said stays this long: longer than it takes to look up from the picture.
const SAID_MS = 8000;

const page = document.querySelector("[data-cockpit]");
const spec = JSON.parse(document.getElementById("robot-spec").textContent);
const $ = (name) => page.querySelector(`[data-${name}]`);
const robot = page.dataset.cockpit;
const link = pageLink();
const feeds = new Feeds(document.body.dataset.feedSocket);
const ages = new Map();
for (const cam of page.querySelectorAll("[data-camera]")) {
  ages.set(cam.dataset.camera, feeds.show(robot, cam.dataset.camera, "full", cam.querySelector("canvas")));
}
const front = spec.cameras.find((c) => c.heading_rad !== null) ?? spec.cameras[0];
const driver = new Driver({
  robot,
  actionNames: spec.action_names,
  low: spec.action_low,
  high: spec.action_high,
  headingRad: front?.heading_rad ?? Math.PI / 2,
});
let state = null;
let telemetry = null;
let line = { episode: "", spans: [] };
let commandMs = NaN;
let asking = false;
let saidMs = performance.now();
// Whether a state with our lease was seen: one from before the grant must not look like its end.
let seen = false;

const frameAgeMs = () => ages.get(front?.name)?.at(performance.now()) ?? Infinity;
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
};
const controls = new Controls({ page, driver, actions, frameAgeMs, send: (message) => link.send(message) });

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
  const may = page.dataset.mayDrive === "true" && link.online;
  $("hold").hidden = !(may && kind === "autonomous" && !evaluation);
  $("release").hidden = !(may && kind === "stopped" && !state.stop_pending);
  $("resume").hidden = !(may && kind === "holding" && !state.lease);
  for (const outcome of page.querySelectorAll("[data-outcome]")) {
    outcome.disabled = !may || evaluation || !state.heartbeat?.episode || (kind !== "human" && kind !== "autonomous" && kind !== "holding");
  }
  draw($("timeline"), line, Math.max(Number(page.dataset.timeoutTicks), line.spans.at(-1)?.end ?? 0));
  write($("timeline-words"), describe(line));
}

/** What changes many times a second. */
function showFast() {
  const now = performance.now();
  for (const cam of page.querySelectorAll("[data-camera]")) {
    const ms = ages.get(cam.dataset.camera).at(now);
    const slot = cam.querySelector("[data-age]");
    write(slot, ms === Infinity ? "no frame" : `frame ${age(ms)}`);
    slot.dataset.stale = String(ms > STALE_VIDEO_MS);
  }
  const lockout = $("lockout");
  const locked = mine() && frameAgeMs() > STALE_VIDEO_MS;
  if (!lockout.hidden && !locked && mine()) say("The picture is live again. Press a key to go on.");
  lockout.hidden = !locked;
  if (now - saidMs > SAID_MS && page.dataset.mayDrive === "true") say("");
  const ms = mine() && !Number.isNaN(commandMs) ? commandMs : link.rttMs;
  const light = $("latency");
  write(light, ms > 0 ? `${Math.round(ms)} ms` : "—");
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
    lose(next.lease ? `${holder(next, link.operator)} holds the robot now.` : "Your lease ended; the robot does not resume by itself.");
  }
  show();
});
on("sop:telemetry", (message) => {
  if (message.robot !== robot) return;
  telemetry = message.telemetry;
  line = extend(line, telemetry);
});
on("sop:takeover", (message) => {
  if (message.robot !== robot) return;
  asking = seen = false;
  if (!message.lease) return say(message.reason || "The robot is not free.", "bad");
  const gripper = spec.action_names.findIndex((name) => name.includes("gripper"));
  driver.grant(message.lease.epoch, gripper >= 0 && (telemetry?.action[gripper] ?? 0) > 0);
  controls.showGripper();
  say("You are driving. Silence means hold; hand back with T.");
  show();
});
on("sop:answer", ({ robot: name, answer }) => {
  if (name !== robot) return;
  if (answer.t_client_ms > 0 && answer.command === "Teleop") {
    const ms = performance.now() - answer.t_client_ms;
    commandMs = Number.isNaN(commandMs) ? ms : commandMs + SMOOTHING * (ms - commandMs);
    page.dataset.accepted = String(Number(page.dataset.accepted ?? 0) + (answer.accepted ? 1 : 0));
  }
  if (answer.accepted) return;
  if (answer.command === "LeaseGranted") lose("");
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
