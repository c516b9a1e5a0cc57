"""Reads of the help queue."""

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Q, QuerySet

from fleet.models import HelpRequest
from fleet.protocol import browser as b
from fleet.protocol.help import priority


def state_of(row: HelpRequest) -> b.HelpState:
    """Return a request's row as pages receive it; one query where `claimed_by` was not loaded."""
    return b.HelpState(
        robot=row.robot.name,
        revision=row.revision,
        number=row.number,
        status=row.status,
        reasons=tuple(row.reasons),
        constraint=row.constraint,
        uncertainty=row.uncertainty,
        risk=row.risk,
        detail=row.detail,
        raised_wall_ns=_ns(row.raised_at),
        claimed_wall_ns=_ns(row.claimed_at),
        claimed_by=row.claimed_by.name if row.claimed_by else "",
        claimed_by_kind=row.claimed_by.kind if row.claimed_by else "",
        note=row.note,
    )


def requests() -> QuerySet[HelpRequest]:
    """Return every request with what `state_of` needs."""
    return HelpRequest.objects.select_related("robot", "claimed_by__user")


def queue() -> list[b.HelpState]:
    """Return what is not closed, the first to be helped first."""
    states = [state_of(row) for row in requests().filter(closed_at__isnull=True)]
    return sorted(states, key=order)


def newest(robots: Iterable[str] = ()) -> list[b.HelpState]:
    """Return what is not closed, and of these robots also what is: oldest change first."""
    rows = requests().filter(Q(closed_at__isnull=True) | Q(robot__name__in=robots))
    return [state_of(row) for row in rows.order_by("revision")]


def order(state: b.HelpState) -> tuple[bool, float, float, int]:
    """Return the key that sorts requests (`fleet.protocol.help.priority`)."""
    return priority(
        constraint=state.constraint,
        uncertainty=state.uncertainty,
        risk=state.risk,
        raised_wall_ns=state.raised_wall_ns,
    )


def _ns(at: datetime | None) -> int:
    return 0 if at is None else round(at.timestamp() * 1e6) * 1000
