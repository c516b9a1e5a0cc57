"""What the arbiter is told at a restart, sees at a tick, and decides."""

from dataclasses import dataclass

import msgspec
import numpy as np

from fleet.protocol.control import ControlLabel, Controller, Event, Mode


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """What a restarted agent must know before it moves."""

    epoch: int = 0
    # Highest epoch whose lease ended; it can never come back.
    ended_epoch: int = 0
    mode: Mode = Mode.AUTONOMOUS
    reason: str = ""
    stop_id: str = ""
    released_stops: tuple[str, ...] = ()
    # What made it hold; None where that is not known, or it does not.
    held_by: Event | None = None


@dataclass(frozen=True, slots=True)
class View:
    """The situation at the start of a tick."""

    mode: Mode
    epoch: int
    # Grows each time the policy gets the robot (back): its pending chunk is then stale.
    policy_turn: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What a tick does. `action` is None for zero motion; limits come after."""

    action: np.ndarray | None
    controller: Controller
    label: ControlLabel
    mode: Mode
    # Epoch of the lease in force; 0 when nobody holds the robot.
    epoch: int = 0
    slew: bool = False
    operator_action: np.ndarray | None = None
    command_age_ms: float = float("nan")
    dead_man: bool = False
    # The policy failed at this tick, and the robot now holds because of it.
    fault: bool = False
