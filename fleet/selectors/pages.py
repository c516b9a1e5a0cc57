"""Reads for the pages: what a row knows before the socket says more."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from fleet.models import FleetSettings, Operator, OperatorKind, PolicyReport, Robot, Role, Task
from fleet.protocol.control import Mode
from fleet.protocol.messages import STALE_AFTER_S

# Rows of the newest reports on a robot's page: two a version.
REPORTS_SHOWN = 12
_WORDS = {
    "autonomous": gettext_lazy("Autonomous"),
    "human": gettext_lazy("Human"),
    "holding": gettext_lazy("Holding"),
    "stopped": gettext_lazy("Stopped"),
    "stale": gettext_lazy("Stale"),
    "offline": gettext_lazy("Offline"),
}


@dataclass(frozen=True, slots=True)
class Tile:
    """One robot on the fleet page as its row has it; live state replaces it within a moment."""

    robot: Robot
    # One of autonomous, human, holding, stopped, stale, offline: the same as in facts.js.
    kind: str
    words: str
    camera: str
    policy: str
    since: str
    # What it is evaluated for, in words; empty in normal work. The same words as in facts.js.
    evaluation: str
    # Since when it is silent, in words; empty while it is heard.
    why: str


@dataclass(frozen=True, slots=True)
class Scripted:
    """The scripted operators: how many there are, and whether they are paused."""

    count: int
    paused: bool


def condition(robot: Robot) -> str:
    """Return the state a person acts on, from the row."""
    if robot.last_heartbeat_at is None:
        return "offline"
    silent = timezone.now() - robot.last_heartbeat_at
    if silent > timedelta(seconds=2 * STALE_AFTER_S):
        return "offline"
    if silent > timedelta(seconds=STALE_AFTER_S):
        return "stale"
    if robot.mode in (Mode.HANDOVER, Mode.TAKEOVER):
        return "human"
    return robot.mode


def cameras_of(robot: Robot) -> list[dict[str, Any]]:
    """Return the robot's cameras as it introduced them; the first is the one people drive by."""
    cameras = robot.spec.get("cameras", [])
    return sorted(cameras, key=lambda camera: camera.get("heading_rad") is None)


def policy_words(robot: Robot) -> str:
    """Return the version a robot runs, and how many versions it is behind unless it is to be.

    A robot that no publish moves says so.
    """
    if robot.reported_number is None:
        return _("no policy")
    if robot.evaluation:
        return _("v%(number)s under evaluation") % {"number": robot.reported_number}
    behind = max(0, (robot.assigned_number or 0) - robot.reported_number)
    words = f"v{robot.reported_number}"
    if behind:
        words = _("v%(number)s · %(late)s behind") % {
            "number": robot.reported_number,
            "late": behind,
        }
    return words + (_(" · pinned") if robot.pinned_at else "")


def evaluation_words(robot: Robot) -> str:
    """Return what held-out work a robot does; empty when it trains."""
    if robot.evaluation and robot.reported_number is not None:
        return _("Evaluates v%(number)s") % {"number": robot.reported_number}
    return _("Evaluation") if robot.purpose == "eval" else ""


def tiles() -> list[Tile]:
    """Return every enabled robot, in the order of their names."""
    return [_tile(robot) for robot in Robot.objects.filter(enabled=True)]


def _tile(robot: Robot) -> Tile:
    kind = condition(robot)
    cameras = cameras_of(robot)
    since = robot.reported_since
    time = f"{timezone.localtime(since):%H:%M:%S}" if since else ""
    return Tile(
        robot=robot,
        kind=kind,
        words=str(_WORDS[kind]),
        camera=cameras[0]["name"] if cameras else "",
        policy=policy_words(robot),
        since=_("since %(time)s") % {"time": time} if time else "",
        evaluation=evaluation_words(robot) if kind not in ("offline", "stale") else "",
        why=_silence(robot) if kind in ("offline", "stale") else "",
    )


def _silence(robot: Robot) -> str:
    if robot.last_heartbeat_at is None:
        return _("never connected")
    return _("last heard %(age)s ago") % {"age": timesince(robot.last_heartbeat_at, depth=1)}


def task_names() -> list[str]:
    """Return the enabled tasks' names."""
    return list(Task.objects.filter(enabled=True).order_by("name").values_list("name", flat=True))


def sites() -> list[str]:
    """Return where robots stand, each once."""
    robots = Robot.objects.filter(enabled=True).exclude(site="")
    return list(robots.order_by("site").values_list("site", flat=True).distinct())


def policy_reports(robot: Robot) -> QuerySet[PolicyReport]:
    """Return what became of the newest versions on this robot, newest first."""
    return robot.policy_reports.order_by("-reported_at", "-id")[:REPORTS_SHOWN]


def scripted() -> Scripted:
    """Return the scripted operators."""
    fleet = FleetSettings.objects.filter(pk=1).first()
    return Scripted(
        count=Operator.objects.filter(kind=OperatorKind.SCRIPTED, user__is_active=True).count(),
        paused=fleet.scripted_paused if fleet else False,
    )


@dataclass(frozen=True, slots=True)
class HelpPanel:
    """What the help queue is rendered with; who asks comes over the socket."""

    # A request is to be answered within this time.
    sla_s: float
    # To whom a lead may give a request; empty for all others.
    drivers: tuple[str, ...]


def help_panel(operator: Operator) -> HelpPanel:
    """Return what the help queue of this operator's page needs."""
    fleet = FleetSettings.objects.filter(pk=1).first() or FleetSettings()
    people = Operator.objects.select_related("user").filter(
        kind=OperatorKind.HUMAN, user__is_active=True
    )
    drivers = [one.name for one in people if one.may(Role.OPERATOR)]
    return HelpPanel(fleet.help_sla_s, tuple(drivers) if operator.may(Role.LEAD) else ())


def longest_timeout_ticks() -> int:
    """Return the ticks of the longest enabled task: the width of an episode's timeline."""
    return max(Task.objects.filter(enabled=True).values_list("timeout_ticks", flat=True), default=0)
