"""Leases in the database: grant, renew, end. The database decides who holds a robot.

Sockets keep a copy of the lease they were granted and drive without asking again; what changes a
lease from elsewhere reaches them as an event.
"""

from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from fleet.exceptions import LeaseGone, NotAllowed, RobotBusy, RobotUnknown
from fleet.models import LeaseEnd, Operator, Robot, Role, TakeoverLease
from fleet.protocol import messages as m
from fleet.protocol.control import LEASE_TTL_S, Lease, Mode
from fleet.selectors.access import require_role
from fleet.services import events


def lease_value(row: TakeoverLease) -> Lease:
    """Return a lease's row as the value on the wire."""
    return Lease(
        epoch=row.epoch,
        holder=row.operator.name,
        holder_kind=row.operator.kind,
        expires_wall_ns=int(row.expires_at.timestamp() * 1e9),
    )


def grant_lease(
    *, robot: str, operator: Operator, purpose: str | None = None, mode: str | None = None
) -> Lease:
    """Give `operator` the robot under the next epoch.

    True afterwards: exactly one lease of the robot is open, its epoch is above every epoch granted
    or seen before. Called twice: the second call is refused, also for the same operator. Locks the
    robot's row. Publishes nothing: the caller's socket sends the grant to the robot.

    Args:
        robot: The robot's name.
        operator: Who asks; needs the role operator.
        purpose: Of the running episode as the live link knows it; None trusts the row, which lags
            by up to a second.
        mode: Likewise.

    Raises:
        NotAllowed: The role does not reach.
        RobotUnknown: No such robot, or it is disabled.
        RobotBusy: It is held, evaluates, or is stopped.
    """
    require_role(operator, Role.OPERATOR)
    with transaction.atomic():
        row = Robot.objects.select_for_update().filter(name=robot, enabled=True).first()
        if row is None:
            raise RobotUnknown(f"there is no robot {robot}")
        if (purpose or row.purpose) == "eval":
            raise RobotBusy(f"{robot} runs an evaluation episode, which nobody may touch")
        if (mode or row.mode) == Mode.STOPPED or row.stop_requested:
            raise RobotBusy(f"{robot} is stopped; release it first")
        now = timezone.now()
        held = (
            TakeoverLease.objects.select_related("operator__user")
            .filter(robot=row, ended_at__isnull=True)
            .first()
        )
        if held is not None:
            if held.expires_at > now:
                raise RobotBusy(f"{robot} is held by {held.operator.name}")
            _end(held, LeaseEnd.EXPIRED, now)
        lease = _open_next(row, operator, now)
    return lease_value(lease)


def pass_lease(*, robot: str, epoch: int, to: str) -> Lease:
    """End an open lease and grant the next one to the operator named `to`, in one transaction.

    True afterwards: nobody else can have taken the robot in between. Called twice: LeaseGone.
    Locks the robot's row. Publishes nothing: the sockets of both are told by their hub.

    Raises:
        LeaseGone: The lease ended before.
        NotAllowed: There is no such operator, or the role does not reach.
        RobotBusy: The robot is stopped.
    """
    operator = Operator.objects.select_related("user").filter(user__username=to).first()
    if operator is None:
        raise NotAllowed(f"there is no operator {to}")
    require_role(operator, Role.OPERATOR)
    with transaction.atomic():
        row = Robot.objects.select_for_update().filter(name=robot, enabled=True).first()
        held = None
        if row is not None:
            held = TakeoverLease.objects.filter(robot=row, epoch=epoch).first()
        now = timezone.now()
        if row is None or held is None or not _end(held, LeaseEnd.PASSED, now):
            raise LeaseGone(f"the lease {epoch} of {robot} has ended")
        if row.mode == Mode.STOPPED or row.stop_requested:
            raise RobotBusy(f"{robot} is stopped; release it first")
        lease = _open_next(row, operator, now)
    return lease_value(lease)


def _open_next(row: Robot, operator: Operator, now: datetime) -> TakeoverLease:
    # The row is locked; the filter is what keeps epochs unique should a database not lock.
    if not Robot.objects.filter(pk=row.pk, epoch=row.epoch).update(epoch=row.epoch + 1):
        raise RobotBusy(f"{row.name} was just taken")
    return TakeoverLease.objects.create(
        robot=row,
        operator=operator,
        epoch=row.epoch + 1,
        granted_at=now,
        expires_at=now + timedelta(seconds=LEASE_TTL_S),
    )


def renew_lease(*, robot: str, epoch: int) -> None:
    """Put the expiry of an open lease LEASE_TTL_S from now. Raises LeaseGone when it ended."""
    expires_at = timezone.now() + timedelta(seconds=LEASE_TTL_S)
    if not _open(robot, epoch).update(expires_at=expires_at):
        raise LeaseGone(f"the lease {epoch} of {robot} has ended")


def end_lease(*, robot: str, epoch: int, how: LeaseEnd) -> bool:
    """End an open lease. False when it had ended before: the first end counts.

    Publishes nothing: the caller's socket has told the robot already, before this write.
    """
    return bool(_open(robot, epoch).update(ended_at=timezone.now(), how=how))


def revoke_lease(*, robot: str, by: Operator) -> bool:
    """End whatever lease is open, by a lead. The robot holds. Publishes the end to the robot."""
    require_role(by, Role.LEAD)
    with transaction.atomic():
        held = TakeoverLease.objects.filter(robot__name=robot, ended_at__isnull=True).first()
        if held is None or not _end(held, LeaseEnd.REVOKED, timezone.now()):
            return False
        events.command_on_commit(robot, m.LeaseEnded(epoch=held.epoch, how="lost"))
    return True


def end_expired_leases(*, grace_s: float = 1.0) -> list[tuple[str, int]]:
    """End every lease that was not renewed in time; return (robot, epoch) of each.

    Safe to run anywhere and at once: each lease is ended by one compare-and-swap. Publishes the
    end to the robot, which then holds. `grace_s` covers a renewal that waits for the database.
    """
    ended = []
    now = timezone.now()
    overdue = TakeoverLease.objects.select_related("robot").filter(
        ended_at__isnull=True, expires_at__lte=now - timedelta(seconds=grace_s)
    )
    for lease in overdue:
        with transaction.atomic():
            if not _end(lease, LeaseEnd.EXPIRED, now):
                continue
            events.command_on_commit(lease.robot.name, m.LeaseEnded(epoch=lease.epoch, how="lost"))
        ended.append((lease.robot.name, lease.epoch))
    return ended


def open_lease(robot: Robot) -> Lease | None:
    """Return the lease in force, or None."""
    row = (
        TakeoverLease.objects.select_related("operator__user")
        .filter(robot=robot, ended_at__isnull=True, expires_at__gt=timezone.now())
        .first()
    )
    return lease_value(row) if row else None


def _open(robot: str, epoch: int):
    # No join: an update through one takes a subquery, whose answer PostgreSQL does not ask for
    # again when it has waited for another's update, and then both count as the first.
    named = Robot.objects.filter(name=robot)
    return TakeoverLease.objects.filter(robot__in=named, epoch=epoch, ended_at__isnull=True)


def _end(lease: TakeoverLease, how: LeaseEnd, now: datetime) -> bool:
    """End `lease` unless it ended, or was renewed since it was read."""
    rows = TakeoverLease.objects.filter(pk=lease.pk, ended_at__isnull=True)
    if how == LeaseEnd.EXPIRED:
        rows = rows.filter(expires_at__lte=now)
    return bool(rows.update(ended_at=now, how=how))
