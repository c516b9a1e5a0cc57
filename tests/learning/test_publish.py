import pytest

from learning import blobs
from learning.exceptions import LeaseLost
from learning.models import Learner, PolicyVersion, Round
from learning.services import assignments
from learning.services.assignments import policy_ref
from learning.services.learners import claim_round, end_round
from learning.services.policies import assign_pending, import_version, publish_version
from learning.services.rollouts import roll_back
from tests.factories import make_robot

pytestmark = pytest.mark.django_db


@pytest.fixture
def learner(db):
    return Learner.objects.create(name="l", state=Learner.State.RUNNING)


@pytest.fixture
def claim(learner):
    return claim_round(learner.pk, "here")


def publish(claim, artifact=b"weights", **kwargs):
    values = {"gate": {}, "passed": True, "step": 25, "trained_seq": 3} | kwargs
    return publish_version(claim, artifact=artifact, **values)


def test_a_published_version_is_stored_numbered_and_assigned(robot, learner, claim):
    base = import_version(learner, artifact=b"base", gate={})
    version = publish(claim)
    assert (base.number, version.number, version.parent) == (1, 2, base)
    assert blobs.store().get(version.sha256) == b"weights"
    assert (version.step, version.trained_seq, version.round_id) == (25, 3, claim.round_id)
    robot.refresh_from_db()
    ref = robot.assigned
    assert ref == policy_ref(version)
    assert ref.url == f"/api/policies/{version.sha256}/weights"
    assert ref.parent == 1


def test_importing_the_same_weights_again_makes_no_second_version(robot, learner):
    first = import_version(learner, artifact=b"base", gate={})
    assert import_version(learner, artifact=b"base", gate={}).pk == first.pk
    learner.refresh_from_db()
    assert learner.next_number == 2


def test_a_round_without_its_lease_publishes_nothing(robot, learner, claim):
    end_round(claim, state=Round.State.DONE)
    with pytest.raises(LeaseLost):
        publish(claim)
    assert not PolicyVersion.objects.exists()


def test_a_disabled_robot_is_not_assigned_until_it_is_back(robot, learner, claim):
    robot.enabled = False
    robot.save()
    version = publish(claim)
    robot.refresh_from_db()
    assert robot.assigned is None
    robot.enabled = True
    robot.save()
    assert assign_pending() == [version]
    robot.refresh_from_db()
    assert robot.assigned_number == version.number
    assert assign_pending() == []


def test_a_robot_that_joins_later_gets_the_newest_version(robot, learner, claim):
    publish(claim)
    newest = publish(claim, b"newer")
    late = make_robot("late")
    assert assign_pending() == [newest]
    late.refresh_from_db()
    assert late.assigned_number == newest.number


def test_a_rollback_by_a_lead_is_left_alone(robot, learner, claim, cast):
    old = publish(claim)
    publish(claim, b"newer")
    roll_back(old, operator=cast.lead)
    assert assign_pending() == []
    publish(claim, b"newest")
    robot.refresh_from_db()
    assert robot.assigned_number == old.number


def test_small_weights_ride_in_the_announcement_and_large_ones_do_not(
    robot, learner, claim, monkeypatch
):
    told = []
    monkeypatch.setattr(
        assignments, "assign_policy", lambda ref, weights, **_: told.append(weights) or []
    )
    publish(claim, b"s" * 1024 * 1024)
    publish(claim, b"l" * (1024 * 1024 + 1))
    assert told == [b"s" * 1024 * 1024, None]
