"""People at the console: real browser, real server, real simulated robots."""

import re

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Desk
from tests.e2e.pages import RobotPage, SignInPage, drives
from tests.e2e.site import Site

pytestmark = [pytest.mark.e2e, pytest.mark.sim, pytest.mark.slow, pytest.mark.timeout(300)]


def test_the_arm_moves_under_one_tab_and_holds_when_that_tab_is_closed(desk: Desk) -> None:
    other = desk.robot("lead", "robot-1").free()
    driver = desk.robot("operator", "robot-1")
    driver.take_over()
    other.expect_state("Human · operator")
    expect(other.takeover).to_have_text(re.compile("Held by operator"))

    before = driver.hand_z()
    driver.drive("r", until=lambda: driver.hand_z() > before + 0.02)
    expect(driver.page.locator("[data-applied]")).to_have_text(
        re.compile(r"^-?0\.00\s+-?0\.00\s+-?0\.00\s"),
    )
    # The other tab sees the same arm: its own telemetry says so.
    assert other.hand_z() > before + 0.015

    driver.page.close()
    other.expect_state("Holding")
    assert set(other.modes_of_next_states(4)) == {"holding"}
    other.act("Resume the policy")
    other.expect_state("Autonomous")


def test_a_robot_that_somebody_drives_is_refused_to_others_and_free_after_hand_back(
    desk: Desk,
) -> None:
    driver = desk.robot("operator", "robot-2").free()
    driver.take_over()
    other = desk.robot("lead", "robot-2")
    expect(other.takeover).to_be_disabled()
    driver.hand_back()
    other.expect_state("Autonomous")
    expect(other.takeover).to_be_enabled()


def test_looking_away_sends_no_more_commands_and_ends_in_holding(desk: Desk) -> None:
    other = desk.robot("lead", "robot-2").free()
    page = desk.sign_in("operator")
    sent = drives(page)
    driver = RobotPage(page, desk.site.url, "robot-2").open()
    driver.take_over()
    driver.drive("w", until=lambda: len(sent) > 3)
    page.keyboard.down("w")
    # Playwright keeps every page focused; this is what the browser tells a page that lost it.
    page.evaluate("document.hasFocus = () => false")
    page.evaluate("window.dispatchEvent(new Event('blur'))")
    assert driver.wait(lambda: sent[-1]["action"][:3] == [0, 0, 0])
    count = len(sent)
    other.expect_state("Holding")
    assert len(sent) == count
    other.act("Resume the policy")
    other.expect_state("Autonomous")


def test_a_stale_picture_locks_driving_out_and_says_so(desk: Desk, site: Site) -> None:
    desk.robot("lead", "robot-1").free()
    page = desk.sign_in("operator")
    sent = drives(page)
    RobotPage(page, site.url, "robot-1").open().take_over()
    lockout = page.get_by_text("Driving locked: the picture is stale")
    site.suspend("robot-1")
    try:
        # Far past the limit: a frame under way may still arrive after the first lock.
        age = page.locator("[data-camera] [data-age]").first
        expect(age).to_have_text(re.compile(r"frame (\d\d+|[2-9]\.\d) s"))
        expect(lockout).to_be_visible()
        page.keyboard.down("w")
        page.wait_for_timeout(300)  # six periods of the driving clock in which nothing may go out
        page.keyboard.up("w")
        assert all(message["action"][:3] == [0, 0, 0] for message in sent)
    finally:
        site.go_on("robot-1")
    expect(lockout).to_be_hidden()


def test_stop_fleet_by_key_is_confirmed_by_every_robot_and_needs_two_steps_back(desk: Desk) -> None:
    for robot in ("robot-1", "robot-2"):
        page = desk.robot("lead", robot).free().page
        page.close()
    viewer = desk.fleet("viewer")
    viewer.expect_state("robot-1", "Autonomous")
    viewer.expect_live_picture("robot-1")
    viewer.stop_fleet_by_key()
    viewer.expect_stop_confirmed(2)
    for robot in ("robot-1", "robot-2"):
        viewer.expect_state(robot, "Stopped")
    # A viewer may stop and may not undo it.
    expect(viewer.page.get_by_role("button", name="Release all stopped")).to_have_count(0)
    operator = desk.fleet("operator")
    operator.page.get_by_role("button", name="Release all stopped").click()
    operator.expect_state("robot-1", "Holding")
    operator.expect_state("robot-2", "Holding")
    operator.page.get_by_role("button", name="Resume all holding").click()
    operator.expect_state("robot-1", "Autonomous")
    operator.expect_state("robot-2", "Autonomous")


def test_stop_works_without_any_script(desk: Desk, site: Site) -> None:
    watcher = desk.robot("lead", "robot-2").free()
    page = desk.page(java_script_enabled=False)
    SignInPage(page, site.url).sign_in("viewer")
    page.goto(f"{site.url}/robots/robot-2/")
    page.get_by_role("button", name="Stop robot").click()
    expect(page.get_by_text("Stop sent to robot-2")).to_be_visible()
    watcher.expect_state("Stopped")
    watcher.free()


