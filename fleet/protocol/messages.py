"""Every message of the control link, and what all messages share, as tagged structs with limits.

Kinds (docs/architecture.md): *state* is latest-wins, a *command* has a deadline and an answer,
a *record* must not be lost. Records never travel here: they go over HTTP (`episode.py`). Unknown
fields are ignored; an unknown type or a malformed message is answered with `Refused`, never with a
disconnect. New fields need defaults; no field changes its type or meaning (golden files in tests).
Times are integer nanoseconds: `t_mono_ns` on the sender's monotonic clock, `t_wall_ns` since 1970.
"""

from enum import IntEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from fleet.protocol.control import Lease, Mode
from fleet.protocol.help import HelpLimits
from fleet.protocol.spec import (
    Count,
    Epoch,
    Name,
    PolicyRef,
    RobotSpec,
    Sha256,
    TaskSpec,
    Text,
    TrialOrder,
    ValueRef,
)

PROTOCOL_VERSION = 1
# One message on a control link: a full-size frame, or an announcement with its weights inline.
MAX_LINK_MESSAGE_BYTES = 4 * 1024 * 1024
# Weights up to this size ride in the announcement; larger ones are fetched over HTTP.
MAX_INLINE_WEIGHTS_BYTES = 1024 * 1024
MAX_FRAME_BYTES = 2 * 1024 * 1024
MAX_ROBOTS_PER_MESSAGE = 1000
HEARTBEAT_S = 1.0
# Without a heartbeat for this long a robot is shown as stale; twice as long, offline.
STALE_AFTER_S = 3.0

Action = Annotated[
    tuple[Annotated[float, Meta(ge=-1e6, le=1e6)], ...], Meta(min_length=1, max_length=64)
]
# Actions of a plan that pages are told: what is further off changes before it happens.
MAX_PLAN_TICKS = 64
FeedSize = Literal["thumbnail", "full"]
Outcome = Literal["success", "failure", "timeout", "abort"]
Purpose = Literal["train", "eval", "demonstration"]
PolicyStatus = Literal["verified", "applied", "rejected", "rolled_back"]
# How a need for help ended: a person helped, the robot got out of it by itself, or the situation
# it was about is over (the episode ended, the robot was stopped).
HelpEnd = Literal["", "helped", "recovered", "over"]
Share = Annotated[float, Meta(ge=0, le=1)]
# Expected return: -1 is the longest failure, 0 is done (RECAP, arXiv:2511.14759).
Value = Annotated[float, Meta(ge=-1, le=0)]


class CloseCode(IntEnum):
    """Why a socket of ours was closed by us."""

    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    REPLACED = 4409
    TOO_LARGE = 4413
    OVERFLOW = 4429
    PROTOCOL_VERSION = 4426
    # Not 1001, which says the same: servers may send 1000 and 3000 to 4999 only.
    GOING_AWAY = 4503


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """Base of every message: the tag is the class name."""


# ---- robot → server ---------------------------------------------------------------------------


class Hello(Message, frozen=True, kw_only=True):
    """First message of a robot. State."""

    protocol: int
    robot: Name
    spec: RobotSpec
    agent_version: Text
    t_wall_ns: int
    policy: PolicyRef | None = None
    # The highest lease epoch this robot has seen; the server never grants at or below it.
    epoch: Epoch = 0
    mode: Mode = Mode.HOLDING
    # Episodes in the spool that are not yet acknowledged.
    spool_episodes: Count = 0


class LoopStats(msgspec.Struct, frozen=True, kw_only=True):
    """Health of the control loop over the last heartbeat period; milliseconds."""

    ticks: Count = 0
    missed_ticks: Count = 0
    jitter_p50_ms: float = 0.0
    jitter_p99_ms: float = 0.0
    busy_p50_ms: float = 0.0


class HelpNeed(Message, frozen=True, kw_only=True):
    """What help a robot needs now, or that it needs none. State; repeated in every heartbeat."""

    # Tells a robot's needs apart and grows, also over a restart of the agent; 0 before the first.
    number: Count
    # Values of `HelpReason`, the newest last; empty: none is needed any more.
    reasons: Annotated[tuple[Name, ...], Meta(max_length=8)] = ()
    # Fleet-DAgger's figures, in steps of 0.1; they do not fall while the need lasts.
    constraint: bool = False
    uncertainty: Share = 0.0
    risk: Share = 0.0
    # The reasons with their figures, in words.
    detail: Text = ""
    # When it began, by the robot's wall clock.
    since_wall_ns: int = 0
    # Empty while it lasts.
    ended: HelpEnd = ""


class ValueStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The value function of a robot: which one it computes, or why none. Part of `Heartbeat`."""

    # sha256 of the one it was told to compute, so that the server can repeat what got lost.
    told: Annotated[str, Meta(max_length=64)] = ""
    # The one it computes, with its held-out correlation; None: none.
    number: Count | None = None
    correlation: Annotated[float, Meta(ge=-1, le=1)] | None = None
    # Why it is none, or not the one it was told, in words.
    reason: Text = ""
    # What one value costs, the mean of the last ones; milliseconds.
    took_ms: float = 0.0


class Heartbeat(Message, frozen=True, kw_only=True):
    """What a robot is, once a second. State; the server reconciles *assigned* against `policy`."""

    seq: Count
    t_mono_ns: int
    t_wall_ns: int
    mode: Mode
    epoch: Epoch
    policy: PolicyRef | None
    # When the active policy was swapped in, wall clock.
    policy_since_wall_ns: int = 0
    task: str = ""
    instruction: str = ""
    purpose: Purpose = "train"
    # The evaluation whose version acts now, which is then `policy`; empty in normal work.
    evaluation: Text = ""
    episode: str = ""
    tick: Count = 0
    # Until the episode times out if whoever drives now goes on; None without one.
    left_s: Annotated[float, Meta(ge=0.0)] | None = None
    # Why the robot holds or is stopped, in words; empty otherwise.
    reason: Text = ""
    # Outcomes of the last episodes, oldest first: s success, f failure, t timeout, a abort.
    recent: Annotated[str, Meta(max_length=32)] = ""
    loop: LoopStats = msgspec.field(default_factory=LoopStats)
    spool_episodes: Count = 0
    spool_bytes: Count = 0
    rtt_ms: float = 0.0
    # Server wall clock minus robot wall clock, as the robot estimates it.
    clock_offset_ns: int = 0
    upload_error: Text = ""
    # None from agents that do not know of help.
    help: HelpNeed | None = None
    # None from agents that do not know of value functions.
    value: ValueStatus | None = None


class Telemetry(Message, frozen=True, kw_only=True):
    """Fast state of a robot, sent only while somebody subscribes. State, one a tick at most.

    Numbers are finite, because JSON has no NaN: `policy_action` is empty when nothing is proposed,
    `doubt` and `reward` are 0 when there is none.
    """

    seq: Count
    t_wall_ns: int
    mode: Mode
    epoch: Epoch
    tick: Count
    state: tuple[float, ...]
    action: tuple[float, ...]
    policy_action: tuple[float, ...]
    doubt: float = 0.0
    episode: str = ""
    task: str = ""
    purpose: Purpose = "train"
    # Simulated robots only, and only when asked for: what a privileged, scripted operator reads.
    privileged: tuple[float, ...] = ()
    reward: float = 0.0
    # What the policy would do next, an action a tick, also while a person drives; on every second
    # tick and where it has a chunk, else empty.
    plan: Annotated[tuple[tuple[float, ...], ...], Meta(max_length=MAX_PLAN_TICKS)] = ()
    # What the value function says of what the last inference saw; None where there is none.
    value: Value | None = None


class Frame(Message, frozen=True, kw_only=True):
    """One camera image for people. State: a newer one replaces it everywhere."""

    camera: Name
    size: FeedSize
    seq: Count
    t_wall_ns: int
    jpeg: Annotated[bytes, Meta(max_length=MAX_FRAME_BYTES)]


class Acknowledged(Message, frozen=True, kw_only=True):
    """The robot's answer to a command: the arbiter took it, or why it did not."""

    # `seq` of the command, and its epoch; a stop is answered with its own `stop_id`.
    seq: Count = 0
    epoch: Epoch = 0
    command: Text = ""
    accepted: bool = True
    reason: Text = ""
    mode: Mode = Mode.HOLDING
    stop_id: Text = ""
    # Echo of the command's `t_client_ms`, so that the sender can time the round trip.
    t_client_ms: float = 0.0
    t_wall_ns: int = 0


class PolicyReport(Message, frozen=True, kw_only=True):
    """What became of an announced version on this robot. State on the wire, a row on the server."""

    number: Count
    sha256: Sha256
    status: PolicyStatus
    t_wall_ns: int
    reason: Text = ""


class Ping(Message, frozen=True, kw_only=True):
    """Clock and round trip probe, either way."""

    t_sender_ns: int


class Pong(Message, frozen=True, kw_only=True):
    """Answer to `Ping`: its time, and the answerer's wall clock."""

    t_sender_ns: int
    t_wall_ns: int


# ---- server → robot ---------------------------------------------------------------------------


