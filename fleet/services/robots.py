"""Robots' rows: registration, tokens, what they are to do, and what they last said."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from django.db import transaction
from django.utils import timezone

from fleet.exceptions import RobotUnknown
from fleet.models import FleetSettings, PolicyReport, Robot, Task
from fleet.models.tokens import hash_token, new_token
from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.control import Lease
from fleet.protocol.help import HelpLimits
from fleet.protocol.simulation import EVAL_SEEDS
from fleet.protocol.spec import PolicyRef, TrialOrder, ValueRef
from fleet.services import events, takeover
from fleet.services.policies import policy_announcement_for

# Training seeds of one robot; robots then do not repeat each other's layouts.
SEEDS_PER_ROBOT = 1_000_000


@dataclass(frozen=True, slots=True)
class Connected:
    """What the gateway needs to know of a robot that said hello."""

    epoch: int
    assignment: m.Assignment
    announcement: m.PolicyAnnouncement | None
    assigned_number: int | None
    pinned: bool
    lease: Lease | None
    # A stop that was asked for while nobody could tell the robot.
    stop: m.Stop | None


@dataclass(frozen=True, slots=True)
class Told:
    """What a robot is to run, and whether it is pinned to that."""

    policy: PolicyRef | None
    pinned: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """One robot's newest heartbeat, and when it arrived."""

    heartbeat: m.Heartbeat
    at: datetime


def register_robot(
    *, name: str, kind: str = Robot.Kind.SIMULATED, site: str = ""
) -> tuple[Robot, str | None]:
    """Return the robot `name` and its token; the token is None when the robot existed.

    The token is returned this once and stored hashed. Raises ValidationError, with nothing stored.
    """
    token = new_token()
    with transaction.atomic():
        robot, created = Robot.objects.get_or_create(
            name=name, defaults={"kind": kind, "site": site, "token_hash": hash_token(token)}
        )
        if created:
            robot.full_clean(validate_unique=False, validate_constraints=False)
    return robot, token if created else None


def issue_token(robot: Robot) -> str:
    """Give the robot a new token and return it, this once. The old one stops working."""
    token = new_token()
    robot.token_hash = hash_token(token)
    robot.save(update_fields=None if robot.pk is None else ["token_hash"])
    return token


def assignment_of(robot: Robot) -> m.Assignment:
    """Return what the robot does until told otherwise."""
    fleet, _ = FleetSettings.objects.get_or_create(pk=1)
    tasks = Task.objects.filter(enabled=True)
    chosen = tasks.filter(robots=robot)
    return m.Assignment(
        tasks=tuple(task.spec() for task in (chosen if chosen.exists() else tasks)),
        evaluate_every=fleet.evaluate_every,
        eval_seeds=EVAL_SEEDS,
        train_seed=(robot.pk - 1) % 500 * SEEDS_PER_ROBOT,
        reset_s=fleet.reset_s,
        paused=fleet.paused or robot.paused,
        order=None if robot.order is None else msgspec.convert(robot.order, TrialOrder),
        help=HelpLimits(
            doubt=fleet.help_doubt,
            still_s=fleet.help_still_s,
            failures=fleet.help_failures,
            value_drop=fleet.help_value_drop,
            value_correlation=fleet.help_value_correlation,
        ),
        value=value_of(fleet),
    )


def value_of(fleet: FleetSettings) -> ValueRef | None:
    """Return the value function that robots are to compute; None is none."""
    if fleet.value is None or not fleet.values_on_robots:
        return None
    return msgspec.convert(fleet.value, ValueRef)


def assign_value(ref: ValueRef) -> bool:
    """Make `ref` the value function of every robot, and tell them; say whether it was another.

    Called twice, the second call changes and publishes nothing. Locks the settings' row. What gets
    lost on the way is repeated on a heartbeat.
    """
    with transaction.atomic():
        fleet, _ = FleetSettings.objects.select_for_update().get_or_create(pk=1)
        value = msgspec.to_builtins(ref)
        if fleet.value == value:
            return False
        fleet.value = value
        fleet.save(update_fields=["value"])
        announce_assignments()
    return True


def announce_assignments(robots: Iterable[Robot] | None = None) -> None:
    """Send each robot its current assignment on commit: after a change of tasks or settings."""
    for robot in Robot.objects.filter(enabled=True) if robots is None else robots:
        events.command_on_commit(robot.name, assignment_of(robot))


def change_settings(**fields: object) -> FleetSettings:
    """Change what holds for every robot, and tell them."""
    with transaction.atomic():
        fleet, _ = FleetSettings.objects.select_for_update().get_or_create(pk=1)
        for name, value in fields.items():
            setattr(fleet, name, value)
        fleet.full_clean()
        fleet.save()
        announce_assignments()
        events.publish_on_commit(events.FLEET, msgspec.json.encode(fleet_state(fleet)))
    return fleet


def fleet_state(fleet: FleetSettings | None = None) -> b.FleetState:
    """Return what operators are told of the fleet's settings; read from the row when not given."""
    fleet = fleet or FleetSettings.objects.filter(pk=1).first() or FleetSettings()
    return b.FleetState(
        paused=fleet.paused,
        scripted_paused=fleet.scripted_paused,
        help_sla_s=fleet.help_sla_s,
    )