def test_filters_hide_tiles_and_say_when_nothing_is_left(desk: Desk) -> None:
    desk.robot("lead", "robot-1").free().page.close()
    fleet = desk.fleet("viewer")
    fleet.expect_live_picture("robot-1")
    fleet.page.get_by_role("button", name=re.compile("Offline")).click()
    expect(fleet.tile("robot-1")).to_be_hidden()
    fleet.page.get_by_role("button", name=re.compile("^All")).click()
    expect(fleet.tile("robot-1")).to_be_visible()


def test_a_lost_server_is_said_and_the_page_recovers_by_itself(desk: Desk, site: Site) -> None:
    fleet = desk.fleet("viewer")
    fleet.expect_live_picture("robot-2")
    site.stop("web")
    lost = fleet.page.get_by_text("No connection to the server")
    expect(lost).to_be_visible()
    fleet.expect_state("robot-2", "No connection")
    site.start_web()
    expect(lost).to_be_hidden()
    fleet.expect_state("robot-2", re.compile("Autonomous|Holding|Stopped"))
    # The browser reports refused connections and fragments; that is the point of this test.
    desk.errors[:] = [e for e in desk.errors if "ERR_CONNECTION" not in e and "htmx:" not in e]


def test_the_learner_is_drawn_under_the_content_security_policy(desk: Desk, site: Site) -> None:
    site.run(
        "from learning.models import Learner\n"
        "learner = Learner.objects.get()\n"
        "for step in range(0, 500, 25):\n"
        "    learner.metrics.create(step=step, values={\n"
        "        'loss': 1 / (step + 50), 'loss_online': {'drawer-open': 0.02},\n"
        "        'loss_offline': {'drawer-open': 0.01}, 'omega': {'drawer-open': 0.8},\n"
        "        'omega_raw': {'drawer-open': 0.9}, 'episodes_online': step // 25,\n"
        "        'episodes_offline': 10, 'steps_per_s': 12.5})\n"
    )
    page = desk.sign_in("lead")
    page.goto(f"{site.url}/learner/")
    for chart in ("loss", "omega", "buffers"):
        expect(page.locator(f"[data-chart={chart}] svg .scatterlayer path").first).to_be_attached()
    expect(page.get_by_text("No evaluation finished yet").first).to_be_visible()
    expect(page.get_by_role("cell", name=re.compile("robot-1"))).to_be_visible()
    page.get_by_role("button", name="Start the learner").click()
    expect(page.get_by_role("button", name="Pause the learner")).to_be_visible()
    page.get_by_role("button", name="Pause the learner").click()
    expect(page.get_by_role("button", name="Start the learner")).to_be_visible()


def test_an_evaluation_is_asked_for_and_watched_until_its_result(desk: Desk, site: Site) -> None:
    desk.robot("operator", "robot-1").free()
    page = desk.sign_in("lead")
    page.goto(f"{site.url}/evaluations/")
    version = page.locator("#versions option").first.get_attribute("value")
    assert version is not None
    page.get_by_label("Version", exact=True).fill(version)
    page.get_by_label("Trials per task and version").fill("2")
    page.get_by_label("Timeout in ticks").fill("12")
    page.get_by_role("button", name="Start the evaluation").click()
    page.wait_for_url(re.compile("/evaluations/[0-9a-f-]{36}/"))
    # Nothing is pressed from here on: the page follows what the robots do.
    expect(page.get_by_text("2 of 2").first).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="Every trial was run")).to_be_visible()
    expect(page.locator("[data-chart=evaluation] svg .barlayer path").first).to_be_attached()
    expect(page.get_by_role("button", name="Cancel")).to_be_hidden()
    desk.robot("operator", "robot-1").expect_state("Autonomous")


def test_scripted_operators_are_paused_for_everybody_who_looks(desk: Desk) -> None:
    operator, viewer = desk.fleet("operator"), desk.fleet("viewer")
    operator.page.get_by_role("button", name="Pause scripted operators").click()
    expect(viewer.page.locator("#scripted .chip")).to_have_text("paused")
    operator.page.get_by_role("button", name="Resume scripted operators").click()
    expect(viewer.page.locator("#scripted .chip")).to_have_text("1 registered")


def test_a_wrong_password_is_said_in_words(desk: Desk, site: Site) -> None:
    page = desk.page()
    page.goto(f"{site.url}/login/")
    page.get_by_label("Name").fill("operator")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text(re.compile("do not match"))


def test_a_narrow_page_needs_no_sideways_scrolling(desk: Desk, site: Site) -> None:
    page = desk.sign_in("lead")
    page.set_viewport_size({"width": 390, "height": 844})
    for path in (
        "/", "/robots/robot-1/", "/learner/", "/episodes/", "/evaluations/", "/experiments/"
    ):  # fmt: skip
        page.goto(site.url + path)
        over = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert over <= 0, f"{path} is {over} px too wide"
        expect(page.get_by_role("button", name="Stop fleet")).to_be_in_viewport()
