"""A robot under an order: trials first, with their own version, then back to the fleet's."""

from collections.abc import Iterator

import msgspec
import pytest

from fleet.agent.trials import WAIT_S
from fleet.protocol import messages as m
from fleet.protocol.control import Lease
from fleet.protocol.episode import sha256_of
from fleet.protocol.spec import PolicyRef, Trial, TrialOrder
from learning.core.policies.base import save_policy
from tests.agent.looping import ASSIGNMENT, TICK_S, Robot
from tests.fakes import TASK, fake_policy

OLD = save_policy(fake_policy((-0.3, 0.0, 0.2)))
OLD_REF = PolicyRef(number=1, sha256=sha256_of(OLD), url="/w", size_bytes=len(OLD))


def order(*names: str, policy: PolicyRef = OLD_REF) -> TrialOrder:
    task = msgspec.structs.replace(TASK, timeout_ticks=10)
    return TrialOrder(
        evaluation="job-1",
        policy=policy,
        trials=tuple(Trial(uid=name, task=task, seed=700 + i) for i, name in enumerate(names)),
    )


def assign(robot: Robot, wanted: TrialOrder | None) -> None:
    robot.runtime.assign(msgspec.structs.replace(ASSIGNMENT, order=wanted))


def fetch(robot: Robot) -> None:
    """Let the ordered version arrive, as if fetched over HTTP."""
    robot.trial_policies._wanted = None
    robot.trial_policies.offer(m.PolicyAnnouncement(policy=OLD_REF, weights=OLD))
    robot.trial_policies.work()


def acting(robot: Robot) -> int:
    active = robot.runtime.acting.active
    assert active is not None
    return active.ref.number


@pytest.fixture
def robot(tmp_path) -> Iterator[Robot]:
    """Runs version 5 of the fleet."""
    robot = Robot(tmp_path)
    robot.publish(5)
    robot.runtime.assign(ASSIGNMENT)
    yield robot
    robot.policies.stop()
    robot.trial_policies.stop()


def test_a_robot_runs_its_trials_with_their_version_and_then_the_fleets_again(robot):
    fetch(robot)
    assign(robot, order("t1", "t2"))
    for name, seed in (("t1", 700), ("t2", 701)):
        robot.begin()
        assert (acting(robot), robot.runtime.evaluation) == (1, "job-1")
        manifest = robot.finish()
        header = manifest.header
        assert (header.trial, header.seed, header.purpose) == (name, seed, "eval")
        assert (header.policy_number, header.policy_sha256) == (1, OLD_REF.sha256)
        assert (manifest.outcome, manifest.steps) == ("timeout", 10)
    assert robot.driver.resets == [("reach", 700, True), ("reach", 701, True)]
    assign(robot, None)
    robot.begin()
    assert (acting(robot), robot.runtime.evaluation) == (5, "")
    manifest = robot.finish()
    assert (manifest.header.trial, manifest.header.purpose) == ("", "train")
    assert manifest.header.policy_number == 5


def test_an_order_waits_for_the_end_of_the_running_episode(robot):
    robot.begin()
    robot.tick(5)
    fetch(robot)
    assign(robot, order("t1"))
    robot.tick(3)
    assert acting(robot) == 5
    assert robot.finish().header.policy_number == 5
    robot.begin()
    assert acting(robot) == 1


def test_what_the_learner_publishes_in_a_trial_acts_only_after_the_evaluation(robot):
    fetch(robot)
    assign(robot, order("t1", "t2"))
    robot.begin()
    robot.publish(6, bias=0.1)
    assert robot.finish().header.policy_number == 1
    robot.begin()
    assert acting(robot) == 1
    robot.finish()
    assign(robot, None)
    robot.begin()
    assert acting(robot) == 6


def test_a_withdrawn_trial_ends_at_the_next_tick_as_aborted(robot):
    fetch(robot)
    assign(robot, order("t1", "t2"))
    robot.begin()
    robot.tick(3)
    assign(robot, None)
    robot.tick()
    assert not robot.runtime.situation.episode
    manifest = robot.recorded()
    assert (manifest.outcome, manifest.judge, manifest.steps) == ("abort", "robot", 3)
    robot.begin()
    assert acting(robot) == 5


