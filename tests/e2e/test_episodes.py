"""Somebody looks for an episode, looks at it, and finds the list as it was."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Desk
from tests.e2e.site import Site

pytestmark = [pytest.mark.e2e, pytest.mark.sim, pytest.mark.slow, pytest.mark.timeout(300)]

UID = "abcdef01-2345-4678-8000-000000000001"
# Ten steps, four of them driven by a person; recorded without cameras.
MAKE = f"""
import uuid
from fleet.models import Robot, Task
from learning.models import Episode
from tests.learning.making import record, send
robot, task = Robot.objects.get(name="robot-2"), Task.objects.get(name="drawer-open")
for i, uid in enumerate(("{UID}", "abcdef01-2345-4678-8000-000000000002")):
    modes = (0,) * 4 + (1,) * 4 + (0,) * 2
    send(record(robot, task, uid=uuid.UUID(uid), modes=modes, outcome=("failure", "success")[i]),
         robot)
"""


def fact(page: Page, name: str) -> str:
    return page.locator(f"[data-facts] dt:text-is('{name}') + dd").inner_text()


def test_search_open_step_through_and_go_back_to_the_same_list(desk: Desk, site: Site) -> None:
    site.run(MAKE)
    page = desk.sign_in("viewer")
    page.goto(f"{site.url}/episodes/")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("abcdef01")
    # Nothing is submitted: the list and the address follow what is typed.
    expect(page.get_by_text("2 episodes found")).to_be_visible()
    page.get_by_role("combobox", name="Outcome").select_option("failure")
    expect(page.get_by_text("1 episode found")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/episodes/\?q=abcdef01&outcome=failure$"))

    page.locator("tbody a").first.click()
    expect(page.get_by_role("heading", name="Episode abcdef01")).to_be_visible()
    step = page.locator("[data-facts] dd").first
    expect(step).to_have_text("0 of 10")
    expect(page.locator("[data-actions] tr")).to_have_count(2)
    # The numbers follow the player, and the player follows a click on an intervention.
    page.get_by_role("button", name="One step on").click()
    expect(step).to_have_text("1 of 10")
    page.locator("button[data-step='4']").click()
    expect(step).to_have_text("4 of 10")
    expect(page.locator("[data-replay-where]")).to_have_text(re.compile("step 4 of 9"))
    assert fact(page, "In control") == "operator (operator)"
    expect(page.locator("[data-plot] path[data-line]")).to_have_attribute("d", re.compile("^M"))

    page.go_back()
    expect(page.get_by_text("1 episode found")).to_be_visible()
    expect(page.get_by_role("searchbox")).to_have_value("abcdef01")
    expect(page.get_by_role("combobox", name="Outcome")).to_have_value("failure")
    page.get_by_role("link", name="Remove the filter Outcome: failure").click()
    expect(page.get_by_text("2 episodes found")).to_be_visible()
    # Also through addresses that only live filtering made.
    page.get_by_role("combobox", name="Outcome").select_option("success")
    expect(page.get_by_text("1 episode found")).to_be_visible()
    page.go_back()
    expect(page.get_by_text("2 episodes found")).to_be_visible()
    expect(page.get_by_role("combobox", name="Outcome")).to_have_value("")
    assert page.evaluate("document.querySelectorAll('main').length") == 1
