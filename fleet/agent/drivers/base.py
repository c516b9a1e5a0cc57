"""What the agent asks of a robot. One page; everything embodiment-specific is behind it."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from fleet.protocol.messages import FeedSize
from fleet.protocol.spec import RobotSpec, TaskSpec


@dataclass(frozen=True, slots=True)
class Reading:
    """What a robot senses at one tick.

    `state` is float32 (s,); `images` maps a camera of the spec to uint8 (ih, iw, 3), empty when
    images were not asked for. `success` is the task's own signal; `reward` its dense reward, NaN
    when there is none. `asks_help` is true while a person at the robot presses its button for
    help. `privileged` is a simulator's inner state, for scripted operators only: it is never
    recorded as policy input.
    """

    state: np.ndarray
    images: dict[str, np.ndarray] = field(default_factory=dict)
    success: bool = False
    reward: float = float("nan")
    privileged: tuple[float, ...] = ()
    asks_help: bool = False


class Driver(Protocol):
    """One robot. `reset`, `read` and `apply` are called from the control loop's thread only."""

    spec: RobotSpec

    def reset(self, task: TaskSpec, *, seed: int, held_out: bool = False) -> None:
        """Put the scene of `task` in the layout of `seed`.

        A held-out layout is drawn from the full range; a training layout from the part of each
        dimension that the task's `layout_low..layout_high` names.
        """

    def read(self, *, images: bool) -> Reading:
        """Return the present reading; with images when asked for."""

    def apply(self, action: np.ndarray) -> None:
        """Execute one action for one control period; float32 (a,), already inside the limits."""

    def render_feed(self, camera: str, size: FeedSize) -> np.ndarray:
        """Return uint8 (ih, iw, 3) for people. Called from the feed's own thread."""

    def close(self) -> None:
        """Release the hardware."""
