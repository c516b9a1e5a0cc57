"""Page objects: what a person sees and does on each page, in words of the product."""

import json
import re
import time
from collections.abc import Callable
from typing import Self

from playwright.sync_api import Locator, Page, WebSocket, expect

# A busy machine needs a moment. Conditions are waited for, never time.
SLOW_MS = 60_000
# So long it is tried to drive: a machine that is kept waiting for seconds rightly refuses to.
DRIVE_S = 150
expect.set_options(timeout=SLOW_MS)


def drives(page: Page) -> list[dict[str, object]]:
    """Collect the driving commands that the page sends from now on; call it before opening one."""
    sent: list[dict[str, object]] = []

    def note(payload: str | bytes) -> None:
        message = json.loads(payload)
        if message["type"] == "Drive":
            sent.append(message)

    def listen(socket: WebSocket) -> None:
        if "/ws/operator/" in socket.url:
            socket.on("framesent", note)

    page.on("websocket", listen)
    return sent


class SignInPage:
    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url

    def sign_in(self, name: str) -> "FleetPage":
        self.page.goto(f"{self.url}/login/")
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(name)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(f"{self.url}/")
        return FleetPage(self.page, self.url)


class FleetPage:
    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url

    def open(self) -> Self:
        self.page.goto(f"{self.url}/")
        return self

    def tile(self, robot: str) -> Locator:
        return self.page.get_by_role("article", name=f"Robot {robot}")

    def expect_state(self, robot: str, words: str | re.Pattern[str]) -> None:
        expect(self.tile(robot).locator("[data-live=state]")).to_have_text(words)

    def expect_live_picture(self, robot: str) -> None:
        expect(self.tile(robot).locator("canvas[data-frame]")).to_be_visible()

    def stop_fleet_by_key(self) -> None:
        self.page.keyboard.press("Shift+Escape")

    def expect_stop_confirmed(self, robots: int) -> None:
        words = f"{robots} of {robots} robot{'s' * (robots != 1)} confirmed the stop"
        expect(self.page.get_by_role("alert")).to_contain_text(words)


class RobotPage:
    def __init__(self, page: Page, url: str, robot: str) -> None:
        self.page, self.url, self.robot = page, url, robot
        self.state = page.locator("main [data-live=state]")
        self.message = page.locator("[data-message]")
        self.takeover = page.locator("[data-takeover]")

    def open(self) -> Self:
        self.page.goto(f"{self.url}/robots/{self.robot}/")
        expect(self.page.locator("main [data-camera] canvas[data-frame]").first).to_be_visible()
        return self

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)

    def take_over(self) -> None:
        """Take over as soon as it is offered: an evaluation may have to end first.

        One may also begin between the offer and the key; a person then presses again.
        """
        for _ in range(6):
            expect(self.takeover).to_be_enabled()
            self.press("t")
            try:
                expect(self.takeover).to_contain_text("hand back", timeout=SLOW_MS / 6)
            except AssertionError:
                continue
            return
        expect(self.takeover).to_contain_text("hand back")

    def hand_back(self) -> None:
        self.press("t")
        expect(self.takeover).not_to_contain_text("hand back")

    def expect_state(self, words: str | re.Pattern[str]) -> None:
        expect(self.state).to_have_text(words)

    def hand_z(self) -> float:
        """Height of the hand in metres, from the telemetry on the page."""
        slot = self.page.locator("[data-value=hand_z]")
        expect(slot).to_have_text(re.compile(r"\d\.\d+"))
        return float(slot.inner_text())

    def modes_of_next_states(self, count: int) -> list[str]:
        """Return the modes the server says in the next states of this robot."""
        modes: list[str] = self.page.evaluate(
            """([robot, count]) => new Promise((done) => {
                const modes = [];
                document.body.addEventListener("sop:state", ({ detail }) => {
                    if (detail.robot !== robot) return;
                    modes.push(detail.heartbeat.mode);
                    if (modes.length === count) done(modes);
                });
            })""",
            [self.robot, count],
        )
        return modes

    def drive(self, key: str, until: Callable[[], bool]) -> None:
        """Hold a key down until a condition holds.

        On a busy machine the picture may be stale or the link late for a moment, which ends the
        motion until the key is pressed anew: so does a person, and so does this.
        """
        for _ in range(DRIVE_S):
            self.keep()
            self.page.keyboard.down(key)
            reached = self.wait(until, seconds=1)
            self.page.keyboard.up(key)
            if reached:
                return
        raise AssertionError(f"driving with {key} did not get there")

    def keep(self) -> None:
        """Take the robot again where a busy machine let the lease run out."""
        if "hand back" not in self.takeover.inner_text():
            self.take_over()

    def accepted(self) -> int:
        """How many of this page's commands the robot has taken."""
        return int(self.page.locator("[data-cockpit]").get_attribute("data-accepted") or 0)

    def wait(self, condition: Callable[[], bool], *, seconds: float = SLOW_MS / 1000) -> bool:
        """Wait for a condition; Playwright's own wait_for_function needs eval, which we forbid."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.page.wait_for_timeout(50)
        return True

    def act(self, name: str) -> None:
        self.page.get_by_role("button", name=name).click()

    def free(self) -> Self:
        """Bring the robot to the policy, whatever an earlier test left behind."""
        expect(self.state).to_have_text(re.compile("Stopped|Holding|Autonomous"))
        if self.state.inner_text() == "Stopped":
            self.act("Release the stop")
            self.expect_state("Holding")
        if self.state.inner_text() == "Holding":
            self.act("Resume the policy")
        self.expect_state("Autonomous")
        return self
