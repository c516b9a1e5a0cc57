"""One real system and one browser for all e2e tests; a console error fails the test that had it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from scripts.embedded_redis import embedded_redis
from tests.e2e.pages import SLOW_MS, FleetPage, RobotPage, SignInPage
from tests.e2e.site import Site

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

# In one process: each start of Django costs a second or more. No evaluation, which
# may not be taken over and would be waited for by chance; no training, which nobody here looks at;
# robots ask for help only where a test makes them.
PREPARE = """
from django.core.management import call_command
from fleet.models import FleetSettings
from learning.models import Learner
call_command("prepare", robots=2, operators=1, tasks="drawer-open")
FleetSettings.objects.update(evaluate_every=0, help_still_s=0, help_failures=0)
Learner.objects.update(state="paused")
"""


class Desk:
    def __init__(self, site: Site, browser: Browser, signed_in: dict[str, Any]) -> None:
        self.site, self.browser, self.signed_in = site, browser, signed_in
        self.contexts: list[BrowserContext] = []
        # Errors and warnings of the consoles of all pages.
        self.errors: list[str] = []

    def page(self, **options: Any) -> Page:
        """Open an empty page of a session that nobody is signed in to."""
        context = self.browser.new_context(viewport={"width": 1440, "height": 900}, **options)
        self.contexts.append(context)
        context.set_default_timeout(SLOW_MS)
        context.on("console", self._said)
        context.on("weberror", lambda thrown: self.errors.append(str(thrown.error)))
        return context.new_page()

    def sign_in(self, name: str) -> Page:
        """Open a page of a session of `name`; each signs in once, hashing a password is slow."""
        if name not in self.signed_in:
            page = self.page()
            SignInPage(page, self.site.url).sign_in(name)
            self.signed_in[name] = page.context.storage_state()
            return page
        return self.page(storage_state=self.signed_in[name])

    def robot(self, name: str, robot: str) -> RobotPage:
        return RobotPage(self.sign_in(name), self.site.url, robot).open()

    def fleet(self, name: str) -> FleetPage:
        return FleetPage(self.sign_in(name), self.site.url).open()

    def close(self) -> None:
        for context in self.contexts:
            context.close()

    def _said(self, said: ConsoleMessage) -> None:
        if said.type in ("error", "warning"):
            self.errors.append(f"{said.text} ({said.location})")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    var = tmp_path_factory.mktemp("site")
    with embedded_redis(var) as redis_url:
        site = Site(var, redis_url)
        try:
            site.run(PREPARE)
            site.start_web()
            site.start_robot("robot-1")
            site.start_robot("robot-2")
            yield site
        finally:
            site.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Not for the whole session: while Playwright's sync API runs, this thread counts as being
    # inside an event loop, and everybody else's ORM and asyncio tests fail.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM if Path(CHROMIUM).exists() else None, args=ARGUMENTS
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def signed_in() -> dict[str, Any]:
    """Cookies of those who signed in, by name."""
    return {}


@pytest.fixture
def desk(site: Site, browser: Browser, signed_in: dict[str, Any]) -> Iterator[Desk]:
    """People at computers of their own: every page is of a session of its own."""
    desk = Desk(site, browser, signed_in)
    yield desk
    desk.close()
    assert not desk.errors, f"the browser's console says: {desk.errors}"
