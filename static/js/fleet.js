// The fleet page: one tile a robot, thumbnails of those on screen, and what the view asks for.
import { loadAnew } from "./anew.js";
import { facts, matches, tally } from "./facts.js";
import { Feeds } from "./feed.js";
import { typing } from "./keys.js";
import { pageLink } from "./link.js";
import { arrange, once } from "./once.js";
import { paint, write } from "./paint.js";
import { waits } from "./queue.js";
import { STALE_VIDEO_MS } from "./drive.js";
import { fill, gettext, said } from "./language.js";
import { queryOf, ranked, readView, shows } from "./wall.js";
import { age } from "./words.js";

const AGE_MS = 200;
// Tiles change places at most this often, or nobody could click one.
const ORDER_MS = 2000;
const wall = document.querySelector("[data-wall]");
const controls = document.querySelector("[data-view]");
const link = pageLink();
const tiles = new Map([...wall.querySelectorAll("[data-robot]")].map((tile) => [tile.dataset.robot, tile]));
const agePlates = new Map([...tiles].map(([robot, tile]) => [robot, tile.querySelector("[data-age]")]));
const ages = new Map();
// Robots whose tiles are to be painted before the next frame.
const stale = new Set();
let view = readView(location.search);
let feeds = null;

/** Robots that wait for a person: the queue's, and first on the wall. */
function asking() {
  return new Set([...link.help.values()].filter(waits).map((state) => state.robot));
}

/** A fleet says a hundred things a second: each tile is painted once a frame, whatever it was told. */
const paintSoon = once(() => {
  const asks = asking();
  const known = [...stale].map((robot) => link.robots.get(robot)).filter(Boolean);
  stale.clear();
  for (const state of known) paintTile(state, asks);
  summarise();
});

function paintTile(state, asks) {
  const tile = tiles.get(state.robot);
  // A robot that was registered after this page was made: the server renders its tile.
  if (!tile) return loadAnew();
  // One that had never been connected then: by its first heartbeat the server knows its cameras.
  if (state.connection === "online" && state.heartbeat && !("known" in tile.dataset)) loadAnew();
  paint(tile, facts(state, { you: link.operator, nowMs: link.now(), online: link.online }));
  tile.hidden = !shows(state, tile.dataset.site, view, asks);
}

function paintAll() {
  const asks = asking();
  stale.clear();
  for (const state of link.robots.values()) paintTile(state, asks);
  summarise();
}

/** Everything there is, before the next frame. */
function paintAllSoon() {
  for (const robot of link.robots.keys()) stale.add(robot);
  paintSoon();
}

/** What stands above and below the tiles. */
function summarise() {
  const states = [...link.robots.values()];
  const shown = [...tiles.values()].filter((tile) => !tile.hidden).length;
  const counts = tally(states);
  document.querySelector("[data-none]").hidden = shown > 0 || tiles.size === 0;
  for (const form of document.querySelectorAll("[data-when]")) form.hidden = counts[form.dataset.when] === 0;
}

/** Put the tiles in order, in the document too: keyboard and screen reader follow it. */
function order() {
  const wanted = ranked([...link.robots.values()], view.sort, asking()).map((robot) => tiles.get(robot)).filter(Boolean);
  const focused = document.activeElement;
  arrange(wall, wanted);
  if (wall.contains(focused)) focused.focus({ preventScroll: true });
}

/** Let the controls say what the view is. */
function showControls() {
  for (const button of controls.querySelectorAll("[data-filter]")) {
    button.setAttribute("aria-pressed", String(button.dataset.filter === view.state));
  }
  for (const select of controls.querySelectorAll("select")) {
    const known = [...select.options].some((option) => option.value === view[select.name]);
    // A saved view may name a task or site that is no more.
    if (!known) select.add(new Option(fill(gettext("%(name)s (none now)"), { name: view[select.name] }), view[select.name]));
    select.value = view[select.name];
  }
}

function choose(change) {
  view = { ...view, ...change };
  const query = queryOf(view);
  history.replaceState(null, "", query ? `?${query}` : location.pathname);
  showControls();
  paintAll();
  order();
}

/** Watch what is on screen, and nothing else. */
function watchVisible() {
  feeds = new Feeds(document.body.dataset.feedSocket);
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const { robot, camera } = target.dataset;
      if (isIntersecting) ages.set(robot, feeds.show(robot, camera, "thumbnail", target.querySelector("canvas")));
      else {
        feeds.hide(robot, camera, "thumbnail");
        ages.delete(robot);
      }
    }
  });
  for (const tile of tiles.values()) if (tile.dataset.camera) observer.observe(tile);
}

function paintAges() {
  const now = performance.now();
  for (const [robot, plate] of agePlates) {
    const ms = ages.get(robot)?.at(now) ?? Infinity;
    // To a tenth of a second: what flickers cannot be read, and is laid out anew each time.
    write(plate, ms === Infinity ? gettext("no frame") : age(100 * Math.ceil(ms / 100)));
    const late = String(ms > STALE_VIDEO_MS);
    if (plate.dataset.stale !== late) plate.dataset.stale = late;
  }
}

/** Send one message for each robot in a condition, as the buttons above the wall do. */
function forEvery(condition, message) {
  showRefusal("");
  for (const state of link.robots.values()) {
    if (matches(state, condition)) link.send({ ...message, robot: state.robot });
  }
}

/** What was refused, in the server's or the robot's words; gone with the next thing asked for. */
function showRefusal(text) {
  const box = document.querySelector("[data-refused]");
  box.textContent = text;
  box.hidden = text === "";
}

document.body.addEventListener("sop:state", ({ detail: { robot } }) => {
  stale.add(robot);
  paintSoon();
});
document.body.addEventListener("sop:snapshot", () => {
  paintAll();
  order();
});
document.body.addEventListener("sop:link", paintAllSoon);
document.body.addEventListener("sop:help", paintAllSoon);
document.body.addEventListener("sop:refused", (event) => showRefusal(said(event.detail.reason)));
document.body.addEventListener("sop:answer", ({ detail: { robot, answer } }) => {
  if (!answer.accepted) showRefusal(`${robot}: ${said(answer.reason) || gettext("refused")}`);
});
controls.addEventListener("click", (event) => {
  const button = event.target.closest("[data-filter]");
  if (button) choose({ state: button.dataset.filter });
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  const button = controls.querySelectorAll("[data-filter]")[Number(event.key) - 1];
  if (button) choose({ state: button.dataset.filter });
});
controls.addEventListener("change", ({ target }) => choose({ [target.name]: target.value }));
// The form that saves the view sends what the address says.
document.body.addEventListener("submit", ({ target }) => {
  if (target.matches("[data-save-view]")) target.elements.query.value = queryOf(view);
}, true);
document.querySelector("[data-release-all]")?.addEventListener("click", () => forEvery("stopped", { type: "ReleaseRobot" }));
document.querySelector("[data-resume-all]")?.addEventListener("click", () => forEvery("holding", { type: "ResumeRobot" }));

showControls();
link.open({ type: "Watch", every: true });
watchVisible();
setInterval(paintAges, AGE_MS);
setInterval(order, ORDER_MS);
