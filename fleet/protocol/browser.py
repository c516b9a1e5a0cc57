"""Every message of the browser sockets, as tagged structs with limits; JSON.

What these build on, and the rules for all messages, are in `messages.py`.
"""

from typing import Annotated, Literal

from msgspec import Meta

from fleet.protocol.control import Lease
from fleet.protocol.messages import (
    MAX_ROBOTS_PER_MESSAGE,
    Acknowledged,
    Action,
    FeedSize,
    Heartbeat,
    Message,
    Outcome,
    Ping,
    Pong,
    Refused,
    Share,
    Telemetry,
)
from fleet.protocol.spec import Count, Epoch, Name, Text

# One message from a browser: a command, never bulk.
MAX_BROWSER_MESSAGE_BYTES = 16 * 1024
# Frames a viewer may hold unacknowledged, per subscription (docs/architecture.md).
FRAME_CREDIT = 2
# Operators who are told of as asking for one robot.
MAX_ASKING = 16
# Why a request for help is skipped: a person wrote it, and others read it at a glance.
SkipReason = Annotated[str, Meta(min_length=1, max_length=200)]
# A recovery brings a robot back to where its policy can go on, a correction shows what to do.
CorrectionMark = Literal["correction", "recovery"]
HelpStatus = Literal["open", "claimed", "escalated", "resolved", "skipped", "expired"]

# ---- browser → server -------------------------------------------------------------------------


class Watch(Message, frozen=True, kw_only=True):
    """Subscribe to robots' state. Replaces the last Watch."""

    robots: Annotated[tuple[Name, ...], Meta(max_length=MAX_ROBOTS_PER_MESSAGE)] = ()
    every: bool = False  # the state of every robot, also of ones that join later
    # Adds the fast state: of `robots`, or where none is named of every robot that is watched.
    telemetry: bool = False
    # Simulators' privileged state; refused to anyone but a scripted operator.
    privileged: bool = False


class TakeOver(Message, frozen=True, kw_only=True):
    """Ask for the lease of a robot."""

    robot: Name
    t_client_ms: float = 0.0


class KeepLease(Message, frozen=True, kw_only=True):
    """Renew a lease while holding still."""

    robot: Name
    epoch: Epoch
    # When it was sent, to time the way to the robot and back (`Probe`); 0 asks for no answer.
    t_client_ms: Annotated[float, Meta(ge=0, le=1e15)] = 0.0


class HandBack(Message, frozen=True, kw_only=True):
    """Give the robot back to the policy."""

    robot: Name
    epoch: Epoch


class Drive(Message, frozen=True, kw_only=True):
    """One teleoperation command from a browser; becomes a `Teleop`."""

    robot: Name
    epoch: Epoch
    seq: Count
    action: Action
    t_client_ms: float = 0.0
    # Age of the newest frame shown when this was sent; above STALE_VIDEO_S the server refuses.
    frame_age_ms: float = 0.0


class AskControl(Message, frozen=True, kw_only=True):
    """Ask whoever holds a robot for it, or ask no more. State; ends with the socket."""

    robot: Name
    asking: bool = True


class PassControl(Message, frozen=True, kw_only=True):
    """Give a held robot to somebody who asked for it; the robot holds until they have it."""

    robot: Name
    epoch: Epoch
    to: Text


class HoldRobot(Message, frozen=True, kw_only=True):
    """Ask a robot to hold."""

    robot: Name


class ResumeRobot(Message, frozen=True, kw_only=True):
    """Ask a holding robot to act again."""

    robot: Name


class Judge(Message, frozen=True, kw_only=True):
    """Judge the running episode of a robot."""

    robot: Name
    outcome: Outcome
    episode: str = ""


class StopRobots(Message, frozen=True, kw_only=True):
    """Emergency stop for the named robots, or for all."""

    robots: Annotated[tuple[Name, ...], Meta(max_length=MAX_ROBOTS_PER_MESSAGE)] = ()
    every: bool = False


class ReleaseRobot(Message, frozen=True, kw_only=True):
    """Release a stopped robot; needs the operator's role."""

    robot: Name


class AskHelp(Message, frozen=True, kw_only=True):
    """Ask for somebody to help a robot, or say that it is not needed any more."""

    robot: Name
    reason: Annotated[str, Meta(max_length=200)] = ""
    wanted: bool = True


class ClaimHelp(Message, frozen=True, kw_only=True):
    """Take a robot's request for help, before driving; or, as a lead, give it to an operator."""

    robot: Name
    # Whose it is from now on; empty is the sender's.
    operator: Annotated[str, Meta(max_length=150)] = ""


class SkipHelp(Message, frozen=True, kw_only=True):
    """Close a robot's request without helping, and say why."""

    robot: Name
    # `HelpState.number` of the request on screen: another one is not meant.
    number: Count
    reason: SkipReason


