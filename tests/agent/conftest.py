"""What several tests of the agent share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.looping import ASSIGNMENT, Robot


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[Robot]:
    """A robot with a policy and work to do."""
    robot = Robot(tmp_path)
    robot.publish(1)
    robot.runtime.assign(ASSIGNMENT)
    yield robot
    robot.policies.stop()
