"""A hundred robots on the fleet page in Chromium at 1440x900: how smoothly it draws, and how soon.

The robots are those of `cameras.py`, which besides change what a tile says: state, task, outcomes
and link. The page is not changed; its clock, its long tasks and what it asks the feed socket for
are listened to.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession, sync_playwright

from learning.experiments.analysis import quantile
from learning.experiments.system import System
from tests.bench.chromium import CHROMIUM, sign_in
from tests.bench.report import Measure
from tests.bench.steal import StealWatch
from tests.bench.video import SETTLE_S, Lengths, cameras

ROBOTS = 100
VIEW = {"width": 1440, "height": 900}
CHOICES = 6
LOOKS = 5
# Above the page's fold, one row down, and the end.
PLACES = (0, 400, 1200, 100_000)
KEYS = (
    "wall_frame_p95_ms_100",
    "wall_long_tasks_per_min_100",
    "wall_unseen_thumbnails_100",
    "wall_choose_p95_ms_100",
    "wall_growth_mb_per_min_100",
)

LISTEN = """
(() => {
  const log = (window.benchWall = { frames: [], long: [], feeds: [] });
  let last = NaN;
  const tick = (now) => {
    if (!Number.isNaN(last)) log.frames.push(now - last);
    last = now;
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) log.long.push(duration);
  }).observe({ type: "longtask" });
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (data) {
    const message = typeof data === "string" ? JSON.parse(data) : {};
    if (message.type === "WatchFrames") log.feeds = message.feeds;
    return send.call(this, data);
  };
})();
"""
TAKE = """
() => ({ frames: window.benchWall.frames.splice(0), long: window.benchWall.long.splice(0) })
"""
# Tiles whose thumbnails are asked for, and of those the ones that nobody can see.
THUMBNAILS = """
() => {
  const asked = window.benchWall.feeds.map(([robot]) => robot);
  const seen = ({ top, bottom, width }) => width > 0 && bottom >= 0 && top <= innerHeight;
  const visible = [...document.querySelectorAll("[data-wall] [data-robot]")]
    .filter((tile) => seen(tile.getBoundingClientRect())).map((tile) => tile.dataset.robot);
  return { asked: asked.length, visible: visible.length,
    unseen: asked.filter((robot) => !visible.includes(robot)).length };
}
"""
# From a choice to the frame that shows it, one choice after another.
CHOOSE = """
async (times) => {
  const form = document.querySelector("[data-view]");
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const found = [];
  const choose = async (act) => {
    await frame();
    const since = performance.now();
    act();
    // What was done is in the document by then; asking for its place makes the browser lay it out.
    await frame();
    document.querySelector("[data-wall]").getBoundingClientRect();
    found.push(performance.now() - since);
  };
  const select = (name, value) => choose(() => {
    const field = form.querySelector(`select[name=${name}]`);
    field.value = value;
    field.dispatchEvent(new Event("change", { bubbles: true }));
  });
  for (let i = 0; i < times; i += 1) {
    for (const sort of ["name", "streak", "link", "urgency"]) await select("sort", sort);
    await choose(() => form.querySelector("[data-filter=holding]").click());
    await choose(() => form.querySelector("[data-filter=all]").click());
  }
  return found;
}
"""


@dataclass
class Seen:
    """What the page did."""

    frames_ms: list[float] = field(default_factory=list)
    long_ms: list[float] = field(default_factory=list)
    watched_s: float = 0.0
    thumbnails: list[dict[str, int]] = field(default_factory=list)
    choices_ms: list[float] = field(default_factory=list)
    # Megabytes of the page's JavaScript after a collection, at the start and at the end.
    heap_mb: list[float] = field(default_factory=list)
    nodes: list[int] = field(default_factory=list)


def watch(url: str, *, name: str, password: str, robots: int, seconds: float) -> Seen:
    """Look at the wall of `robots` robots that show pictures already, for about `seconds`."""
    seen = Seen()
    with sync_playwright() as playwright:
        executable = CHROMIUM if Path(CHROMIUM).exists() else None
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        try:
            page = browser.new_page(bypass_csp=True, viewport=VIEW)
            page.set_default_timeout(120_000)
            page.add_init_script(LISTEN)
            sign_in(page, url, name, password)
            page.goto(f"{url}/")
            page.wait_for_function(
                "(n) => document.querySelectorAll('[data-wall] [data-robot]:not(.offline)').length"
                " >= n && document.querySelectorAll('canvas[data-frame]').length > 0",
                arg=robots, polling=200,
            )  # fmt: skip
            page.wait_for_timeout(1000 * SETTLE_S)
            session = page.context.new_cdp_session(page)
            _heap(session, seen)
            page.evaluate(TAKE)
            started = time.monotonic()
            page.wait_for_timeout(1000 * seconds)
            _took(page.evaluate(TAKE), seen, time.monotonic() - started)
            _heap(session, seen)
            for place in PLACES:
                page.evaluate("(y) => scrollTo(0, y)", place)
                looks = []
                for _ in range(LOOKS):
                    page.wait_for_timeout(1000 * SETTLE_S / LOOKS)
                    looks.append(page.evaluate(THUMBNAILS))
                # Tiles change places: only what stays asked for is too much.
                seen.thumbnails.append(min(looks, key=lambda one: one["unseen"]))
            page.evaluate("() => scrollTo(0, 0)")
            seen.choices_ms = [float(ms) for ms in page.evaluate(CHOOSE, CHOICES)]
            return seen
        finally:
            browser.close()


def _took(said: dict[str, list[float]], seen: Seen, seconds: float) -> None:
    seen.frames_ms += said["frames"]
    seen.long_ms += said["long"]
    seen.watched_s += seconds


def _heap(session: CDPSession, seen: Seen) -> None:
    session.send("Performance.enable")
    session.send("HeapProfiler.collectGarbage")
    found: dict[str, Any] = session.send("Performance.getMetrics")
    metrics = {one["name"]: one["value"] for one in found["metrics"]}
    seen.heap_mb.append(metrics["JSHeapUsedSize"] / 2**20)
    seen.nodes.append(int(metrics["Nodes"]))


def walls(system: System, lengths: Lengths) -> list[Measure]:
    """Measure the fleet page with a hundred robots."""
    name, password = system.login("operator")
    with StealWatch() as steal, cameras(system, ROBOTS, lively=True):
        seen = watch(
            system.url, name=name, password=password, robots=ROBOTS, seconds=lengths.smooth_s
        )
    return measures(seen, str(steal))


def measures(seen: Seen, steal: str) -> list[Measure]:
    """Return what was seen as figures."""
    minutes = seen.watched_s / 60
    around = f"{ROBOTS} robots, server and browser on the same cores; {steal}"
    rate = len(seen.frames_ms) / max(seen.watched_s, 1e-9)
    most = max(seen.thumbnails, key=lambda one: one["unseen"])
    return [
        Measure(
            KEYS[0], quantile(seen.frames_ms, 0.95), "ms", "<= 50", seen.frames_ms,
            f"between animation frames of the fleet page over {seen.watched_s:.0f} s, "
            f"{rate:.0f} a second; {around}",
        ),
        Measure(
            KEYS[1], len(seen.long_ms) / minutes, "/min", "<= 12", seen.long_ms,
            f"tasks over 50 ms, longest {max(seen.long_ms, default=0):.0f} ms; {around}",
        ),
        Measure(
            KEYS[2], most["unseen"], "", "<= 0", [one["unseen"] for one in seen.thumbnails],
            "thumbnails asked for of tiles that are not on screen, at the worst of "
            f"{len(PLACES)} places; asked for / visible: "
            + ", ".join(f"{one['asked']} / {one['visible']}" for one in seen.thumbnails),
        ),
        Measure(
            KEYS[3], quantile(seen.choices_ms, 0.95), "ms", "<= 150", seen.choices_ms,
            f"a filter or an order chosen to the frame that shows it; {around}",
        ),
        Measure(
            KEYS[4], (seen.heap_mb[-1] - seen.heap_mb[0]) / minutes, "MB/min", "<= 1",
            seen.heap_mb,
            f"JavaScript of the page after a collection, first and last; DOM nodes {seen.nodes[0]} "
            f"to {seen.nodes[-1]}",
        ),
    ]  # fmt: skip
