"""What pages are told of where the policy is going."""

from pathlib import Path

import numpy as np
import pytest

from fleet.protocol import messages as m
from tests.agent.looping import ASSIGNMENT, Robot


@pytest.fixture
def robot(tmp_path: Path):
    robot = Robot(tmp_path)
    robot.publish(1)
    robot.runtime.assign(ASSIGNMENT)
    robot.begin()
    yield robot
    robot.policies.stop()


def plans(robot: Robot, ticks: int) -> list[tuple[tuple[float, ...], ...]]:
    before = len(robot.telemetry)
    robot.tick(ticks)
    return [moment.telemetry(privileged=False).plan for moment in robot.telemetry[before:]]


def test_a_plan_is_the_rest_of_the_chunk_on_every_second_tick(robot):
    told = plans(robot, 8)
    config = robot.policies.active.policy.config
    assert [bool(plan) for plan in told] in ([True, False] * 4, [False, True] * 4)
    assert all(len(action) == 3 for plan in told for action in plan)
    longest = config.horizon - 1
    assert {len(plan) for plan in told if plan} <= set(range(longest - config.execute, longest + 1))


def test_the_policy_goes_on_planning_while_a_person_drives_and_not_while_nobody_may(robot):
    robot.grant()
    robot.drive()
    assert any(plans(robot, 4))
    robot.arbiter.handle(m.LeaseEnded(epoch=1, how="lost"))
    assert not any(plans(robot, 4))


def test_a_plan_that_is_not_finite_is_not_told(robot):
    robot.tick(2)
    moment = robot.telemetry[-1]
    moment = next(x for x in (moment, robot.telemetry[-2]) if x.seq % 2 == 0)
    object.__setattr__(moment, "plan", np.full((3, 3), np.nan, np.float32))
    assert moment.telemetry(privileged=False).plan == ()