class Welcome(Message, frozen=True, kw_only=True):
    """Answer to `Hello`. State."""

    protocol: int
    t_wall_ns: int
    # Highest lease epoch the server has granted for this robot.
    epoch: Epoch = 0


class Assignment(Message, frozen=True, kw_only=True):
    """What a robot does until told otherwise; it needs no server to go on with it. State."""

    tasks: Annotated[tuple[TaskSpec, ...], Meta(max_length=256)]
    # One episode in this many is held out for evaluation: fixed seeds, no takeover. 0 is never.
    evaluate_every: Annotated[int, Meta(ge=0, le=1000)] = 6
    # Seeds of held-out layouts, walked in order per task; training seeds never fall among them.
    eval_seeds: Annotated[tuple[int, ...], Meta(max_length=1000)] = ()
    train_seed: int = 0
    # Seconds between an episode's end and the next start, when the scene is put back.
    reset_s: Annotated[float, Meta(ge=0, le=3600)] = 1.0
    paused: bool = False
    # Comes first while it is there; a trial that is under way and no longer in it ends at once.
    order: TrialOrder | None = None
    # From where on the robot asks for help.
    help: HelpLimits = HelpLimits()
    # The value function to compute from the next episode on; None: none.
    value: ValueRef | None = None


class PolicyAnnouncement(Message, frozen=True, kw_only=True):
    """A version this robot is to run from its next episode on. State, repeated on heartbeats."""

    policy: PolicyRef
    weights: Annotated[bytes, Meta(max_length=MAX_INLINE_WEIGHTS_BYTES)] | None = None


class FeedRequest(Message, frozen=True, kw_only=True):
    """Which frames and telemetry somebody watches now. State; replaces the previous request."""

    # (camera, size) pairs to send, each at most `fps` a second.
    frames: Annotated[tuple[tuple[Name, FeedSize], ...], Meta(max_length=32)] = ()
    fps: Annotated[float, Meta(gt=0, le=60)] = 10.0
    telemetry: bool = False
    privileged: bool = False


class LeaseGranted(Message, frozen=True, kw_only=True):
    """Command: this lease now holds the robot."""

    lease: Lease


class LeaseEnded(Message, frozen=True, kw_only=True):
    """Command: the lease ended. `hand_back` returns to the policy; `lost`: the robot holds."""

    epoch: Epoch
    how: Literal["hand_back", "lost"]


class Teleop(Message, frozen=True, kw_only=True):
    """Command: one action from the lease holder. Late, stale or fenced ones are discarded."""

    epoch: Epoch
    seq: Count
    action: Action
    t_wall_ns: int
    # When it was sent, by the sender's own monotonic clock; 0 when that is not said.
    t_client_ms: float = 0.0


class Probe(Message, frozen=True, kw_only=True):
    """Command: answer at once and do nothing, so that a driver at rest can time the round trip."""

    epoch: Epoch
    # By the sender's own monotonic clock.
    t_client_ms: float


class Hold(Message, frozen=True, kw_only=True):
    """Command: stop acting and hold, without latching."""

    seq: Count = 0
    reason: Text = ""


class Resume(Message, frozen=True, kw_only=True):
    """Command: let the policy act again after holding. Always an explicit act of a person."""

    seq: Count = 0
    epoch: Epoch = 0


class AskForHelp(Message, frozen=True, kw_only=True):
    """Command: a person wants somebody to help this robot, or wants it no more."""

    seq: Count = 0
    by: Text
    reason: Text = ""
    wanted: bool = True


class MarkOutcome(Message, frozen=True, kw_only=True):
    """Command: a person judges the running episode, which ends it."""

    seq: Count = 0
    outcome: Outcome
    judge: Text
    episode: str = ""


class Stop(Message, frozen=True, kw_only=True):
    """Emergency stop: latched on the robot, repeated by the server until acknowledged."""

    stop_id: Text
    by: Text


class Release(Message, frozen=True, kw_only=True):
    """Command: undo the latch of a stop. The robot then holds; it does not resume."""

    seq: Count = 0
    by: Text = ""


class Refused(Message, frozen=True, kw_only=True):
    """What a peer's message was refused for. The connection stays."""

    code: Text
    reason: Text


FromRobot = (
    Hello | Heartbeat | HelpNeed | Telemetry | Frame | Acknowledged | PolicyReport | Ping | Pong
)
_Command = (
    LeaseGranted
    | LeaseEnded
    | Teleop
    | Probe
    | Hold
    | Resume
    | AskForHelp
    | MarkOutcome
    | Stop
    | Release
)
ToRobot = Welcome | Assignment | PolicyAnnouncement | FeedRequest | _Command | Refused | Ping | Pong
