"""From a key going down in a real browser to the robot's arbiter accepting the command.

The page is the product's own robot page. The clock starts at the key event's own timestamp and
stops at the robot's `Acknowledged.t_wall_ns`; browser and robot share this machine's clock. The
page is not changed: its WebSocket is listened to.
"""

import random
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

CHROMIUM = "/usr/bin/chromium"
KEYS = ("w", "s", "a", "d")
# How often the outcome is looked for. By default it would be once an animation frame, which makes
# the page draw sixty times a second.
LOOK_MS = 50

LISTEN = """
(() => {
  const log = (window.benchLog = { keys: [], sent: [], answers: {} });
  const wall = (ms) => performance.timeOrigin + ms;
  const Native = window.WebSocket;
  window.WebSocket = class extends Native {
    constructor(...args) {
      super(...args);
      this.addEventListener("message", (event) => {
        if (typeof event.data !== "string") return;
        const message = JSON.parse(event.data);
        if (message.type !== "CommandAnswer" || message.answer.command !== "Teleop") return;
        const { seq, epoch, accepted, reason, t_wall_ns } = message.answer;
        log.answers[`${epoch}/${seq}`] = { accepted, reason, robotMs: t_wall_ns / 1e6 };
      });
    }
    send(data) {
      if (typeof data === "string" && data.includes('"Drive"')) {
        const { seq, epoch } = JSON.parse(data);
        log.sent.push({ key: `${epoch}/${seq}`, ms: wall(performance.now()) });
      }
      super.send(data);
    }
  };
  document.addEventListener("keydown", (event) => {
    if (!event.repeat) log.keys.push(wall(event.timeStamp));
  }, true);
})();
"""

# What the last key press led to: how long it took, null while unanswered, or a refusal.
OUTCOME = """
() => {
  const log = window.benchLog;
  const down = log.keys.at(-1);
  const sent = log.sent.find((one) => one.ms >= down);
  const answer = sent && log.answers[sent.key];
  if (!answer) return null;
  // timeOrigin may have drifted from the wall clock since the page was loaded.
  const drift = Date.now() - (performance.timeOrigin + performance.now());
  return {
    refusal: answer.accepted ? "" : answer.reason,
    totalMs: answer.robotMs - (down + drift),
    sentMs: sent.ms - down,
  };
}
"""


# Whether the page sent a command for the last key press at all.
SENT = "() => window.benchLog.sent.some((one) => one.ms >= window.benchLog.keys.at(-1))"


@dataclass(frozen=True, slots=True)
class Press:
    """One key press whose command the robot accepted, in milliseconds since the key went down."""

    sent_ms: float
    total_ms: float


def sign_in(page: Page, url: str, name: str, password: str) -> None:
    """Sign in by the form."""
    page.goto(f"{url}/login/")
    page.fill("input[name=username]", name)
    page.fill("input[name=password]", password)
    page.press("input[name=password]", "Enter")
    page.wait_for_url(lambda at: "/login" not in at)


def _take_over(page: Page, until: float) -> bool:
    """Press T until the page drives. An evaluation under way makes that wait for its end."""
    while time.monotonic() < until:
        page.keyboard.press("t")
        try:
            page.wait_for_selector("[data-cockpit].mine", timeout=2000)
            return True
        except PlaywrightTimeout:
            continue
    return False


def measure(
    url: str, *, name: str, password: str, robot: str, presses: int, budget_s: float
) -> tuple[list[Press], Counter[str]]:
    """Drive `robot` from its page.

    Returns:
        The presses whose commands were accepted; and how many others count for nothing, by why:
        the refusal, or within a second not sent or not answered.
    """
    until = time.monotonic() + budget_s
    found: list[Press] = []
    lost: Counter[str] = Counter()
    chance = random.Random(0)
    with sync_playwright() as playwright:
        executable = CHROMIUM if Path(CHROMIUM).exists() else None
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        try:
            # The page's policy forbids eval, which is how conditions are put to it from outside.
            page = browser.new_page(bypass_csp=True)
            page.add_init_script(LISTEN)
            sign_in(page, url, name, password)
            page.goto(f"{url}/robots/{robot}/")
            page.bring_to_front()
            page.wait_for_selector("[data-cockpit]")
            if not _take_over(page, until):
                return [], lost
            number = 0
            while len(found) < presses and time.monotonic() < until:
                if not page.locator("[data-cockpit].mine").count() and not _take_over(page, until):
                    break
                key = KEYS[number % len(KEYS)]
                number += 1
                page.keyboard.down(key)
                try:
                    outcome = page.wait_for_function(
                        OUTCOME, timeout=1000, polling=LOOK_MS
                    ).json_value()
                    if outcome["refusal"]:
                        lost[re.sub(r"\d+", "…", outcome["refusal"])] += 1
                    else:
                        found.append(Press(outcome["sentMs"], outcome["totalMs"]))
                except PlaywrightTimeout:
                    lost["not answered" if page.evaluate(SENT) else "not sent"] += 1
                page.keyboard.up(key)
                # Not in step with the robot's 50 ms period, which would favour one phase of it.
                page.wait_for_timeout(chance.uniform(80, 200))
            page.keyboard.press("t")
        finally:
            browser.close()
    return found, lost
