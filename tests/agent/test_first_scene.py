"""A simulated robot that holds before its first episode has something to show."""

from pathlib import Path

import msgspec
import pytest

from fleet.protocol import messages as m
from tests.agent.looping import ASSIGNMENT, Robot
from tests.fakes import SPEC


def holding(folder: Path, *, watched: bool, **driver: object) -> Robot:
    robot = Robot(folder, **driver)
    robot.publish(1)
    robot.runtime._watched = lambda: watched
    robot.arbiter.handle(m.Hold())
    return robot


@pytest.mark.parametrize("watched", [True, False])
def test_a_scene_is_set_once_and_only_while_somebody_looks(tmp_path: Path, watched: bool):
    robot = holding(tmp_path, watched=watched)
    robot.tick(3)
    assert not robot.driver.resets, "without an assignment there is no scene to set"
    robot.runtime.assign(ASSIGNMENT)
    robot.tick(6)
    assert len(robot.driver.resets) == watched
    assert bool(robot.telemetry) == watched
    assert (robot.runtime.glimpse is not None) == watched
    assert not robot.runtime.situation.episode


def test_a_real_robot_does_not_move_to_be_looked_at(tmp_path: Path):
    spec = msgspec.structs.replace(SPEC, simulated=False)
    robot = holding(tmp_path, watched=True, spec=spec)
    robot.runtime.assign(ASSIGNMENT)
    robot.tick(6)
    assert not robot.driver.resets


def test_the_first_episode_begins_as_if_nobody_had_looked(tmp_path: Path):
    robot = holding(tmp_path, watched=True)
    robot.runtime.assign(ASSIGNMENT)
    robot.tick(6)
    robot.arbiter.handle(m.Resume())
    robot.begin()
    first, again = robot.driver.resets
    assert again == (ASSIGNMENT.tasks[0].name, ASSIGNMENT.train_seed, False)
    assert first == again