def test_more_trials_in_the_order_do_not_disturb_the_one_that_runs(robot):
    fetch(robot)
    assign(robot, order("t1"))
    robot.begin()
    robot.tick(3)
    assign(robot, order("t1", "t2"))
    assert robot.finish().steps == 10
    robot.begin()
    assert robot.finish().header.trial == "t2"


def test_a_robot_waits_a_moment_for_more_trials_and_then_works_on(robot):
    fetch(robot)
    assign(robot, order("t1"))
    robot.begin()
    robot.finish()
    waited = robot.tick_until(lambda: bool(robot.runtime.situation.episode))
    assert waited * TICK_S == pytest.approx(WAIT_S, abs=1.0)
    assert (acting(robot), robot.runtime.situation.purpose) == (5, "train")


def test_a_robot_works_on_while_it_cannot_get_the_ordered_version(robot):
    assign(robot, order("t1"))
    waited = robot.tick_until(lambda: bool(robot.runtime.situation.episode))
    assert waited * TICK_S <= WAIT_S + 1.0
    assert acting(robot) == 5
    fetch(robot)
    robot.finish()
    robot.begin()
    assert robot.finish().header.trial == "t1"


def test_nobody_may_take_a_robot_over_in_a_trial(robot):
    fetch(robot)
    assign(robot, order("t1"))
    robot.begin()
    answer = robot.arbiter.handle(m.LeaseGranted(lease=Lease(epoch=1, holder="ada")))
    assert answer is not None
    assert not answer.accepted
    assert "no takeover" in answer.reason


def test_a_robot_that_somebody_drives_begins_no_trial(robot):
    robot.begin()
    robot.grant()
    fetch(robot)
    assign(robot, order("t1"))
    robot.arbiter.handle(m.MarkOutcome(outcome="failure", judge="operator:ada"))
    robot.drive()
    robot.tick()
    robot.tick_until(lambda: bool(robot.runtime.situation.episode))
    assert (acting(robot), robot.runtime.situation.purpose) == (5, "train")


def test_a_stop_ends_a_trial_at_once(robot):
    fetch(robot)
    assign(robot, order("t1"))
    robot.begin()
    robot.tick(2)
    robot.arbiter.handle(m.Stop(stop_id="s", by="ada"))
    robot.tick()
    assert robot.recorded().outcome == "abort"


def test_a_version_that_fails_in_a_trial_is_reported_and_the_fleets_stays(robot):
    broken = save_policy(fake_policy((0.1, 0.0, 0.2)))
    ref = PolicyRef(number=2, sha256=sha256_of(broken), url="/w", size_bytes=len(broken))
    robot.trial_policies.offer(m.PolicyAnnouncement(policy=ref, weights=broken))
    robot.trial_policies.work()
    assign(robot, order("t1", policy=ref))
    robot.begin()
    policy = robot.trial_policies.active.policy
    with_nan = policy.bias.data
    with_nan[0] = float("nan")
    robot.tick_until(lambda: not robot.runtime.situation.episode)
    assert robot.recorded().outcome == "abort"
    assert [r.number for r in robot.reports if r.status == "rolled_back"] == [2]
    robot.arbiter.handle(m.Resume())
    robot.begin()
    assert acting(robot) == 5


def test_the_evaluated_version_is_let_go_when_the_order_ends(robot, tmp_path):
    fetch(robot)
    assign(robot, order("t1"))
    robot.begin()
    robot.finish()
    robot.trial_policies.work()
    kept = tmp_path / "state" / "trial_policies"
    assert list(kept.glob("*.safetensors"))
    assign(robot, None)
    robot.begin()
    robot.trial_policies.work()
    assert robot.trial_policies.active is None
    assert not list(kept.glob("*.safetensors"))
    assert robot.policies.active.ref.number == 5
