"""Canaries: who runs what meanwhile, every verdict, and that nothing hangs one."""

import itertools
import uuid
from datetime import timedelta
from functools import partial

import pytest
from django.utils import timezone

from fleet.models import Robot
from learning.exceptions import Conflict, Unprocessable
from learning.models import Canary, Episode, Learner, PolicyChange, PolicyVersion, Rollout
from learning.selectors.rollouts import canary_view
from learning.services import rollouts
from learning.services.canaries import advance_canaries, cancel_canary, start_canary
from learning.services.policies import assign_pending, assign_published
from tests.factories import make_operator, make_task
from tests.learning.fleets import make_idle, make_version
from tests.race import at_once

pytestmark = pytest.mark.django_db
NAMES = [f"arm-{i}" for i in range(4)]
TERMS = {"share": 50, "alpha": 0.2, "margin": 0.2, "episodes": 20, "limit_min": 60}
_seq = itertools.count(1)


@pytest.fixture
def learner(db) -> Learner:
    return Learner.objects.create(name="hg")


@pytest.fixture
def fleet(learner) -> list[PolicyVersion]:
    for name in NAMES:
        make_idle(name)
    versions = [make_version(learner, 1)]
    assign_pending()
    return versions


@pytest.fixture
def task(db):
    return make_task("stack")


def assigned() -> dict[str, int | None]:
    return dict(Robot.objects.order_by("name").values_list("name", "assigned_number"))


def ran(canary: Canary, version: PolicyVersion, outcomes: str, task, **fields) -> None:
    """Close an episode a letter: s success, f failure, h success after a takeover, a aborted."""
    robots = canary.robots if version.pk == canary.candidate_id else canary.others
    names = itertools.cycle(Robot.objects.filter(name__in=robots))
    words = {"s": "success", "f": "failure", "h": "success", "a": "abort"}
    now = timezone.now()
    Episode.objects.bulk_create(
        Episode(
            **{
                "uid": uuid.uuid4(), "robot": next(names), "task": task, "purpose": "train",
                "seed": 1, "policy_number": version.number, "policy_sha256": version.sha256,
                "outcome": words[letter], "steps": 20, "human_steps": 5 * (letter == "h"),
                "complete": True, "state": "closed", "started_at": now, "ended_at": now,
                "closed_at": now, "closed_seq": next(_seq), "manifest_sha256": "0" * 64,
            }
            | fields
        )
        for letter in outcomes
    )  # fmt: skip


@pytest.fixture
def canary(fleet, learner, cast) -> Canary:
    candidate = make_version(learner, 2, parent=fleet[0])
    return start_canary(candidate, operator=cast.lead, reason="looks good", **TERMS)


def test_a_canary_gives_its_robots_the_candidate_and_newer_versions_wait(canary, learner, cast):
    assert len(canary.robots) == len(canary.others) == 2
    half = {name: 2 if name in canary.robots else 1 for name in NAMES}
    assert assigned() == half
    assign_published(make_version(learner, 3))
    assert advance_canaries() == []
    assign_pending()
    assert assigned() == half
    assert Rollout.objects.get().mode == "canary"
    with pytest.raises(Conflict, match="runs already"):
        start_canary(canary.candidate, operator=cast.lead)
    change = PolicyChange.objects.get()
    assert (change.kind, change.operator, change.reason) == (
        "canary_started", cast.lead, "looks good",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("incumbent", "candidate", "verdict"),
    [
        ("s" * 8, "f" * 8, "fewer_successes"),
        # A rescue is not the version's success, and takeovers alone are harm enough.
        ("s" * 8, "h" * 8, "fewer_successes"),
        ("f" * 8, "h" * 8, "more_takeovers"),
        ("f" * 8, "s" * 8, "better"),
        ("h" * 8, "s" * 8, "better"),
        ("sf" * 10, "sf" * 10, "not_worse"),
        ("s" * 10 + "f" * 10, "s" * 7 + "f" * 13, "not_shown"),
    ],
)
def test_every_verdict_leaves_the_fleet_on_one_version(canary, task, incumbent, candidate, verdict):
    ran(canary, canary.incumbent, incumbent, task)
    ran(canary, canary.candidate, candidate, task)
    (ended,) = advance_canaries()
    assert ended.verdict == verdict
    good = verdict in ("better", "not_worse")
    assert ended.state == ("promoted" if good else "rolled_back")
    assert set(assigned().values()) == {2 if good else 1}
    change = PolicyChange.objects.order_by("pk").last()
    assert (change.kind, change.operator, change.version) == ("canary_ended", None, ended.candidate)
    assert f"of {len(candidate)} episodes" in change.reason
    # The same episodes give the same picture ever after, and no second verdict.
    view = canary_view(ended)
    assert view.measures[0][1][0].n == len(candidate)
    assert advance_canaries() == []


def test_what_is_no_evidence_is_not_counted(canary, task):
    ran(canary, canary.incumbent, "s" * 8, task)
    old = timezone.now() - timedelta(hours=1)
    ran(canary, canary.candidate, "f" * 8, task, started_at=old)
    ran(canary, canary.candidate, "f" * 8, task, purpose="eval", trial=None, complete=False)
    ran(canary, canary.candidate, "a" * 8, task)
    ran(canary, canary.candidate, "f" * 8, task, robot=Robot.objects.get(name=canary.others[0]))
    assert advance_canaries() == []
    assert canary_view(canary).episodes == 0
    # A held-out episode counts for success and says nothing of takeovers.
    ran(canary, canary.candidate, "f", task, purpose="eval")
    success, takeovers = canary_view(canary).measures
    assert (success[1][0].n, takeovers[1][0].n) == (1, 0)


