"""Requests for help: what robots say they need becomes rows, and people take, skip or pass them on.

The robot decides whether it needs help; nothing here asks in its place, so that a request never
outlives its need. Of two who claim one, the database lets one through. Sockets show a need before
it is a row (`live/help_desk.py`): `after_need` is what both go by.
"""

import time
from datetime import UTC, datetime, timedelta

import msgspec
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, Value
from django.db.models.functions import Coalesce, Greatest
from django.utils import timezone

from fleet.exceptions import HelpTaken, NotAllowed
from fleet.models import HelpRequest, Operator, Robot, Role, TakeoverLease
from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.help import HelpReason
from fleet.selectors.access import require_role
from fleet.selectors.help import requests, state_of
from fleet.services import events

# Who took a request and does not drive after this long has not taken it.
CLAIM_S = 15.0
# After a lease ended, the robot is given this long to say whether it was helped.
VERDICT_S = 3.0
# A robot that is silent for this long cannot be helped from here.
EXPIRE_SILENT_S = 30.0
# A robot's clock is not believed beyond this.
_LONGEST_WAIT_NS = 24 * 3600 * 1_000_000_000
LIVE = ("open", "claimed", "escalated")
_Status = HelpRequest.Status
_ENDS: dict[m.HelpEnd, str] = {
    "": "",
    "helped": "helped",
    "recovered": "the robot got out of it by itself",
    "over": "the situation passed",
}


