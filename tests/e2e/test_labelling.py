"""The labelling desk in a real browser: episodes of the simulated fleet's format, judged by key."""

import json
import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Desk
from tests.e2e.pages import SLOW_MS
from tests.e2e.site import Site, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.sim, pytest.mark.slow, pytest.mark.timeout(300)]

# Episodes with pictures, through the ingest that robots use.
FILL = """
import numpy as np, simplejpeg, uuid
from fleet.models import Robot, Task
from fleet.protocol.episode import *
from fleet.protocol.simulation import robot_spec
from learning.services.ingest import close_episode, store_part
spec = robot_spec("image")
robot, task = Robot.objects.get(name="robot-1"), Task.objects.get(name="drawer-open")
for number in range(12):
    header = EpisodeHeader(episode=str(uuid.uuid4()), robot=robot.name, task=task.spec(),
        instruction=task.instruction, seed=900 + number, purpose="train", spec=spec,
        started_wall_ns=1_700_000_000_000_000_000, policy_number=1)
    def jpeg(step):
        return simplejpeg.encode_jpeg(np.full((128, 128, 3), 20 * number % 200 + step, np.uint8))
    steps = [Step(step=i, t_mono_ns=i, t_wall_ns=i, state=np.zeros(4, np.float32),
        action=np.zeros(4, np.float32), policy_number=1,
        images={c.name: jpeg(i) for c in spec.cameras} if i % 2 == 0 else {})
        for i in range(40)]
    data = encode_part(header, steps)
    store_part(uid=uuid.UUID(header.episode), index=0, data=data, sha256=sha256_of(data),
        robot=robot)
    close_episode(uid=uuid.UUID(header.episode), robot=robot, manifest=EpisodeManifest(
        header=header, ended_wall_ns=1_700_000_002_000_000_000, steps=40, outcome="success",
        judge="robot", parts=(PartRef(index=0, sha256=sha256_of(data), size_bytes=len(data),
        first_step=0, steps=40),)))
"""
SAY = """
import json, pathlib
from learning.models import Label
rows = Label.objects.filter(operator__user__username="{name}").order_by("id").values_list(
    "episode__uid", "outcome", "failure_step", "reason", "withdraws__outcome")
pathlib.Path("{path}").write_text(json.dumps([[str(r[0]), *r[1:]] for r in rows]))
"""
CLAIMS = """
import pathlib
from learning.models import DeskClaim
n = DeskClaim.objects.filter(operator__user__username="{name}").count()
pathlib.Path("{path}").write_text(str(n))
"""
# Two people judge one of them differently.
DISAGREE = """
from fleet.models import Operator
from learning.models import Episode
from learning.services.labels import add_label
episode = Episode.objects.get(seed=911)
for name, outcome in (("labeller", "success"), ("operator", "partial")):
    add_label(episode_uid=episode.uid, operator=Operator.objects.get(user__username=name),
        outcome=outcome, source="desk")
"""


@pytest.fixture(scope="module", autouse=True)
def _episodes(site: Site) -> None:
    site.run(FILL)


def labels(desk: Desk, name: str) -> list[list[object]]:
    path = desk.site.var / "labels.json"
    desk.site.run(SAY.format(path=path, name=name))
    rows: list[list[object]] = json.loads(path.read_text())
    return rows


def claims(desk: Desk, name: str) -> int:
    path = desk.site.var / "claims.txt"
    desk.site.run(CLAIMS.format(path=path, name=name))
    return int(path.read_text())


def shown(page: Page) -> str:
    """The episode on screen, once its picture is there."""
    canvas = page.locator(".cameras canvas[data-shown]").first
    expect(canvas).to_be_visible()
    return canvas.get_attribute("data-shown") or ""


def press_and_wait(page: Page, key: str) -> str:
    """Press a key that brings another episode; return that one."""
    before = shown(page)
    page.keyboard.press(key)
    expect(page.locator(f".cameras canvas[data-shown]:not([data-shown='{before}'])").first
           ).to_be_visible()  # fmt: skip
    return shown(page)


def test_episodes_are_judged_by_key_and_a_judgement_is_taken_back(desk: Desk) -> None:
    page = desk.sign_in("labeller")
    page.goto(f"{desk.site.url}/label/")
    first = shown(page)
    expect(page.locator(".cameras canvas[data-shown]")).to_have_count(2)
    expect(page.locator("[data-desk-waiting]")).to_contain_text(
        re.compile(r"1 labeller here, \d+ left")
    )

    # Who comes second is shown another episode, and lets go of it when they leave.
    other = desk.sign_in("lead")
    other.goto(f"{desk.site.url}/label/")
    assert shown(other) != first
    expect(other.locator("[data-desk-waiting]")).to_contain_text(
        re.compile(r"2 labellers here, \d+ left")
    )
    other.goto("about:blank")
    # Long before its claims would have expired.
    wait_until(lambda: claims(desk, "lead") == 0, "the claims are given up", seconds=30)

    second = press_and_wait(page, "s")
    # Stop in the middle, say why, and say failure: the step and the reason go with it.
    page.locator("[data-replay-scrub]").focus()
    page.keyboard.press("Home")
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
    expect(page.locator(".replay")).to_have_attribute("data-step", "30")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("2")
    expect(page.locator("[data-label=failure]")).to_contain_text("at step 29")
    third = press_and_wait(page, "f")
    fourth = press_and_wait(page, "p")
    assert len({first, second, third, fourth}) == 4

    # Taken back: the same episode again, and another judgement.
    assert press_and_wait(page, "z") == third
    assert press_and_wait(page, "a") == fourth
    expect(page.locator("[data-desk-unsaved]")).to_be_hidden(timeout=SLOW_MS)
    expect(page.locator("[data-desk-pace]")).to_contain_text("3 labels in this session")
    assert labels(desk, "labeller") == [
        [first, "success", None, "", None],
        [second, "failure", 29, "slipped", None],
        [third, "partial", None, "", None],
        [third, "", None, "", "partial"],
        [third, "abort", None, "", None],
    ]

    # What was judged does not come again, and what the history says is said.
    page.reload()
    assert shown(page) not in {first, second, third}
    page.goto(f"{desk.site.url}/label/{second}/")
    assert shown(page) == second


def test_a_judgement_made_without_a_connection_is_kept_and_saved_later(desk: Desk) -> None:
    page = desk.sign_in("operator")
    page.goto(f"{desk.site.url}/label/")
    first = shown(page)
    expect(page.locator(".ahead li")).to_have_count(3)
    page.route("**/give/", lambda route: route.abort("connectionrefused"))
    press_and_wait(page, "s")
    expect(page.locator("[data-desk-unsaved]")).to_have_text(re.compile("not saved yet"))
    page.unroute("**/give/")
    expect(page.locator("[data-desk-unsaved]")).to_be_hidden(timeout=SLOW_MS)
    assert [row[:2] for row in labels(desk, "operator")] == [[first, "success"]]
    # Chromium itself logs the refused connection.
    desk.errors[:] = [said for said in desk.errors if "ERR_CONNECTION_REFUSED" not in said]


def test_a_conflict_of_two_labellers_is_settled_by_a_button(desk: Desk, site: Site) -> None:
    site.run(DISAGREE)
    page = desk.sign_in("lead")
    page.goto(f"{site.url}/label/review/")
    row = page.get_by_role("row").filter(has_text="partial")
    row.get_by_role("button", name="as failure").click()
    expect(row.get_by_role("status")).to_have_text("settled: failure")
    page.reload()
    expect(page.get_by_text("No conflict to settle")).to_be_visible()
