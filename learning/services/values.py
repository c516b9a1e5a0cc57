"""Value functions as jobs: asked for, claimed, reported on, ended. No network is loaded here.

A claim is a compare-and-swap with an epoch; every write of a job filters on its epoch, so a job
that was taken over, or delivered twice, changes nothing more.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Max
from django.utils import timezone

from fleet.protocol.spec import ValueRef
from fleet.services.robots import assign_value
from learning import blobs
from learning.exceptions import Conflict, LeaseLost, Unprocessable
from learning.models import Learner, ThresholdVersion, ValueVersion
from learning.selectors.values import due_values, newest_done, newest_of_all

# A job reports about every second; one that is silent this long is somebody else's to do.
LEASE_TTL = timedelta(seconds=30)


class Cancelled(Exception):
    """Somebody asked the job to stop."""


@dataclass(frozen=True, slots=True)
class ValueClaim:
    """The right to do one job, under an epoch."""

    value_id: int
    epoch: int


def request_value(learner: Learner, config: dict[str, Any] | None = None) -> ValueVersion:
    """Ask for a new value function; afterwards one is due or running.

    Called twice, the second call returns the one that is not finished yet. Locks the learner's row.
    """
    with transaction.atomic():
        Learner.objects.select_for_update().get(pk=learner.pk)
        own = ValueVersion.objects.filter(learner=learner)
        unfinished = own.filter(state__in=["due", "running"]).first()
        if unfinished is not None:
            return unfinished
        last = own.aggregate(last=Max("number"))["last"] or 0
        return ValueVersion.objects.create(learner=learner, number=last + 1, config=config or {})


def claim_value(value_id: int, holder: str) -> ValueClaim | None:
    """Claim a job that is due, or whose worker went silent; None when there is nothing to do."""
    value = due_values().filter(pk=value_id).first()
    if value is None:
        return None
    now = timezone.now()
    claimed = (
        due_values(now)
        .filter(pk=value_id, lease_epoch=value.lease_epoch)
        .update(
            state=ValueVersion.State.RUNNING,
            lease_epoch=F("lease_epoch") + 1,
            lease_holder=holder[:200],
            lease_expires_at=now + LEASE_TTL,
            started_at=now,
            progress=0.0,
        )
    )
    return ValueClaim(value_id, value.lease_epoch + 1) if claimed else None


def report_progress(claim: ValueClaim, share: float) -> None:
    """Tell how far a job is and keep it. Raises LeaseLost, and Cancelled when it is to stop."""
    _fenced(claim, progress=min(max(share, 0.0), 1.0), lease_expires_at=timezone.now() + LEASE_TTL)
    if ValueVersion.objects.filter(pk=claim.value_id, cancel_asked=True).exists():
        raise Cancelled


def finish_value(
    claim: ValueClaim, *, shares: dict[str, Any], epsilons: dict[str, float], **figures: Any
) -> ThresholdVersion:
    """Make a job's result the value function in force, with its first threshold. Raises LeaseLost.

    Args:
        claim: The job's.
        shares: What the threshold leaves positive.
        epsilons: The thresholds by task.
        figures: Fields of `ValueVersion`: sha256, correlation and the like.
    """
    now = timezone.now()
    with transaction.atomic():
        _fenced(
            claim,
            state=ValueVersion.State.DONE,
            progress=1.0,
            ended_at=now,
            lease_holder="",
            lease_expires_at=None,
            **figures,
        )
        return ThresholdVersion.objects.create(
            value_id=claim.value_id, number=1, shares=shares, epsilons=epsilons, derived_at=now
        )


def assign_newest_value() -> ValueVersion | None:
    """Make the value function that was finished last that of every robot; return it.

    One for the fleet, as its policy is: whose embodiment it does not fit refuses it. None, and
    nothing changed, where there is none or its weights are gone. Safe to repeat: the sweep does,
    because a job may have crashed between its end and this.

    Raises:
        StoreUnavailable: Nothing was assigned.
    """
    value = newest_of_all()
    size_bytes = blobs.store().size(value.sha256) if value else None
    if value is None or size_bytes is None:
        return None
    assign_value(
        ValueRef(
            number=value.number,
            sha256=value.sha256,
            url=f"/api/values/{value.sha256}/weights",
            size_bytes=size_bytes,
            correlation=value.correlation,
        )
    )
    return value


def end_value(claim: ValueClaim, *, state: str, reason: str = "") -> None:
    """End a job without a result: failed or cancelled. After a lost lease it changes nothing."""
    ValueVersion.objects.filter(
        pk=claim.value_id, lease_epoch=claim.epoch, state=ValueVersion.State.RUNNING
    ).update(
        state=state,
        reason=reason[:500],
        ended_at=timezone.now(),
        lease_holder="",
        lease_expires_at=None,
    )


def give_value_back(claim: ValueClaim) -> None:
    """Let another worker begin the job anew: this one is shutting down."""
    ValueVersion.objects.filter(
        pk=claim.value_id, lease_epoch=claim.epoch, state=ValueVersion.State.RUNNING
    ).update(state=ValueVersion.State.DUE, lease_holder="", lease_expires_at=None, progress=0.0)


def cancel_value(value: ValueVersion) -> ValueVersion:
    """Stop a job: at once when nobody began, else within about a second. Safe to repeat.

    Raises:
        Conflict: It is done; a value function in use is not taken away.
    """
    with transaction.atomic():
        value = ValueVersion.objects.select_for_update().get(pk=value.pk)
        if value.state == ValueVersion.State.DONE:
            raise Conflict(f"value function {value.number} is done")
        if value.state == ValueVersion.State.DUE:
            value.state, value.ended_at = ValueVersion.State.CANCELLED, timezone.now()
        value.cancel_asked = True
        value.save(update_fields=["state", "ended_at", "cancel_asked"])
    return value


def move_threshold(learner: Learner, shares: dict[str, Any]) -> ThresholdVersion:
    """Ask for other shares of positive steps; a worker derives them without running the network.

    Called again with the shares that are already asked for or in force, it returns that row. Locks
    the learner's row.

    Raises:
        Conflict: The learner has no value function yet.
    """
    with transaction.atomic():
        Learner.objects.select_for_update().get(pk=learner.pk)
        value = newest_done(learner)
        if value is None:
            raise Conflict(f"learner {learner.name} has no value function yet")
        last = value.thresholds.order_by("-number").first()
        if last is not None and last.shares == shares:
            return last
        return ThresholdVersion.objects.create(
            value=value, number=last.number + 1 if last else 1, shares=shares
        )


def move_task_threshold(learner: Learner, *, task: str, positive: float) -> ThresholdVersion:
    """Ask for another share of positive steps of one task; those of the others stay.

    Called twice it returns the same row. Locks the learner's row.

    Raises:
        Conflict: The learner has no value function yet, or it knows no such task.
        Unprocessable: Not a share, in (0, 1).
    """
    if not 0.0 < positive < 1.0:
        raise Unprocessable(f"a share lies between 0 and 1, not {positive}")
    with transaction.atomic():
        Learner.objects.select_for_update().get(pk=learner.pk)
        last = ThresholdVersion.objects.filter(value=newest_done(learner)).last()
        if last is None or not any(task in known.epsilons for known in last.value.thresholds.all()):
            raise Conflict(f"learner {learner.name} has no threshold of {task} to move")
        by_task = {**last.shares.get("by_task", {}), task: positive}
        return move_threshold(learner, {**last.shares, "by_task": by_task})


def _fenced(claim: ValueClaim, **values: Any) -> None:
    updated = ValueVersion.objects.filter(
        pk=claim.value_id, lease_epoch=claim.epoch, state=ValueVersion.State.RUNNING
    ).update(**values)
    if not updated:
        raise LeaseLost(f"value function {claim.value_id}: epoch {claim.epoch} is over")
