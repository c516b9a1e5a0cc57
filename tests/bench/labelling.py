"""From a label's key going down in a real browser to the first picture of the next episode.

The page is the product's own desk, over episodes that the fleet's robots recorded a moment ago. The
desk measures it itself (`sop:next-frame`): from the key event's own timestamp to the frame after
the pictures were put on their canvases.
"""

import time
from pathlib import Path

from playwright.sync_api import TimeoutError as PlaywrightTimeout
from playwright.sync_api import sync_playwright

from tests.bench.chromium import CHROMIUM, LOOK_MS, sign_in

FOUND = "() => performance.getEntriesByName('sop:next-frame').map((one) => one.duration)"
# Robots make an episode in seconds; a labeller looks at each for a moment.
LOOKS_MS = 1000
WAITS_MS = 30_000


def measure(url: str, *, name: str, password: str, labels: int, budget_s: float) -> list[float]:
    """Judge up to `labels` episodes within `budget_s`; return milliseconds, one a label.

    Waits where nothing is left to judge: an episode that no robot has ended yet has no first frame.
    """
    until = time.monotonic() + budget_s
    with sync_playwright() as playwright:
        executable = CHROMIUM if Path(CHROMIUM).exists() else None
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        try:
            # The page's policy forbids eval, which is how conditions are put to it from outside.
            page = browser.new_page(bypass_csp=True)
            sign_in(page, url, name, password)
            page.goto(f"{url}/label/")
            found: list[float] = []
            given = 0
            while len(found) + given < labels and time.monotonic() < until:
                try:
                    page.wait_for_selector("canvas[data-shown]", timeout=WAITS_MS)
                    page.wait_for_selector(".ahead li", timeout=WAITS_MS)
                except PlaywrightTimeout:
                    # Nothing waits: ask again, as a person does. The page's figures go with it.
                    found += page.evaluate(FOUND)
                    given = 0
                    page.reload()
                    continue
                page.wait_for_timeout(LOOKS_MS)
                page.keyboard.press("s")
                given += 1
                page.wait_for_function(
                    f"(n) => ({FOUND})().length >= n", arg=given, timeout=WAITS_MS, polling=LOOK_MS
                )
            return found + [float(ms) for ms in page.evaluate(FOUND)]
        finally:
            browser.close()
