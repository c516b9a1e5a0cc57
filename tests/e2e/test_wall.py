"""The wall of robots: what it shows, kept in its address and under a name."""

import re

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Desk

pytestmark = [pytest.mark.e2e, pytest.mark.sim, pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_view_lives_in_the_address_and_under_a_name(desk: Desk) -> None:
    fleet = desk.fleet("viewer")
    page = fleet.page
    tiles = page.get_by_role("article")
    expect(tiles).to_have_count(2)
    expect(fleet.tile("robot-1").locator("[data-live=task]")).to_have_text(
        re.compile("Drawer open")
    )

    page.get_by_label("Policy").select_option("evaluated")
    expect(tiles).to_have_count(0)
    expect(page.get_by_text("No robot is in this state now")).to_be_visible()
    page.get_by_label("Name of the view").fill("under test")
    page.get_by_role("button", name="Save view").click()
    expect(page.get_by_role("link", name="under test")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Policy")).to_have_value("evaluated")
    expect(tiles).to_have_count(0)

    fleet.open()
    expect(tiles).to_have_count(2)
    page.get_by_role("link", name="under test").click()
    expect(page.get_by_label("Policy")).to_have_value("evaluated")
    page.get_by_role("button", name="Remove the view under test").click()
    expect(page.get_by_role("link", name="under test")).to_have_count(0)


def test_tiles_stand_in_the_order_that_was_asked_for(desk: Desk) -> None:
    """What waits for a person is first, for the keyboard too."""
    other = desk.robot("operator", "robot-2").free()
    other.act("Hold")
    other.expect_state("Holding")
    page = desk.fleet("lead").page
    names = page.locator("[data-wall] .name")
    expect(names).to_have_text(["robot-2", "robot-1"])
    page.get_by_label("Sort").select_option("name")
    expect(names).to_have_text(["robot-1", "robot-2"])
    page.keyboard.press("Tab")
    page.locator("h1").click()
    page.keyboard.press("5")
    expect(page.get_by_role("article")).to_have_count(1)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_contain_text("stop the whole fleet")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_have_count(0)
    other.free()