def test_a_canary_whose_robots_went_away_ends_with_its_time(canary, task):
    Robot.objects.filter(name=canary.robots[0]).update(enabled=False)
    Robot.objects.filter(name=canary.robots[1]).update(last_heartbeat_at=None)
    ran(canary, canary.incumbent, "s" * 30, task)
    assert advance_canaries() == []
    Canary.objects.update(started_at=timezone.now() - timedelta(minutes=61))
    (ended,) = advance_canaries()
    assert (ended.state, ended.verdict) == ("rolled_back", "timed_out")
    assert "its time was up" in ended.note
    Robot.objects.update(enabled=True)
    assign_pending()
    assert set(assigned().values()) == {1}


def test_in_canary_mode_the_newest_takes_its_turn_after_each_verdict(fleet, learner, cast, task):
    rollouts.set_mode(learner, "canary", operator=cast.lead, **TERMS)
    assert not Canary.objects.exists()
    assign_published(make_version(learner, 2))
    first = Canary.objects.get()
    assert (first.candidate.number, first.incumbent.number, first.started_by) == (2, 1, None)
    assign_published(make_version(learner, 3))
    assign_published(make_version(learner, 4))
    ran(first, first.incumbent, "s" * 8, task)
    ran(first, first.candidate, "f" * 8, task)
    ended, second = advance_canaries()
    assert (ended.state, second.candidate.number, second.incumbent.number) == ("rolled_back", 4, 1)
    ran(second, second.incumbent, "f" * 8, task)
    ran(second, second.candidate, "s" * 8, task)
    (promoted,) = advance_canaries()
    assert promoted.state == "promoted"
    assert set(assigned().values()) == {4}
    assert advance_canaries() == []


def test_with_one_robot_left_the_mode_waits_and_a_lead_is_told(fleet, learner, cast):
    rollouts.set_mode(learner, "canary", operator=cast.lead, **TERMS)
    Robot.objects.exclude(name=NAMES[0]).update(last_heartbeat_at=None)
    candidate = make_version(learner, 2)
    assign_published(candidate)
    assert advance_canaries() == []
    assert set(assigned().values()) == {1}
    with pytest.raises(Unprocessable, match="two robots that are connected"):
        start_canary(candidate, operator=cast.lead)
    Robot.objects.update(last_heartbeat_at=timezone.now())
    assert len(advance_canaries()) == 1


def test_a_cancelled_canary_gives_its_robots_back_and_is_not_begun_again(canary, cast):
    cancelled = cancel_canary(canary, operator=cast.lead, reason="wrong robots")
    assert (cancelled.state, cancelled.verdict) == ("cancelled", "")
    assert set(assigned().values()) == {1}
    assert cancel_canary(canary, operator=cast.admin).note == "cancelled by lead"
    assert advance_canaries() == []


def test_a_rollback_by_hand_ends_the_canary(canary, cast):
    rollouts.roll_back(canary.incumbent, operator=cast.lead)
    canary.refresh_from_db()
    assert canary.state == "cancelled"
    assert set(assigned().values()) == {1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"robots": NAMES}, "leave at least one"),
        ({"robots": ["nobody"]}, "cannot take part"),
        ({"robots": []}, "leave at least one"),
        ({"alpha": 0.0}, "alpha"),
        ({"margin": 2.0}, "margin"),
        ({"episodes": 1}, "episodes"),
        ({"limit_min": 0}, "limit min"),
        ({"share": 91}, "share"),
    ],
)
def test_a_canary_that_cannot_be_is_refused_and_moves_no_robot(fleet, learner, cast, change, words):
    candidate = make_version(learner, 2, parent=fleet[0])
    with pytest.raises(Unprocessable, match=words):
        start_canary(candidate, operator=cast.lead, **TERMS | change)
    with pytest.raises(Unprocessable, match="choose another version"):
        start_canary(candidate, operator=cast.lead, incumbent=candidate, **TERMS)
    assert set(assigned().values()) == {1}
    assert not Canary.objects.exists()


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_processes_that_judge_at_once_one_gives_the_verdict():
    learner, lead = Learner.objects.create(name="hg"), make_operator("lead", role="lead")
    for name in NAMES:
        make_idle(name)
    incumbent = make_version(learner, 1)
    assign_pending()
    task = make_task("stack")
    candidate = make_version(learner, 2, parent=incumbent)
    starts = at_once([partial(start_canary, candidate, operator=lead, **TERMS)] * 4)
    assert sum(isinstance(came, Canary) for came in starts) == 1
    assert sum(isinstance(came, Conflict | Unprocessable) for came in starts) == 3
    canary = Canary.objects.get()
    ran(canary, canary.incumbent, "s" * 8, task)
    ran(canary, canary.candidate, "f" * 8, task)
    results = at_once([advance_canaries] * 4)
    assert not [came for came in results if isinstance(came, Exception)]
    assert PolicyChange.objects.filter(kind="canary_ended").count() == 1
    assert set(assigned().values()) == {1}
