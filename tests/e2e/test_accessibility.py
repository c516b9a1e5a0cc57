"""Every page against WCAG 2.2 AA by axe-core, at the width of a desk and of a phone.

What each looked like in both themes is kept in var/screenshots.
"""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Desk
from tests.e2e.pages import FleetPage, RobotPage

pytestmark = [pytest.mark.e2e, pytest.mark.sim, pytest.mark.slow, pytest.mark.timeout(300)]

SCREENSHOTS = Path(__file__).resolve().parents[2] / "var" / "screenshots"
WIDTHS = (1440, 390)
THEMES = ("light", "dark")
# Each width and each theme once; tests/fleet/test_contrast.py has every colour in both.
EXAMINED = {(1440, "light"), (390, "dark")}
RULES = {
    "resultTypes": ["violations"],
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}
PAGES = {
    "fleet": "/",
    "cockpit": "/robots/robot-1/",
    "episodes": "/episodes/",
    "episode": "/episodes/",
    "learner": "/learner/",
    "policies": "/policies/",
    "version": "/policies/1/",
    "taint": "/policies/taint/",
    "evaluations": "/evaluations/",
    "experiments": "/experiments/",
    "dashboards": "/dashboards/",
    "label": "/label/",
}


def check(page: Page, name: str) -> None:
    """Look at a page in both themes and widths; raises AssertionError with all that is wrong."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    found = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for theme in THEMES:
            page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            page.screenshot(path=SCREENSHOTS / f"{name}-{width}-{theme}.png", full_page=True)
            if (width, theme) not in EXAMINED:
                continue
            report = Axe().run(page, options=RULES)
            found += [
                f"{width} px, {theme}: {wrong['id']}: {node['target']}: {node['failureSummary']}"
                for wrong in report.response["violations"]
                for node in wrong["nodes"]
            ]
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > width:
            found.append(f"{width} px: the page is {wide} px wide")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", PAGES)
def test_everybody_can_read_and_use_the_page(desk: Desk, name: str) -> None:
    page = desk.sign_in("lead")
    match name:
        case "fleet":
            FleetPage(page, desk.site.url).open().expect_live_picture("robot-1")
        case "cockpit":
            RobotPage(page, desk.site.url, "robot-1").open()
        case _:
            page.goto(f"{desk.site.url}{PAGES[name]}")
            page.wait_for_load_state("networkidle")
    if name == "episode":
        page.get_by_role("row").get_by_role("link").first.click()
        expect(page.get_by_role("heading", name="Lineage")).to_be_visible()
    check(page, name)


def test_everybody_can_sign_in(desk: Desk) -> None:
    page = desk.page()
    page.goto(f"{desk.site.url}/login/")
    check(page, "login")
