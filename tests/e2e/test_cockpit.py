"""Driving one robot: every device, what locks it out, and what a second person may do."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Desk
from tests.e2e.pages import RobotPage, drives
from tests.e2e.site import Site

pytestmark = [pytest.mark.e2e, pytest.mark.sim, pytest.mark.slow, pytest.mark.timeout(300)]

# What the Gamepad API says, from a script: a browser without hands has no gamepad.
GAMEPAD = """
let pad = null;
navigator.getGamepads = () => [pad, null, null, null];
window.setPad = (axes, down) => {
  pad = axes && {
    index: 0, connected: true, mapping: "standard", id: "scripted", axes,
    buttons: Array.from({ length: 17 }, (_, i) => ({ pressed: down.includes(i) })),
  };
};
"""
# A link on which every command of the operator's socket is under way for `window.lateMs` more;
# `window.asked` counts the driving commands at the moment the page sends them.
LATE_LINK = """
const Socket = window.WebSocket;
window.lateMs = 0;
window.asked = 0;
window.WebSocket = class extends Socket {
  send(data) {
    if (String(data).includes('"Drive"')) window.asked += 1;
    if (!this.url.includes("/ws/operator/") || !window.lateMs) return super.send(data);
    setTimeout(() => this.readyState === 1 && super.send(data), window.lateMs);
  }
};
"""
SHOULDER = 4
STILL = re.compile(r"^-?0\.00\s+-?0\.00\s+-?0\.00\s")


def driver(desk: Desk, robot: str, *, script: str = "") -> tuple[RobotPage, list]:
    """The operator, who holds the robot, and the commands that the page sends."""
    page: Page = desk.sign_in("operator")
    if script:
        page.add_init_script(script)
    sent = drives(page)
    cockpit = RobotPage(page, desk.site.url, robot).open().free()
    cockpit.take_over()
    return cockpit, sent


def test_a_gamepad_moves_the_arm_while_its_shoulder_is_held_and_its_loss_is_neutral(desk: Desk):
    cockpit, sent = driver(desk, "robot-1", script=GAMEPAD)
    page = cockpit.page

    def pad(axes: list[float], *down: int) -> None:
        page.evaluate("([axes, down]) => setPad(axes, down)", [axes, list(down)])

    up = [0, 0, 0, -1]
    pad(up)
    expect(page.locator("[data-device=gamepad]")).to_have_attribute("data-present", "true")
    assert not sent, "without the dead-man a stick says nothing"
    before = cockpit.hand_z()

    def driven() -> bool:
        # What the policy began may still raise the hand a little: it counts with commands only.
        commanded = any(message["action"][2] > 0.3 for message in sent)
        return commanded and cockpit.hand_z() > before + 0.02

    def held() -> bool:
        # After a lockout, which a busy machine may cause, the shoulder must be let go once.
        cockpit.keep()
        pad(up)
        page.wait_for_timeout(120)
        pad(up, SHOULDER)
        return cockpit.wait(driven, seconds=3)

    assert cockpit.wait(held)
    page.evaluate("setPad(null)")
    expect(cockpit.message).to_have_text("Gamepad lost: the robot stands still.")
    expect(page.locator("[data-applied]")).to_have_text(STILL)
    # It comes back with the button still down: nothing may move.
    count = len(sent)
    pad(up, SHOULDER)
    expect(page.locator("[data-device=gamepad]")).to_have_attribute("data-present", "true")
    page.wait_for_timeout(300)  # six periods of the driving clock in which nothing may go out
    assert len(sent) == count
    cockpit.hand_back()


def test_a_drag_on_the_picture_moves_the_arm_and_letting_go_is_neutral(desk: Desk):
    cockpit, sent = driver(desk, "robot-2")
    page = cockpit.page
    box = page.locator(".cam.main").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    before = cockpit.hand_z()

    def driven() -> bool:
        commanded = any(message["action"][2] > 0.1 for message in sent)
        return commanded and cockpit.hand_z() > before + 0.015

    def dragged() -> bool:
        cockpit.keep()
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x, y - box["width"] * 0.2)
        return cockpit.wait(driven, seconds=3)

    def up_and_again() -> bool:
        reached = dragged()
        if not reached:
            page.mouse.up()
        return reached

    page.keyboard.down("Shift")
    assert cockpit.wait(up_and_again)
    page.mouse.up()
    page.keyboard.up("Shift")
    expect(page.locator("[data-applied]")).to_have_text(STILL)
    cockpit.hand_back()


def test_speed_frame_mirror_and_language_are_chosen_and_remembered(desk: Desk):
    page = desk.robot("operator", "robot-2").page
    page.keyboard.press("+")
    page.keyboard.press("+")
    expect(page.locator("[data-speed-word]")).to_have_text("0.8")
    page.keyboard.press("m")
    expect(page.locator("[data-hint]")).to_have_text(re.compile("A to its right"))
    page.keyboard.press("c")
    expect(page.locator("[data-hint]")).to_have_text(re.compile(r"robot's \+y axis"))
    page.keyboard.press("?")
    expect(page.get_by_text("forward, back, left, right, while held")).to_be_visible()
    page.reload()
    expect(page.locator("[data-speed-word]")).to_have_text("0.8")
    expect(page.get_by_label("Mirror left and right")).to_be_checked()
    expect(page.get_by_label("Moves by")).to_have_value("robot")
    page.get_by_role("button", name="中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-hans")
    expect(page.get_by_label("移动参照")).to_have_value("robot")
    expect(page.locator("[data-hint]")).to_have_text(re.compile("W 沿机器人"))
    page.keyboard.press("c")
    expect(page.locator("[data-hint]")).to_have_text("W 远离此相机移动，A 向其右侧移动")
    page.reload()
    expect(page.locator("[data-hint]")).to_have_text("W 远离此相机移动，A 向其右侧移动")
    expect(page.get_by_role("button", name="English")).to_be_visible()


def test_a_late_link_turns_the_light_red_and_refuses_to_drive(desk: Desk):
    cockpit, sent = driver(desk, "robot-1", script=LATE_LINK)
    page = cockpit.page
    light = page.locator("[data-latency]")
    expect(light).to_have_text(re.compile(r"^\d+ ms · (good|slow)$"))
    cockpit.drive("r", until=lambda: cockpit.accepted() > 3)
    page.evaluate("window.lateMs = 450")
    page.keyboard.down("r")
    expect(light).to_have_text(re.compile("too late$"))
    # On a busy machine the picture may be stale as well, which is said first.
    expect(page.get_by_text("Driving locked")).to_be_visible()
    count = page.evaluate("window.asked")
    assert count > 3
    page.wait_for_timeout(300)  # six periods of the driving clock in which nothing may go out
    assert page.evaluate("window.asked") == count
    page.evaluate("window.lateMs = 0")
    expect(page.get_by_text("Driving locked")).to_be_hidden()
    # The key is still down; it was pressed for a moment that is over.
    page.wait_for_timeout(300)
    assert page.evaluate("window.asked") == count
    page.keyboard.up("r")
    count = len(sent)
    cockpit.drive("r", until=lambda: len(sent) > count + 3)
    cockpit.hand_back()


def a_correction_just_made_is_marked_trimmed_discarded_and_that_undone(
    desk: Desk, cockpit: RobotPage
) -> None:
    """A part of the next test: what it takes first is somebody who just drove."""
    page = cockpit.page
    bar = page.get_by_label("Last correction")
    title, said = bar.locator("[data-part=title]"), bar.locator("[data-part=said]")
    expect(title).to_have_text(re.compile(r"^Correction of \d+\.\d s$"))
    # Another tab of the same person, opened since: it shows the same, and what comes next.
    tab = page.context.new_page()
    other = RobotPage(tab, desk.site.url, cockpit.robot).open().page.get_by_label("Last correction")
    expect(other).to_be_visible()
    cockpit.press("2")
    expect(said).to_have_text("Marked as a recovery")
    cockpit.press("3")
    expect(bar.get_by_label("Keep from")).to_be_focused()
    cockpit.press("ArrowRight")
    cockpit.press("ArrowRight")
    cockpit.press("Enter")
    trimmed = re.compile(r"^Recovery: \d+\.\d s of \d+\.\d s$")
    expect(title).to_have_text(trimmed)
    expect(other.locator("[data-part=title]")).to_have_text(trimmed)
    other.get_by_role("button", name="Discard").click()
    for one in (bar, other):
        expect(one.locator("[data-part=title]")).to_have_text(re.compile("discarded$"))
    expect(said).to_have_text("Changed by operator")
    cockpit.press("u")
    expect(title).to_have_text(trimmed)
    expect(other.locator("[data-part=title]")).to_have_text(trimmed)
    tab.close()
    # The episode ends and is uploaded: what was said of it has come with it.
    episode = page.evaluate("JSON.parse(localStorage['sop.correction/robot-1']).episode")
    cockpit.press("n")
    expect(bar.get_by_text("still on the robot")).to_be_hidden()
    page.goto(f"{desk.site.url}/episodes/{episode}/")
    span = page.get_by_label("Interventions").locator("tbody[data-span]").last
    expect(span.locator("[data-fact=mark]")).to_have_text("recovery")
    span.get_by_text("Change, and history").click()
    expect(span.locator("[data-part=history] li")).to_have_count(4)
    span.get_by_role("button", name="Discard").click()
    expect(span.locator("[data-fact=kept]")).to_have_text("nothing")


def test_cameras_change_places_and_the_policys_way_is_drawn_where_it_can_be(desk: Desk):
    cockpit = desk.robot("operator", "robot-1").free()
    page = cockpit.page
    large = page.get_by_label("Large picture").locator("[data-camera]")
    way = large.locator("svg polyline")
    expect(large).to_have_attribute("data-camera", "front")
    expect(way).to_be_attached()
    expect(page.get_by_text("Line: where the policy is going")).to_be_visible()
    for trace in ("state", "action"):
        lines = page.locator(f"[data-trace={trace}] path:not(.ghost)")
        expect(lines.first).to_have_attribute("d", re.compile("L"))
        assert lines.count() == 4
    # The base, and what is made from it by hand, have neither, and the page says why.
    legend = "[data-trace={}] [data-legend]".format
    without = re.compile(r"v\d+ was (imported|trained) without an ensemble")
    expect(page.locator(legend("doubt"))).to_contain_text(without)
    expect(page.locator(legend("value"))).to_contain_text("no value function is fitted yet")
    cockpit.take_over()
    # Before a hand-back, this is what the policy would do.
    expect(page.get_by_text("Dashed: where the policy would go")).to_be_visible()
    page.keyboard.press("v")
    expect(large).to_have_attribute("data-camera", "wrist")
    expect(page.locator("[data-hint]")).to_have_text(re.compile(r"robot's \+y axis"))
    expect(way).to_have_count(0)  # a camera on the hand does not say where it is
    page.get_by_label("Small picture").click()
    expect(large).to_have_attribute("data-camera", "front")
    expect(page.locator("[data-hint]")).to_have_text(re.compile("away from this camera"))
    page.keyboard.press("z")
    expect(page.locator("[data-zoom]")).to_have_text("2×")
    assert "scale(2)" in (large.locator(".stage").get_attribute("style") or "")
    cockpit.drive("r", until=lambda: cockpit.accepted() > 2)
    cockpit.keep()
    cockpit.hand_back()
    a_correction_just_made_is_marked_trimmed_discarded_and_that_undone(desk, cockpit)


def test_a_page_opened_before_the_first_hello_shows_a_robot_that_holds(desk: Desk, site: Site):
    before = desk.robot("operator", "robot-2").free()
    before.act("Hold")
    before.expect_state("Holding")
    site.stop("robot-2")
    # Until then it counts as there, and a page that lacks its cameras reloads for them.
    before.expect_state(re.compile("Offline|Stale"))
    site.run("from fleet.models import Robot\nRobot.objects.filter(name='robot-2').update(spec={})")
    page = desk.sign_in("lead")
    page.goto(f"{site.url}/robots/robot-2/")
    expect(page.get_by_text("robot-2 has not introduced itself yet")).to_be_visible()
    site.start_robot("robot-2")
    # Nothing is pressed: it reloads by itself, and a scene is set though no episode begins.
    cockpit = RobotPage(page, site.url, "robot-2")
    expect(page.locator("main [data-camera] canvas[data-frame]")).to_have_count(2)
    cockpit.expect_state("Holding")
    cockpit.free()


def test_a_second_operator_asks_for_control_and_is_handed_it(desk: Desk):
    first, _ = driver(desk, "robot-1")
    second = desk.robot("lead", "robot-1")
    expect(second.takeover).to_have_text(re.compile("Held by operator"))
    second.press("g")
    expect(second.page.get_by_text("You ask for control")).to_be_visible()
    expect(first.page.get_by_text("Lead asks for control")).to_be_visible()
    first.act("Hand over to lead")
    expect(second.takeover).to_contain_text("hand back")
    expect(first.message).to_have_text("Handed over to lead")
    second.expect_state("Human · you")
    first.expect_state("Human · lead")
    expect(first.takeover).to_have_text(re.compile("Held by lead"))
    # The one drives, the other watches; nobody asks any more.
    second.drive("r", until=lambda: second.accepted() > 2)
    expect(first.page.locator("[data-asked]")).to_be_hidden()
    second.hand_back()
    first.expect_state("Autonomous")
