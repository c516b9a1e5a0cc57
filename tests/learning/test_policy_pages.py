"""The registry, a version's controls, and tracing: who may, what is shown, what is refused."""

import uuid

import pytest
from django.contrib.messages import get_messages

from fleet.models import Robot
from learning.models import Canary, Learner, PolicyVersion
from learning.services.policies import assign_pending
from learning.services.rollouts import describe, pin
from learning.templatetags.lists import robot_links, version_links
from tests.learning.fleets import make_idle, make_version
from tests.learning.making import record, send
from tests.learning.test_evaluation_pages import signed_in

NAMES = ["arm-0", "arm-1", "arm-2", "arm-3"]


@pytest.fixture
def learner(db) -> Learner:
    return Learner.objects.create(name="hg")


@pytest.fixture
def versions(learner) -> list[PolicyVersion]:
    for name in NAMES:
        make_idle(name)
    found = [make_version(learner, n) for n in (1, 2)]
    assign_pending()
    return found


def text_of(client, path: str, status: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == status
    return answer.content.decode()


def said(answer) -> str:
    return " ".join(str(message) for message in get_messages(answer.wsgi_request))


ACTS = ("/policies/unpin/", "/policies/hg/mode/", "/policies/hg/2/rollback/",
        "/policies/hg/2/describe/", "/policies/hg/2/change/", "/policies/hg/rebuild/")  # fmt: skip


def test_everybody_may_look_and_only_leads_may_act(client, cast, versions):
    for path in ("/policies/", "/policies/2/", "/policies/taint/"):
        assert client.get(path).headers["Location"].startswith("/login/?next=")
        assert "Roll the fleet back" not in text_of(signed_in(cast.operator), path)
    for path in ACTS:
        assert signed_in(cast.operator).post(path).status_code == 403
    assert "Roll the fleet back to v2" in text_of(signed_in(cast.lead), "/policies/2/")
    assert set(Robot.objects.values_list("assigned_number", flat=True)) == {2}


def test_an_empty_registry_says_what_to_do_next(cast):
    page = text_of(signed_in(cast.viewer), "/policies/")
    assert "No version yet" in page
    assert "Nothing was changed by hand yet" in page


def test_the_registry_shows_who_runs_what_and_filters_and_pages(cast, versions, learner, task):
    Robot.objects.filter(name="arm-1").update(reported_number=1, reported_sha256=versions[0].sha256)
    pin(versions[0], robots=["arm-1"], operator=cast.lead)
    describe(versions[0], notes="the steady one", tags=["best"])
    make_version(learner, 3, state="rejected", gate={"reason": "not finite"})
    robot = Robot.objects.get(name="arm-0")
    for outcome in ("success", "success", "failure"):
        send(
            record(robot, task, purpose="eval", outcome=outcome, policy_number=2,
                   policy_sha256=versions[1].sha256),
            robot,
        )  # fmt: skip
    browser = signed_in(cast.viewer)
    page = text_of(browser, "/policies/")
    for words in ("the steady one", "not finite", "67 %", "n=3", "stays at v1", "pinned by lead"):
        assert words in page
    for query, numbers in (
        ("tag=best", {1}), ("state=rejected", {3}), ("state=published", {1, 2}),
        ("state=running", {1}), ("state=assigned", {1, 2}), ("state=canary", set()),
        ("learner=hg", {1, 2, 3}), ("tag=none", set()), ("learner=nobody", set()),
        ("state=%00rubbish", set()), ("page=999", {1, 2, 3}), ("page=x", {1, 2, 3}),
    ):  # fmt: skip
        page = text_of(browser, f"/policies/?{query}")
        assert {n for n in (1, 2, 3) if f">hg v{n}</a>" in page} == numbers, query
    assert "No version fits this filter" in text_of(browser, "/policies/?tag=none")
    for number in range(4, 30):
        make_version(learner, number)
    assert "page 2 of 2" in text_of(browser, "/policies/?state=published&page=2")


def test_a_change_is_shown_robot_by_robot_before_it_is_made(cast, versions):
    lead = signed_in(cast.lead)
    page = text_of(lead, "/policies/hg/1/change/?act=rollout&whom=share&share=50&reason=try")
    names = [name for name in NAMES if f'name="robots" value="{name}"' in page]
    assert len(names) == 2
    assert "hg becomes manual" in page
    assert set(Robot.objects.values_list("assigned_number", flat=True)) == {2}
    answer = lead.post(
        "/policies/hg/1/change/",
        {"act": "rollout", "whom": "robots", "robots": names, "reason": "try"},
    )
    assert answer.headers["Location"] == "/policies/1/?learner=hg"
    assert "hg is manual now" in said(answer)
    numbers = dict(Robot.objects.values_list("name", "assigned_number"))
    assert numbers == {name: 1 if name in names else 2 for name in NAMES}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "This field is required"),
        ("act=fly&whom=all", "Select a valid choice"),
        ("act=rollout&whom=robots", "Tick at least one robot"),
        ("act=rollout&whom=robots&robots=nobody", "Select a valid choice"),
        ("act=rollout&whom=share&share=0", "greater than or equal to 1"),
        ("act=rollout&whom=share", "how many percent"),
        ("act=pin&whom=all", "A pin is for named robots"),
        ("act=canary&whom=all", "leaves some robots"),
        ("act=canary&whom=share&share=50&alpha=7", "less than or equal to 0.5"),
        ("act=canary&whom=share&share=50&incumbent=hg+v77", "has no version 77"),
    ],
)
def test_rubbish_is_refused_in_words_and_changes_nothing(cast, versions, query, words):
    lead = signed_in(cast.lead)
    assert words in text_of(lead, f"/policies/hg/1/change/?{query}", 400)
    form = dict(part.split("=") for part in query.split("&") if part)
    assert lead.post("/policies/hg/1/change/", form).status_code == 400
    assert set(Robot.objects.values_list("assigned_number", flat=True)) == {2}
    assert lead.get("/policies/hg/99999999999/change/").status_code == 404
    assert lead.get("/policies/nobody/1/change/").status_code == 404