def after_need(
    robot: str, known: b.HelpState | None, need: m.HelpNeed, *, offset_ns: int, now_ns: int
) -> b.HelpState | None:
    """Return what becomes of a robot's newest request when it says `need`; None: nothing.

    Args:
        robot: Its name.
        known: Its newest request, closed or not.
        need: What it says.
        offset_ns: Server wall clock minus robot wall clock.
        now_ns: Server wall clock.
    """
    live = known is not None and known.status in LIVE
    revision = max(now_ns // 1000, known.revision + 1 if known else 0)
    if not need.reasons:
        if known is None or not live:
            return None
        passed = need.ended == "over" and known.status != "claimed"
        status = "expired" if passed else "resolved"
        return msgspec.structs.replace(
            known, status=status, note=_ENDS[need.ended], revision=revision
        )
    said = {
        "number": need.number,
        "reasons": need.reasons,
        "constraint": need.constraint,
        "uncertainty": need.uncertainty,
        "risk": need.risk,
        "detail": need.detail,
    }
    if known is not None and live:
        left = HelpReason.OPERATOR_LEFT.value
        if known.status == "claimed" and left in need.reasons and left not in known.reasons:
            said |= _reopened(f"{known.claimed_by} left")
        new = msgspec.structs.replace(known, **said)
        return None if new == known else msgspec.structs.replace(new, revision=revision)
    if known is not None and known.number == need.number:
        if known.status != "expired":
            return None  # a person closed it, or the robot did and this came late
        return msgspec.structs.replace(known, status="open", note="", revision=revision, **said)
    raised_ns = need.since_wall_ns + offset_ns
    return b.HelpState(
        robot=robot,
        revision=revision,
        status="open",
        # Microseconds, as the row will have it.
        raised_wall_ns=min(max(raised_ns, now_ns - _LONGEST_WAIT_NS), now_ns) // 1000 * 1000,
        **said,
    )


def _reopened(note: str) -> dict[str, object]:
    return {
        "status": "open",
        "claimed_by": "",
        "claimed_by_kind": "",
        "claimed_wall_ns": 0,
        "note": note,
    }


def store_need(*, robot: str, need: m.HelpNeed, offset_ns: int = 0) -> b.HelpState | None:
    """Make what a robot says it needs its request; return the newest request, None without one.

    True afterwards: the robot has at most one request that is not closed, and one where it needs
    help, unless a person skipped this very need. Called twice: the second call changes nothing.
    Locks the robot's row. Publishes the request when it changed.
    """
    with transaction.atomic():
        owner = Robot.objects.select_for_update().filter(name=robot).first()
        if owner is None:
            return None
        rows = requests().filter(robot=owner)
        row = (
            rows.filter(closed_at__isnull=True).first()
            or rows.filter(number=need.number).first()
            or rows.first()
        )
        known = state_of(row) if row else None
        new = after_need(robot, known, need, offset_ns=offset_ns, now_ns=time.time_ns())
        if new is None:
            return known
        if row is None or (row.closed_at is not None and row.number != new.number):
            row = HelpRequest(robot=owner, raised_at=_at(new.raised_wall_ns))
        row.number, row.revision, row.status = new.number, new.revision, new.status
        row.reasons = list(new.reasons)
        row.constraint, row.uncertainty, row.risk = new.constraint, new.uncertainty, new.risk
        row.detail, row.note = new.detail, new.note
        if not new.claimed_by:
            row.claimed_by = row.claimed_at = None
        row.closed_at = None if new.status in LIVE else timezone.now()
        row.save()
        _publish(new)
    return new


# ---- what people do ----------------------------------------------------------------------------


def claim_help(*, robot: str, by: Operator, operator: str = "") -> b.HelpState:
    """Give the robot's request to `by`, or by a lead to the operator of that name.

    One compare-and-swap: of many who ask at once one gets it. Called again by who has it: the same
    answer. An escalated one is for leads. Publishes it.

    Raises:
        NotAllowed: The role does not reach.
        HelpTaken: Somebody else has it, or there is none.
    """
    require_role(by, Role.OPERATOR)
    whose = by
    if operator and operator != by.name:
        require_role(by, Role.LEAD)
        found = Operator.objects.select_related("user").filter(user__username=operator).first()
        if found is None or not found.may(Role.OPERATOR):
            raise NotAllowed(f"there is no operator {operator} who may drive")
        whose = found
    free = [_Status.OPEN, *([_Status.ESCALATED] if by.may(Role.LEAD) else [])]
    now = timezone.now()
    with transaction.atomic():
        claimed = _live(robot).filter(status__in=free)
        if not _change(
            claimed,
            status=_Status.CLAIMED,
            claimed_by=whose,
            claimed_at=now,
            answered_at=_first(now),
            note="",
        ):
            return _why_not(robot, whose)
        return _published(robot)


def drive_help(*, robot: str, by: Operator) -> b.HelpState | None:
    """Note that `by` drives the robot now: whoever has the lease has the request, if there is one.

    Called twice: the second call changes nothing. Publishes it. The caller granted the lease.
    """
    now = timezone.now()
    with transaction.atomic():
        others = _live(robot).exclude(status=_Status.CLAIMED, claimed_by=by)
        if not _change(
            others,
            status=_Status.CLAIMED,
            claimed_by=by,
            claimed_at=now,
            answered_at=_first(now),
            note="",
        ):
            return None
        return _published(robot)


def skip_help(*, robot: str, number: int, by: Operator, reason: str) -> b.HelpState:
    """Close a request without helping, because of `reason`. The same need is not raised again.

    Publishes it. Raises NotAllowed, HelpTaken: another one has it, it is closed, or it changed.
    """
    require_role(by, Role.OPERATOR)
    with transaction.atomic():
        if not _change(
            _mine(robot, number, by),
            status=_Status.SKIPPED,
            closed_at=timezone.now(),
            note=f"skipped by {by.name}: {reason}"[:500],
        ):
            return _why_not(robot, None)
        return _published(robot, number)


def escalate_help(*, robot: str, number: int, by: Operator, reason: str = "") -> b.HelpState:
    """Leave a request to the leads. Publishes it. Raises NotAllowed, HelpTaken as `skip_help`."""
    require_role(by, Role.OPERATOR)
    note = f"escalated by {by.name}" + (f": {reason}" if reason else "")
    with transaction.atomic():
        if not _change(
            _mine(robot, number, by).exclude(status=_Status.ESCALATED),
            status=_Status.ESCALATED,
            escalated_at=timezone.now(),
            claimed_by=None,
            claimed_at=None,
            note=note[:500],
        ):
            return _why_not(robot, None)
        return _published(robot)


# ---- what time does ----------------------------------------------------------------------------


def sweep_help() -> list[str]:
    """Open again what was taken and is not driven; expire what no robot stands behind.

    Safe to run anywhere and at once: each change is one compare-and-swap. Publishes each; returns
    the robots' names.
    """
    now = timezone.now()
    driven = TakeoverLease.objects.filter(robot=OuterRef("robot")).filter(
        Q(ended_at__isnull=True) | Q(ended_at__gt=now - timedelta(seconds=VERDICT_S))
    )
    silent = Q(robot__last_heartbeat_at__lt=now - timedelta(seconds=EXPIRE_SILENT_S)) | Q(
        robot__enabled=False
    )
    live = HelpRequest.objects.select_related("robot", "claimed_by__user").filter(
        closed_at__isnull=True
    )
    idle = live.filter(
        status=_Status.CLAIMED, claimed_at__lt=now - timedelta(seconds=CLAIM_S)
    ).exclude(Exists(driven))
    changed = []
    for row in live.filter(silent):
        note = "the robot is not connected"
        changed += _sweep(row, status=_Status.EXPIRED, closed_at=now, note=note)
    for row in idle.exclude(silent):
        note = f"{row.claimed_by} took it and does not drive"
        changed += _sweep(row, status=_Status.OPEN, claimed_by=None, claimed_at=None, note=note)
    return changed


def _sweep(row: HelpRequest, **fields: object) -> list[str]:
    with transaction.atomic():
        if not _change(HelpRequest.objects.filter(pk=row.pk, revision=row.revision), **fields):
            return []
        _published(row.robot.name, row.number)
    return [row.robot.name]


# ---- rows --------------------------------------------------------------------------------------


def _live(robot: str):
    # By key: a filter across tables becomes a subquery, which PostgreSQL does not look at again
    # after it waited for a row, and then two have claimed one request.
    owner = Robot.objects.filter(name=robot).values_list("pk", flat=True).first()
    return HelpRequest.objects.filter(robot_id=owner, closed_at__isnull=True)


def _mine(robot: str, number: int, by: Operator):
    """Requests that `by` may put away: free ones, one's own, for leads every one."""
    rows = _live(robot).filter(number=number)
    return rows if by.may(Role.LEAD) else rows.filter(Q(status=_Status.OPEN) | Q(claimed_by=by))


def _change(rows, **fields: object) -> int:
    """Change rows if they still are what the filter says; the revision grows."""
    revision = Greatest(F("revision") + 1, Value(time.time_ns() // 1000))
    return rows.update(revision=revision, **fields)


def _first(now: datetime) -> object:
    return Coalesce(F("answered_at"), Value(now))


def _published(robot: str, number: int | None = None) -> b.HelpState:
    rows = requests().filter(robot__name=robot)
    rows = rows.filter(closed_at__isnull=True) if number is None else rows.filter(number=number)
    state = state_of(rows.get())
    _publish(state)
    return state


def _publish(state: b.HelpState) -> None:
    events.publish_on_commit(events.HELP, msgspec.json.encode(state))


def _why_not(robot: str, whose: Operator | None) -> b.HelpState:
    """Return the request when `whose` already has it; else raise why it cannot be had."""
    row = requests().filter(robot__name=robot, closed_at__isnull=True).first()
    if row is None:
        raise HelpTaken(f"{robot} does not ask for help any more")
    if row.status == _Status.ESCALATED:
        raise HelpTaken(f"the request of {robot} waits for a lead")
    if row.claimed_by is None:
        raise HelpTaken(f"{robot} asks for something else by now; look again")
    if whose is not None and row.claimed_by_id == whose.pk:
        return state_of(row)
    raise HelpTaken(f"{row.claimed_by.name} has the request of {robot}")


def _at(wall_ns: int) -> datetime:
    return datetime.fromtimestamp(wall_ns / 1e9, UTC)
