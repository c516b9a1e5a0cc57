"""A robot asks, everybody sees it, one comes: real browser, real server, real simulated robots."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.conftest import Desk
from tests.e2e.pages import FleetPage, RobotPage
from tests.e2e.site import Site

pytestmark = [pytest.mark.e2e, pytest.mark.sim, pytest.mark.slow, pytest.mark.timeout(300)]


def request(page: Page, robot: str, reason: str = "") -> Locator:
    """The robot's request in the help queue of a fleet page, if it is for that reason.

    A robot of these tests may ask for a reason of its own, too: its policy often fails.
    """
    queue = page.get_by_role("region", name="Help queue")
    link = page.get_by_role("link", name=robot)
    return queue.get_by_role("listitem").filter(has=link, has_text=reason)


def answer_all(desk: Desk) -> None:
    """Leave no request in the queue, whatever an earlier test left there: keys act on the first."""
    for robot in ("robot-1", "robot-2"):
        desk.robot("lead", robot).free().page.close()
    page = desk.fleet("lead").page
    queue = page.get_by_role("region", name="Help queue")
    for robot in ("robot-1", "robot-2"):
        left = request(page, robot)
        if left.count():
            left.get_by_role("button", name="Skip").click()
            left.get_by_label("Why is it skipped?").fill("left by an earlier test")
            page.keyboard.press("Enter")
    expect(queue.get_by_role("listitem")).to_have_count(0)
    page.close()


def ask_for(desk: Desk, robot: str) -> Page:
    """Have a lead ask for help on the robot's page, and return to the fleet page in that tab."""
    answer_all(desk)
    asker = desk.robot("lead", robot).free()
    expect(asker.page.get_by_role("button", name="Ask for help")).to_be_enabled()
    asker.press("h")
    expect(asker.page.get_by_role("button", name="No help needed")).to_be_visible()
    page = FleetPage(asker.page, desk.site.url).open().page
    expect(request(page, robot)).to_contain_text("asked for")
    return page


def test_a_request_is_seen_in_two_tabs_taken_by_one_key_and_gone_when_the_robot_was_helped(
    desk: Desk, site: Site
) -> None:
    watcher = ask_for(desk, "robot-1")
    operator = desk.fleet("operator").page
    expect(request(operator, "robot-1")).to_contain_text(re.compile(r"waiting \d+ s of 30 s"))
    asking = ".tile.asks[data-robot='robot-1']"
    for page in (operator, watcher):
        expect(page.locator(asking)).to_be_visible()

    operator.keyboard.press("h")
    driver = RobotPage(operator, site.url, "robot-1")
    expect(driver.takeover).to_contain_text("hand back")
    driver.expect_state("Human · you")
    expect(request(watcher, "robot-1")).to_contain_text("operator has it")
    expect(watcher.locator(asking)).to_have_count(0)
    # Whoever drives for more than five steps of the control loop has helped, and nobody sooner.
    driver.drive("r", until=lambda: driver.accepted() > 10)
    driver.hand_back()
    expect(request(watcher, "robot-1", "asked for")).to_have_count(0)
    # Only the key takes over, not a reload of the page it led to.
    operator.reload()
    driver.expect_state("Autonomous")


def test_a_request_is_skipped_with_a_reason_and_an_abandoned_robot_is_resumed_from_the_queue(
    desk: Desk,
) -> None:
    queue = ask_for(desk, "robot-2")
    queue.keyboard.press("k")
    queue.get_by_label("Why is it skipped?").fill("the drawer was only slow")
    queue.keyboard.press("Enter")
    expect(request(queue, "robot-2", "asked for")).to_have_count(0)

    driver = desk.robot("operator", "robot-2")
    driver.take_over()
    driver.page.close()
    left = request(queue, "robot-2")
    expect(left).to_contain_text("operator left")
    left.get_by_role("button", name="Resume the policy").click()
    # What was asked for and skipped is not asked for again.
    expect(request(queue, "robot-2", "asked for")).to_have_count(0)


def test_the_sound_is_off_until_it_is_asked_for_and_stays_on(desk: Desk) -> None:
    page = ask_for(desk, "robot-1")
    assert page.evaluate("document.body.dataset.beeps") is None
    page.get_by_label("Sound and notification").check()
    expect(page.locator("body[data-beeps='1']")).to_be_attached()
    page.reload()
    expect(page.get_by_label("Sound and notification")).to_be_checked()
    expect(request(page, "robot-1")).to_be_visible()
    page.locator("h1").click()  # browsers are silent before a person does something
    other = desk.robot("operator", "robot-1")
    for words in ("Ask for help", "No help needed"):
        other.press("h")
        expect(other.page.get_by_role("button", name=words)).to_be_visible()
    expect(page.locator("body[data-beeps='1']")).to_be_attached()
    other.press("h")
    expect(request(page, "robot-1", "asked for")).to_have_count(0)