def test_one_click_rolls_the_fleet_back_and_says_that_publishes_wait(cast, versions):
    lead = signed_in(cast.lead)
    answer = lead.post("/policies/hg/1/rollback/", {"reason": "it drops things"})
    assert "what it publishes waits for a lead" in said(answer)
    assert set(Robot.objects.values_list("assigned_number", flat=True)) == {1}
    page = text_of(lead, "/policies/1/")
    assert "it drops things" in page
    assert "No robot would change" in page
    # What is newer than the fleet's version is no way back.
    assert "Roll v2 out to every robot" in text_of(lead, "/policies/2/")


def test_a_canary_is_begun_shown_and_cancelled_on_the_page(cast, versions):
    lead = signed_in(cast.lead)
    query = {"act": "canary", "whom": "share", "share": "50", "incumbent": "hg v1"}
    assert "Start the canary" in lead.get("/policies/hg/2/change/", query).content.decode()
    lead.post("/policies/hg/2/change/", query | {"reason": "new data", "episodes": "30"})
    canary = Canary.objects.get()
    assert (canary.episodes, canary.started_by, len(canary.robots)) == (30, cast.lead, 2)
    page = text_of(lead, "/policies/2/")
    for words in ("Canary against v1", "0 of 30 episodes an arm", "n=0", "Cancel the canary"):
        assert words in page
    fragment = f"/policies/canaries/{canary.uid}/_canary/"
    assert "Cancel the canary" not in text_of(signed_in(cast.viewer), fragment)
    assert text_of(lead, f"/policies/canaries/{uuid.UUID(int=1)}/_canary/", 404)
    lead.post(f"/policies/canaries/{canary.uid}/cancel/", {"reason": "enough"})
    assert "cancelled by lead" in text_of(lead, "/policies/2/").lower()


def test_modes_notes_and_pins_are_changed_by_forms_that_say_what_is_wrong(cast, versions):
    lead = signed_in(cast.lead)
    assert "hg is canary now" in said(lead.post("/policies/hg/mode/", {"mode": "canary"}))
    for path, form, words in (
        ("/policies/hg/mode/", {"mode": "sometimes"}, "Mode: Select a valid choice"),
        ("/policies/hg/mode/", {"mode": "canary", "share": "95"}, "Share"),
        ("/policies/hg/2/describe/", {"tags": "No!"}, "is no tag"),
        ("/policies/hg/2/describe/", {"notes": "x" * 3000}, "Notes: Ensure"),
        ("/policies/unpin/", {}, "Name at least one robot"),
        ("/policies/unpin/", {"robots": "nobody"}, "There is no robot nobody"),
    ):
        assert words in said(lead.post(path, form)), path
    lead.post("/policies/hg/2/describe/", {"notes": "good", "tags": "a, b  c"})
    assert sorted(versions[1].tags.values_list("name", flat=True)) == ["a", "b", "c"]
    lead.post("/policies/hg/1/change/", {"act": "pin", "whom": "robots", "robots": ["arm-2"]})
    Robot.objects.update(reported_number=1)
    assert "v1 · pinned" in text_of(lead, "/")
    assert "pinned" in text_of(lead, "/robots/arm-2/_policies/")
    assert "Unpinned: arm-2" in said(lead.post("/policies/unpin/", {"robots": "arm-2"}))


def test_bad_data_is_traced_and_a_rebuild_needs_that_something_is_named(cast, versions, task):
    robot = Robot.objects.get(name="arm-0")
    episode = send(record(robot, task, modes=(1, 1, 0, 0)), robot)
    lead = signed_in(cast.lead)
    assert "Nothing traced yet" in text_of(lead, "/policies/taint/")
    page = text_of(lead, "/policies/taint/?operator=ann")
    for words in ("1 episode meant", "No published version learned", "Exclude these episodes"):
        assert words in page
    assert "No episode fits" in text_of(lead, "/policies/taint/?operator=nobody")
    for query in ("episode=x", "since=2026-13-01", "since=2026-02-02&until=2026-01-01", "x=1"):
        assert 'class="flag"' in (page := text_of(lead, f"/policies/taint/?{query}", 400)) or (
            "notice error" in page
        )
    assert "Nothing was changed" in said(lead.post("/policies/hg/rebuild/", {}))
    assert lead.post("/policies/nobody/rebuild/", {"operator": "ann"}).status_code == 404
    done = lead.post("/policies/hg/rebuild/", {"operator": "ann", "reason": "slipped"})
    assert "1 episode is excluded" in said(done)
    assert "excluded" in text_of(lead, f"/episodes/{episode.uid}/")


def test_lists_in_sentences_name_a_few_versions_and_escape_names():
    learner = Learner(name="<hg>")
    many = [PolicyVersion(learner=learner, number=n) for n in range(1, 16)]
    assert version_links(many).endswith(">v12</a> and 3 more")
    assert version_links(many[:1]) == '<a href="/policies/1/?learner=&lt;hg&gt;">v1</a>'
    assert robot_links(["a", "b"]) == '<a href="/robots/a/">a</a>, <a href="/robots/b/">b</a>'
