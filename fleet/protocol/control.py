"""Who controls a robot: modes, events, one transition table, and the lease. Run by both ends.

The robot's arbiter and the server's lease service step the same table, so a pair that is not in
`TRANSITIONS` cannot happen on either side. Rules: docs/safety.md.
Silence of an operator is not an event: the robot stays in its mode and applies zero motion
(dead-man), so that a hiccup of the network neither ends a takeover nor wakes the policy.
"""

from enum import IntEnum, StrEnum

import msgspec

# No fresh command for this long: zero motion within one control tick (docs/safety.md).
DEAD_MAN_S = 0.2
# A takeover starts with this long a handover: commands act, steps are not training labels
# (HG-DAgger, docs/learners.md).
HANDOVER_S = 0.3
# After a hand-back, the change of action per tick is limited for this long (docs/safety.md).
HAND_BACK_SLEW_S = 0.4
# A lease that its holder does not renew ends after this long; any command or keep-alive renews it.
LEASE_TTL_S = 5.0
# A frame older than this locks an operator out of driving (docs/safety.md).
STALE_VIDEO_S = 0.5
# A command older than this on arrival is discarded by the robot (age on the server's clock).
COMMAND_TTL_S = 0.5
# Consecutive control ticks with a non-finite policy action before the robot holds and rolls back.
FAULT_TICKS = 3


class Mode(StrEnum):
    """ControlMode: what the robot is doing, and for whom."""

    AUTONOMOUS = "autonomous"
    HANDOVER = "handover"
    TAKEOVER = "takeover"
    HOLDING = "holding"
    STOPPED = "stopped"


class Event(StrEnum):
    """What can change a mode."""

    LEASE_GRANTED = "lease_granted"
    HANDOVER_ELAPSED = "handover_elapsed"
    HAND_BACK = "hand_back"
    LEASE_LOST = "lease_lost"
    HOLD = "hold"
    RESUME = "resume"
    FAULT = "fault"
    STOP = "stop"
    RELEASE = "release"


class Controller(StrEnum):
    """Who chose the action of one step."""

    POLICY = "policy"
    OPERATOR = "operator"
    BLEND = "blend"
    HOLD = "hold"


class ControlLabel(IntEnum):
    """`control_mode` of a step: 0 policy, 1 human, 2 transition (docs/learners.md), 3 nobody."""

    POLICY = 0
    HUMAN = 1
    TRANSITION = 2
    NONE = 3


TRANSITIONS: dict[tuple[Mode, Event], Mode] = {
    (Mode.AUTONOMOUS, Event.LEASE_GRANTED): Mode.HANDOVER,
    (Mode.AUTONOMOUS, Event.HOLD): Mode.HOLDING,
    (Mode.AUTONOMOUS, Event.FAULT): Mode.HOLDING,
    (Mode.AUTONOMOUS, Event.STOP): Mode.STOPPED,
    (Mode.HANDOVER, Event.HANDOVER_ELAPSED): Mode.TAKEOVER,
    (Mode.HANDOVER, Event.HAND_BACK): Mode.AUTONOMOUS,
    (Mode.HANDOVER, Event.LEASE_LOST): Mode.HOLDING,
    (Mode.HANDOVER, Event.STOP): Mode.STOPPED,
    (Mode.TAKEOVER, Event.HAND_BACK): Mode.AUTONOMOUS,
    (Mode.TAKEOVER, Event.LEASE_LOST): Mode.HOLDING,
    (Mode.TAKEOVER, Event.STOP): Mode.STOPPED,
    (Mode.HOLDING, Event.LEASE_GRANTED): Mode.HANDOVER,
    (Mode.HOLDING, Event.RESUME): Mode.AUTONOMOUS,
    (Mode.HOLDING, Event.STOP): Mode.STOPPED,
    (Mode.STOPPED, Event.RELEASE): Mode.HOLDING,
    (Mode.STOPPED, Event.STOP): Mode.STOPPED,
}


def next_mode(mode: Mode, event: Event) -> Mode | None:
    """Return the mode after `event`, or None when the event cannot happen in `mode`."""
    return TRANSITIONS.get((mode, event))


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The right to drive one robot, as a value.

    `epoch` counts the leases of one robot from 1; a robot obeys only the highest it has seen.
    """

    epoch: int
    holder: str
    holder_kind: str = "human"
    expires_wall_ns: int = 0


def fences(seen_epoch: int, command_epoch: int) -> bool:
    """Say whether a command of `command_epoch` must be refused by a robot that saw `seen_epoch`."""
    return command_epoch < seen_epoch
