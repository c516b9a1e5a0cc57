"""Which version each robot is to run. `learning` calls these verbs; nothing here knows why."""

from collections.abc import Iterable

import msgspec
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from fleet.models import Robot
from fleet.protocol import messages as m
from fleet.protocol.spec import PolicyRef
from fleet.services import events


def assign_policy(
    ref: PolicyRef,
    *,
    weights: bytes | None = None,
    robots: list[str] | None = None,
    even_if_older: bool = False,
) -> list[str]:
    """Make `ref` the version of `robots` (all enabled ones by default); return their names.

    Robots that are pinned are passed by.

    True afterwards: each named robot's row holds `ref`, and its announcement is published when the
    transaction commits; robots that miss it are told again on a heartbeat. Called twice: publishes
    twice, changes nothing more. One conditional update, so that of two publishers the higher number
    stays, whatever the order.

    Args:
        ref: The version, as a value.
        weights: Its bytes; they ride in the announcement when at most MAX_INLINE_WEIGHTS_BYTES.
        robots: Names; None is every enabled robot.
        even_if_older: Also replace a higher number: a lead's rollback.
    """
    if weights is not None and len(weights) > m.MAX_INLINE_WEIGHTS_BYTES:
        weights = None
    with transaction.atomic():
        rows = Robot.objects.filter(enabled=True, pinned_at__isnull=True)
        if robots is not None:
            rows = rows.filter(name__in=robots)
        if not even_if_older:
            rows = rows.filter(Q(assigned_number__isnull=True) | Q(assigned_number__lte=ref.number))
        names = list(rows.select_for_update().order_by("pk").values_list("name", flat=True))
        _assign(names, ref, weights)
    return names


def pin_robots(names: Iterable[str], *, ref: PolicyRef, by: str, reason: str = "") -> list[str]:
    """Make `ref` the version of these robots until they are unpinned; return their names.

    True afterwards: `assign_policy` passes them by, and they are told like everybody else; also
    disabled ones are pinned. Called again, the newer pin holds. Locks the rows.

    Args:
        names: Of robots; unknown ones are passed over.
        ref: The version, as a value.
        by: Who pins, at most 150 characters.
        reason: Why, at most 500 characters.
    """
    with transaction.atomic():
        rows = Robot.objects.select_for_update().filter(name__in=list(names)).order_by("pk")
        found = list(rows.values_list("name", flat=True))
        _assign(
            found, ref, None, pinned_at=timezone.now(), pinned_by=by[:150], pin_reason=reason[:500]
        )
    return found


def unpin_robots(names: Iterable[str]) -> list[str]:
    """Let these robots be assigned versions again; return the names of those that were pinned.

    They keep the version they have until somebody assigns another. Locks the rows.
    """
    with transaction.atomic():
        rows = Robot.objects.select_for_update().filter(name__in=list(names)).order_by("pk")
        found = list(rows.filter(pinned_at__isnull=False).values_list("name", flat=True))
        Robot.objects.filter(name__in=found).update(pinned_at=None, pinned_by="", pin_reason="")
    return found


def _assign(names: list[str], ref: PolicyRef, weights: bytes | None, **pin: object) -> None:
    Robot.objects.filter(name__in=names).update(
        assigned_number=ref.number,
        assigned_sha256=ref.sha256,
        assigned_url=ref.url,
        assigned_size_bytes=ref.size_bytes,
        assigned_parent=ref.parent,
        assigned_at=timezone.now(),
        **pin,
    )
    if names:
        payload = events.PolicyForRobots(
            robots=tuple(names), announcement=m.PolicyAnnouncement(policy=ref, weights=weights)
        )
        events.publish_on_commit(events.POLICIES, msgspec.msgpack.encode(payload))


def policy_announcement_for(robot: Robot) -> m.PolicyAnnouncement | None:
    """Return what a robot must be told, or None when it runs what it is assigned.

    Without the bytes: a robot that missed the announcement fetches them by url.
    """
    assigned = robot.assigned
    if assigned is None or assigned.sha256 == robot.reported_sha256:
        return None
    return m.PolicyAnnouncement(policy=assigned)
