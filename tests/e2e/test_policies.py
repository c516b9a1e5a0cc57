"""A lead goes back to an older version with one click, and everybody sees who runs what."""

import re

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Desk
from tests.e2e.site import Site

pytestmark = [pytest.mark.e2e, pytest.mark.sim, pytest.mark.slow, pytest.mark.timeout(300)]

# The base policy again with one weight moved a little: another version that acts the same.
PUBLISH = """
import torch
from learning import blobs
from learning.core.policies.base import load_policy, save_policy
from learning.models import Learner
from learning.services.policies import import_version
learner = Learner.objects.get()
policy = load_policy(blobs.store().get(learner.versions.get(number=1).sha256))
with torch.no_grad():
    next(policy.parameters()).view(-1)[0].add_(1e-4)
import_version(learner, artifact=save_policy(policy), gate={"imported": "test"})
"""


def test_a_lead_rolls_back_pins_and_goes_on_and_a_viewer_sees_it(desk: Desk, site: Site) -> None:
    site.run(PUBLISH)
    lead, viewer = desk.sign_in("lead"), desk.sign_in("viewer")
    lead.goto(f"{site.url}/policies/")
    lead.get_by_role("link", name=re.compile(r" v1$")).first.click()
    expect(lead.get_by_text("would change, at the end of the running episode")).to_be_visible()
    lead.get_by_role("button", name="Roll the fleet back to v1").click()
    expect(lead.get_by_text("what it publishes waits for a lead")).to_be_visible()
    expect(lead.get_by_text("No robot would change")).to_be_visible()

    # Pinning shows which robots change before it is done.
    lead.get_by_text("Roll out to some, start a canary, or pin").click()
    lead.get_by_label("Do", exact=True).select_option("pin")
    lead.get_by_label("To", exact=True).select_option("robots")
    lead.get_by_role("checkbox", name="robot-2").check()
    lead.get_by_role("button", name="Show which robots change").click()
    expect(lead.get_by_role("heading", name=re.compile("^Pin to"))).to_be_visible()
    lead.get_by_role("button", name="Pin these robots").click()
    expect(lead.get_by_text("Pinned to v1: robot-2")).to_be_visible()

    viewer.goto(f"{site.url}/policies/?state=assigned")
    row = viewer.get_by_role("row").filter(has=viewer.get_by_role("link", name=re.compile(" v1$")))
    expect(row.get_by_role("link", name="robot-1").last).to_be_visible()
    expect(row.get_by_text("pinned")).to_be_visible()
    expect(viewer.get_by_text("Rolled back: every robot from v2 to v1")).to_be_visible()
    expect(viewer.get_by_role("button", name="Unpin")).to_have_count(0)

    # Back to what everybody else's tests expect.
    lead.goto(f"{site.url}/policies/")
    lead.get_by_role("button", name="Unpin robot-2").click()
    expect(lead.get_by_text("Unpinned: robot-2.")).to_be_visible()
    lead.get_by_text("Change what a publish does").click()
    lead.get_by_label("Mode").select_option("automatic")
    lead.get_by_role("button", name="Change", exact=True).click()
    expect(lead.get_by_text("Each new version goes to every robot at once")).to_be_visible()
