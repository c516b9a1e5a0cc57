"""What this process knows of every robot, as the `RobotState` that pages show.

A revision is microseconds of the server's clock, made to grow: so a state from the process that
holds the robot's socket outranks an older one from anywhere, also after a restart.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from fleet.protocol import browser as b
from fleet.protocol import messages as m


class States:
    """The newest state of each robot. `on_change` hears every change, in order."""

    def __init__(
        self,
        on_change: Callable[[b.RobotState], None],
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_change = on_change
        self._wall_ns = wall_ns
        self._monotonic = monotonic
        self._states: dict[str, b.RobotState] = {}
        # When each robot was last heard, by this process's monotonic clock.
        self._heard: dict[str, float] = {}

    def __contains__(self, robot: str) -> bool:
        return robot in self._states

    def names(self) -> tuple[str, ...]:
        """Return every known robot's name."""
        return tuple(sorted(self._states))

    def get(self, robot: str) -> b.RobotState | None:
        """Return a robot's state, or None when it is unknown here."""
        return self._states.get(robot)

    def add(self, state: b.RobotState) -> None:
        """Add a robot read from the database; what is known live outranks it."""
        if state.robot not in self._states:
            self._states[state.robot] = state
            self._on_change(state)

    def change(self, robot: str, **fields: Any) -> b.RobotState | None:
        """Change a robot's state; None when nothing changed."""
        old = self._states.get(robot) or b.RobotState(robot=robot, revision=0, connection="offline")
        if robot in self._states and all(getattr(old, k) == v for k, v in fields.items()):
            return None
        now_ns = self._wall_ns()
        new = msgspec.structs.replace(
            old, **fields, revision=max(old.revision + 1, now_ns // 1000), t_wall_ns=now_ns
        )
        self._states[robot] = new
        self._on_change(new)
        return new

    def heard(self, robot: str, **fields: Any) -> b.RobotState | None:
        """Note a sign of life, with what it changes."""
        self._heard[robot] = self._monotonic()
        return self.change(robot, connection="online", **fields)

    def learn(self, state: b.RobotState) -> bool:
        """Take a state that another process published. False when it is not newer."""
        old = self._states.get(state.robot)
        if old is not None and state.revision <= old.revision:
            return False
        if state.connection == "online":
            self._heard[state.robot] = self._monotonic()
        self._states[state.robot] = state
        self._on_change(state)
        return True

    def silence(self) -> None:
        """Turn robots that were not heard for STALE_AFTER_S stale, for twice as long offline."""
        now = self._monotonic()
        for robot, state in list(self._states.items()):
            silent_s = now - self._heard.get(robot, float("-inf"))
            if silent_s > 2 * m.STALE_AFTER_S:
                self.change(robot, connection="offline")
            elif silent_s > m.STALE_AFTER_S and state.connection == "online":
                self.change(robot, connection="stale")

    def snapshot(self, robots: Iterable[str] | None = None) -> tuple[b.RobotState, ...]:
        """Return the states of the named robots, or of all."""
        names = self.names() if robots is None else robots
        return tuple(state for name in names if (state := self._states.get(name)) is not None)
