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
    Telemetry,
)
from fleet.protocol.spec import Count, Epoch, Name, Text

# One message from a browser: a command, never bulk.
MAX_BROWSER_MESSAGE_BYTES = 16 * 1024
# Frames a viewer may hold unacknowledged, per subscription (docs/architecture.md).
FRAME_CREDIT = 2
# Operators who are told of as asking for one robot.
MAX_ASKING = 16

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
    # True from an accepted stop request until the robot acknowledged it.
    stop_pending: bool = False
    t_wall_ns: int = 0


class Snapshot(Message, frozen=True, kw_only=True):
    """State of every watched robot; events at or below a robot's revision are to be ignored."""

    robots: tuple[RobotState, ...]
    operator: Text = ""
    operator_kind: Text = "human"


class FleetState(Message, frozen=True, kw_only=True):
    """What holds for the whole fleet: after every Snapshot, and when it changes. State."""

    # No robot starts an episode while set.
    paused: bool = False
    # Scripted operators hand back and take over nothing while set.
    scripted_paused: bool = False


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


class CommandAnswer(Message, frozen=True, kw_only=True):
    """The robot's `Acknowledged`, relayed to whoever sent the command; or the server's refusal."""

    robot: Name
    answer: Acknowledged


ToBrowser = (
    Snapshot
    | RobotState
    | FleetState
    | RobotTelemetry
    | TakeoverAnswer
    | ControlAsked
    | CommandAnswer
    | Refused
    | Ping
    | Pong
)