class EscalateHelp(Message, frozen=True, kw_only=True):
    """Leave a robot's request to the leads."""

    robot: Name
    number: Count
    reason: Annotated[str, Meta(max_length=200)] = ""


class WatchFrames(Message, frozen=True, kw_only=True):
    """On the feed socket: the cameras wanted now. Replaces the last request."""

    feeds: Annotated[tuple[tuple[Name, Name, FeedSize], ...], Meta(max_length=256)] = ()


class FrameShown(Message, frozen=True, kw_only=True):
    """On the feed socket: a frame was drawn, its credit returns."""

    robot: Name
    camera: Name
    size: FeedSize
    seq: Count


FromBrowser = (
    Watch
    | TakeOver
    | KeepLease
    | HandBack
    | Drive
    | AskControl
    | PassControl
    | HoldRobot
    | ResumeRobot
    | Judge
    | StopRobots
    | ReleaseRobot
    | AskHelp
    | ClaimHelp
    | SkipHelp
    | EscalateHelp
    | Ping
)
FromViewer = WatchFrames | FrameShown | Ping


# ---- server → browser -------------------------------------------------------------------------


class RobotState(Message, frozen=True, kw_only=True):
    """All a page shows of one robot. State; `revision` grows with every change."""

    robot: Name
    revision: Count
    connection: Literal["online", "stale", "offline"]
    simulated: bool = False
    heartbeat: Heartbeat | None = None
    lease: Lease | None = None
    assigned_number: int | None = None
    # It keeps the assigned version: no publish moves it.
    pinned: bool = False
    # True from an accepted stop request until the robot acknowledged it.
    stop_pending: bool = False
    t_wall_ns: int = 0


class HelpState(Message, frozen=True, kw_only=True):
    """The newest request for help of one robot. State; `revision` grows with every change."""

    robot: Name
    revision: Count
    # `HelpNeed.number` of the need it is about.
    number: Count
    # Open and escalated ones wait; the last three are closed.
    status: HelpStatus
    reasons: Annotated[tuple[Name, ...], Meta(max_length=8)] = ()
    constraint: bool = False
    uncertainty: Share = 0.0
    risk: Share = 0.0
    detail: Text = ""
    # Times on the server's clock; 0 where it did not happen.
    raised_wall_ns: int = 0
    claimed_wall_ns: int = 0
    claimed_by: Text = ""
    claimed_by_kind: Text = ""
    # Why it was skipped, escalated, or is open again.
    note: Text = ""


class Snapshot(Message, frozen=True, kw_only=True):
    """State of every watched robot; events at or below a robot's revision are to be ignored."""

    robots: tuple[RobotState, ...]
    operator: Text = ""
    operator_kind: Text = "human"
    operator_role: Text = ""
    # The requests for help of watched robots that wait or are being helped.
    help: tuple[HelpState, ...] = ()


class FleetState(Message, frozen=True, kw_only=True):
    """What holds for the whole fleet: after every Snapshot, and when it changes. State."""

    # No robot starts an episode while set.
    paused: bool = False
    # Scripted operators hand back and take over nothing while set.
    scripted_paused: bool = False
    # A request for help is to be answered within this time.
    help_sla_s: float = 30.0


class RobotTelemetry(Message, frozen=True, kw_only=True):
    """Fast state of one robot, relayed."""

    robot: Name
    telemetry: Telemetry


class TakeoverAnswer(Message, frozen=True, kw_only=True):
    """Answer to `TakeOver`, or to `AskControl` once control is passed on: the lease, or why not."""

    robot: Name
    lease: Lease | None
    reason: Text = ""
    t_client_ms: float = 0.0


class ControlAsked(Message, frozen=True, kw_only=True):
    """Who asks for the control of a robot, in the order of their names. State."""

    robot: Name
    operators: Annotated[tuple[Text, ...], Meta(max_length=MAX_ASKING)] = ()


class CorrectionState(Message, frozen=True, kw_only=True):
    """What people say now of what one lease did in one episode. State; `revision` grows."""

    robot: Name
    episode: Text
    epoch: Epoch
    revision: Count
    mark: CorrectionMark
    # Never imitated while set.
    discarded: bool = False
    # Steps cut off its beginning and its end.
    trim_start: Count = 0
    trim_end: Count = 0
    # Who said so last.
    by: Text = ""


class CommandAnswer(Message, frozen=True, kw_only=True):
    """The robot's `Acknowledged`, relayed to whoever sent the command; or the server's refusal."""

    robot: Name
    answer: Acknowledged


ToBrowser = (
    Snapshot
    | RobotState
    | HelpState
    | FleetState
    | RobotTelemetry
    | TakeoverAnswer
    | ControlAsked
    | CorrectionState
    | CommandAnswer
    | Refused
    | Ping
    | Pong
)
