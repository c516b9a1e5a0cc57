"""Rollouts by hand: to all, to some, back, pins, and what publishes do in each mode."""

import itertools
from functools import partial

import pytest

from fleet.models import Robot
from learning.exceptions import Unprocessable
from learning.models import Learner, PolicyChange, PolicyVersion, Rollout
from learning.selectors.rollouts import moves, share_of
from learning.services import rollouts
from learning.services.policies import assign_pending, assign_published
from tests.factories import make_operator, make_robot
from tests.learning.fleets import make_version
from tests.race import at_once

pytestmark = pytest.mark.django_db
NAMES = [f"arm-{i}" for i in range(5)]


@pytest.fixture
def learner(db) -> Learner:
    return Learner.objects.create(name="hg")


@pytest.fixture
def fleet(learner) -> list[PolicyVersion]:
    """Five robots that run the newest of three versions."""
    for name in NAMES:
        make_robot(name)
    versions = [make_version(learner, n) for n in (1, 2, 3)]
    assign_pending()
    return versions


def assigned() -> dict[str, int | None]:
    return dict(Robot.objects.order_by("name").values_list("name", "assigned_number"))


def publish(learner: Learner, number: int) -> PolicyVersion:
    version = make_version(learner, number)
    assign_published(version)
    return version


def test_a_rollback_moves_every_robot_and_no_publish_or_sweep_undoes_it(fleet, learner, cast):
    assert set(assigned().values()) == {3}
    told = rollouts.roll_back(fleet[0], operator=cast.lead, reason="it drops things")
    assert told == NAMES
    assert rollouts.roll_back(fleet[0], operator=cast.lead) == []
    publish(learner, 4)
    late = make_robot("late")
    assign_pending()
    assert set(assigned().values()) == {1}
    late.refresh_from_db()
    assert late.assigned_number == 1
    change = PolicyChange.objects.order_by("pk").first()
    assert (change.kind, change.version, change.operator, change.reason) == (
        "rolled_back", fleet[0], cast.lead, "it drops things",
    )  # fmt: skip
    assert change.what == "every robot from v3 to v1; the learner is manual now, it was automatic"
    rollouts.set_mode(learner, "automatic", operator=cast.lead)
    assert set(assigned().values()) == {4}


@pytest.mark.parametrize(
    ("whom", "there"),
    [
        ({"robots": ["arm-1", "arm-3", "arm-3"]}, ["arm-1", "arm-3"]),
        ({"share": 40}, share_of(NAMES, 40, key="hg")),
        ({"share": 100}, NAMES),
        ({}, NAMES),
    ],
    ids=["named", "share", "hundred", "all"],
)
def test_a_rollout_moves_whom_its_preview_names_and_nobody_else(fleet, cast, whom, there):
    old = fleet[0]
    before = {m.robot.name for m in moves(old, there) if not m.stays}
    assert rollouts.roll_out(old, operator=cast.lead, **whom) == sorted(before) == there
    assert assigned() == {name: 1 if name in there else 3 for name in NAMES}
    # Neither a sweep nor another publish mixes them up.
    publish(old.learner, 4)
    assign_pending()
    assert assigned() == {name: 1 if name in there else 3 for name in NAMES}


def test_a_larger_share_holds_the_smaller_and_a_newcomer_moves_hardly_anybody():
    names = [f"r{i}" for i in range(50)]
    shares = [set(share_of(names, p, key="hg")) for p in (1, 10, 50, 100)]
    assert [len(s) for s in shares] == [1, 5, 25, 50]
    assert all(small <= large for small, large in itertools.pairwise(shares))
    assert shares[2] != set(share_of(names, 50, key="recap"))
    more = set(share_of([*names, "new"], 50, key="hg"))
    assert len(more ^ shares[2]) <= 2


@pytest.mark.parametrize(
    ("whom", "words"),
    [
        ({"robots": []}, "at least one robot"),
        ({"robots": ["arm-1", "nobody"]}, "no robot nobody"),
        ({"share": 0}, "from 1 to 100"),
        ({"share": 101}, "from 1 to 100"),
        ({"share": 50, "robots": ["arm-1"]}, "not both"),
    ],
)
def test_a_rollout_to_nobody_in_particular_is_refused_and_changes_nothing(fleet, cast, whom, words):
    with pytest.raises(Unprocessable, match=words):
        rollouts.roll_out(fleet[0], operator=cast.lead, **whom)
    assert set(assigned().values()) == {3}
    assert not PolicyChange.objects.exists()


def test_a_version_that_failed_its_gate_runs_nowhere(fleet, learner, cast):
    bad = make_version(learner, 4, state="rejected")
    for act in (rollouts.roll_out, rollouts.roll_back, partial(rollouts.pin, robots=NAMES)):
        with pytest.raises(Unprocessable, match="did not pass its gate"):
            act(bad, operator=cast.lead)