def pause_robot(robot: Robot, *, paused: bool) -> None:
    """Let the robot start no more episodes, or let it go on, and tell it."""
    with transaction.atomic():
        Robot.objects.filter(pk=robot.pk).update(paused=paused)
        robot.refresh_from_db()
        announce_assignments([robot])


def robot_connected(*, robot: int, hello: m.Hello) -> Connected:
    """Store a hello and return what the robot must be told. Locks the row. Raises RobotUnknown."""
    with transaction.atomic():
        row = Robot.objects.select_for_update().filter(pk=robot, enabled=True).first()
        if row is None or row.name != hello.robot:
            raise RobotUnknown(f"this token is not {hello.robot}'s")
        row.spec = msgspec.to_builtins(hello.spec)
        row.kind = Robot.Kind.SIMULATED if hello.spec.simulated else Robot.Kind.REAL
        row.agent_version = hello.agent_version
        row.connected_at = row.last_heartbeat_at = timezone.now()
        row.mode = hello.mode
        # Never grant at or below what the robot has seen, even if this database was restored.
        row.epoch = max(row.epoch, hello.epoch)
        _report(row, hello.policy, None)
        row.save()
        stop = m.Stop(stop_id=row.stop_requested, by=row.stop_by) if row.stop_requested else None
        return Connected(
            epoch=row.epoch,
            assignment=assignment_of(row),
            announcement=policy_announcement_for(row),
            assigned_number=row.assigned_number,
            pinned=row.pinned_at is not None,
            lease=takeover.open_lease(row),
            stop=stop,
        )


# What a heartbeat says that stays the same most of the time.
_REPORTED = (
    "mode",
    "purpose",
    "evaluation",
    "epoch",
    "reported_number",
    "reported_sha256",
    "reported_since",
)


def store_heartbeats(heard: dict[str, Heard]) -> dict[str, Told]:
    """Store the newest heartbeat of each robot; return what each is assigned.

    One transaction for all of them: called at most once a second by each web process.
    """
    with transaction.atomic():
        rows = {
            row.name: row
            for row in Robot.objects.select_for_update().filter(name__in=heard).order_by("pk")
        }
        for name, row in rows.items():
            heartbeat = heard[name].heartbeat
            before = [getattr(row, field) for field in _REPORTED]
            row.mode, row.purpose = heartbeat.mode, heartbeat.purpose
            row.evaluation = heartbeat.evaluation
            row.epoch = max(row.epoch, heartbeat.epoch)
            since_ns = heartbeat.policy_since_wall_ns + heartbeat.clock_offset_ns
            _report(row, heartbeat.policy, since_ns if heartbeat.policy_since_wall_ns else None)
            if before != [getattr(row, field) for field in _REPORTED]:
                row.save(update_fields=_REPORTED)
        # Most heartbeats change nothing but when: one time for all of them, right to the second
        # that their rows may lag, where a value for each would take a third of the web process
        # from a hundred robots.
        if rows:
            newest = max(heard[name].at for name in rows)
            pks = [row.pk for row in rows.values()]
            Robot.objects.filter(pk__in=pks).update(last_heartbeat_at=newest)
            _repeat_values([(row, heard[name].heartbeat.value) for name, row in rows.items()])
    return {name: Told(row.assigned, row.pinned_at is not None) for name, row in rows.items()}


def store_policy_report(*, robot: str, report: m.PolicyReport, offset_ns: int) -> bool:
    """Store what became of a version on a robot. False when this report was stored before."""
    row = Robot.objects.filter(name=robot).first()
    if row is None:
        return False
    _, created = PolicyReport.objects.get_or_create(
        robot=row,
        number=report.number,
        status=report.status,
        robot_wall_ns=report.t_wall_ns,
        defaults={
            "sha256": report.sha256,
            "reason": report.reason,
            "reported_at": _at(report.t_wall_ns + offset_ns),
        },
    )
    return created


def _repeat_values(said: list[tuple[Robot, m.ValueStatus | None]]) -> None:
    """Send the assignment again to robots that were told of another value function, or of none."""
    ref = value_of(FleetSettings.objects.filter(pk=1).first() or FleetSettings())
    wanted = ref.sha256 if ref else ""
    announce_assignments(
        [row for row, status in said if status is not None and status.told != wanted]
    )


def _report(row: Robot, policy: PolicyRef | None, since_ns: int | None) -> None:
    sha256 = policy.sha256 if policy else ""
    if row.reported_sha256 == sha256 and row.reported_since is not None:
        return
    row.reported_number = policy.number if policy else None
    row.reported_sha256 = sha256
    row.reported_since = (_at(since_ns) if since_ns else timezone.now()) if policy else None


def _at(wall_ns: int) -> datetime:
    try:
        return datetime.fromtimestamp(wall_ns / 1e9, UTC)
    except (OverflowError, ValueError, OSError):
        # A robot without a clock battery says 1970 or worse; the row must still be written.
        return timezone.now()