def test_a_pinned_robot_is_passed_by_until_it_is_unpinned_and_then_catches_up(fleet, learner, cast):
    assert rollouts.pin(fleet[1], robots=["arm-2"], operator=cast.lead, reason="demo") == ["arm-2"]
    publish(learner, 4)
    rollouts.roll_back(fleet[0], operator=cast.lead)
    assert assigned() == dict.fromkeys(NAMES, 1) | {"arm-2": 2}
    robot = Robot.objects.get(name="arm-2")
    assert (robot.pinned_by, robot.pin_reason) == ("lead", "demo")
    (stays,) = [m for m in moves(fleet[0], None) if m.robot.name == "arm-2"]
    assert stays.stays == "pinned to v2 by lead"
    assert rollouts.unpin(robots=["arm-2", "arm-1"], operator=cast.lead) == ["arm-2"]
    assert set(assigned().values()) == {1}
    assert rollouts.unpin(robots=["arm-2"], operator=cast.lead) == []
    kinds = list(PolicyChange.objects.order_by("pk").values_list("kind", flat=True))
    assert kinds == ["pinned", "rolled_back", "unpinned"]


def test_a_disabled_robot_gets_the_rolled_out_version_when_it_is_back(fleet, cast):
    Robot.objects.filter(name="arm-4").update(enabled=False)
    rollouts.roll_back(fleet[0], operator=cast.lead)
    assert assigned()["arm-4"] == 3
    Robot.objects.filter(name="arm-4").update(enabled=True)
    assign_pending()
    assert assigned()["arm-4"] == 1


def test_in_manual_mode_a_publish_waits_for_a_lead(fleet, learner, cast):
    rollouts.set_mode(learner, "manual", operator=cast.lead)
    newest = publish(learner, 4)
    assign_pending()
    assert set(assigned().values()) == {3}
    newest.refresh_from_db()
    assert newest.assigned_at is None
    rollouts.roll_out(newest, operator=cast.lead)
    assert set(assigned().values()) == {4}
    with pytest.raises(Unprocessable, match="none of: automatic, canary, manual"):
        rollouts.set_mode(learner, "sometimes", operator=cast.lead)
    with pytest.raises(Unprocessable, match="share"):
        rollouts.set_mode(learner, "canary", operator=cast.lead, share=0)
    assert Rollout.objects.get().mode == "manual"


def test_a_learner_that_was_rolled_back_keeps_its_robots_from_another_learner(fleet, learner, cast):
    other = Learner.objects.create(name="recap")
    publish(other, 9)
    assert set(assigned().values()) == {9}
    rollouts.roll_back(fleet[0], operator=cast.lead)
    newest = publish(other, 10)
    assign_pending()
    assert set(assigned().values()) == {1}
    # Unless a lead says so, and then only those that are named.
    rollouts.roll_out(newest, operator=cast.lead, robots=["arm-1"])
    assign_pending()
    assert assigned() == dict.fromkeys(NAMES, 1) | {"arm-1": 10}


def test_two_learners_with_one_base_do_not_pass_robots_to_and_fro(fleet, learner):
    other = Learner.objects.create(name="recap")
    for number, sha256 in ((1, "0" * 64), (2, fleet[2].sha256), (3, "1" * 64)):
        make_version(other, number, sha256=sha256)
        assign_pending()
        assert assign_pending() == []
    assert set(Robot.objects.values_list("assigned_sha256", flat=True)) == {fleet[2].sha256}


def test_notes_and_tags_are_replaced_and_rubbish_is_refused_with_nothing_lost(fleet):
    version = rollouts.describe(fleet[0], notes=" steady ", tags=["demo", "best", "demo"])
    assert version.notes == "steady"
    for notes, tags, words in (
        ("x" * 2001, [], "at most 2000"),
        ("", ["No Tag"], "is no tag"),
        ("", [f"t{i}" for i in range(11)], "at most 10"),
    ):
        with pytest.raises(Unprocessable, match=words):
            rollouts.describe(version, notes=notes, tags=tags)
    assert [tag.name for tag in version.tags.all()] == ["best", "demo"]
    rollouts.describe(version, notes="", tags=["demo"])
    assert [tag.name for tag in version.tags.all()] == ["demo"]


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_publishes_and_rollbacks_at_once_leave_one_version_on_every_robot():
    learner = Learner.objects.create(name="hg")
    lead = make_operator("lead", role="lead")
    for name in NAMES:
        make_robot(name)
    versions = [make_version(learner, n) for n in range(1, 6)]
    acts = [partial(assign_published, version) for version in versions]
    acts += [partial(rollouts.roll_back, version, operator=lead) for version in versions[:3]]
    results = at_once(acts)
    assert not [came for came in results if isinstance(came, Exception)]
    target = Rollout.objects.get().target
    assert set(assigned().values()) == {target.number}
    assert PolicyChange.objects.count() == 3
