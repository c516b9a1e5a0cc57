"""Learners' state and leases: who may run a round, and what became of it.

A lease is claimed by compare-and-swap and carries an epoch. Every write of a round filters on its
epoch: a round whose lease was taken over changes nothing more and stops.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from learning.exceptions import LeaseLost, NotFound
from learning.models import Learner, LearnerMetric, Round
from learning.services.recipes import default_recipe

logger = logging.getLogger(__name__)

# A round renews its lease every second or so; one that is silent this long is lost. Longer than
# the longest single thing a round does between renewals (a checkpoint to a slow store).
LEASE_TTL = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one round: whose, and under which epoch."""

    learner_id: int
    epoch: int
    holder: str
    round_id: int
    # Epoch of the claim before: a warm learner of that epoch is up to date.
    previous_epoch: int


def claim_round(learner_id: int, holder: str, *, after_epoch: int | None = None) -> Claim | None:
    """Claim the next round; None when the learner is paused or another round holds it.

    Afterwards the lease is ours for `LEASE_TTL`, a `Round` row is running, and a round whose lease
    had expired is marked lost. Called twice, the second call gets None. Compare-and-swap on the
    epoch, in one transaction.

    Args:
        learner_id: Whose round.
        holder: Who claims: host, process, and a name of this delivery.
        after_epoch: The epoch at which the round was due; None claims at any. With it a task that
            is delivered twice does nothing the second time, also long after the first.
    """
    with transaction.atomic():
        learner = Learner.objects.filter(pk=learner_id).first()
        if learner is None or learner.state != Learner.State.RUNNING or learner.busy:
            return None
        if after_epoch is not None and learner.lease_epoch != after_epoch:
            return None
        now = timezone.now()
        claimed = Learner.objects.filter(
            Q(lease_expires_at__isnull=True) | Q(lease_expires_at__lte=now),
            pk=learner_id,
            lease_epoch=learner.lease_epoch,
            state=Learner.State.RUNNING,
        ).update(
            lease_epoch=F("lease_epoch") + 1,
            lease_holder=holder[:200],
            lease_expires_at=now + LEASE_TTL,
            rounds=F("rounds") + 1,
            # A lost round may have written a step beyond its checkpoint.
            step=F("checkpoint_step"),
            changed_at=now,
        )
        if not claimed:
            return None
        Round.objects.filter(learner_id=learner_id, state=Round.State.RUNNING).update(
            state=Round.State.LOST, ended_at=now, reason="its worker went away"
        )
        row = Round.objects.create(
            learner_id=learner_id,
            number=learner.rounds + 1,
            epoch=learner.lease_epoch + 1,
            holder=holder[:200],
            started_at=now,
            first_step=learner.checkpoint_step,
        )
    return Claim(learner_id, learner.lease_epoch + 1, holder, row.pk, learner.lease_epoch)


def renew(claim: Claim, *, step: int) -> bool:
    """Extend the lease and tell the step; return whether the learner is still to run.

    Raises LeaseLost when another claim was made since.
    """
    now = timezone.now()
    _fenced(claim, lease_expires_at=now + LEASE_TTL, step=step, changed_at=now)
    state = Learner.objects.values_list("state", flat=True).get(pk=claim.learner_id)
    return state == Learner.State.RUNNING


def save_checkpoint(claim: Claim, *, sha256: str, step: int, trained_seq: int) -> None:
    """Make a stored object the checkpoint to resume from. Raises LeaseLost."""
    _fenced(
        claim,
        checkpoint_sha256=sha256,
        checkpoint_step=step,
        step=step,
        trained_seq=trained_seq,
        lease_expires_at=timezone.now() + LEASE_TTL,
    )


def add_metric(claim: Claim, *, step: int, values: dict[str, Any]) -> None:
    """Add a point to the curves; a step that has one already keeps it. Raises LeaseLost."""
    with transaction.atomic():
        hold(claim)
        LearnerMetric.objects.get_or_create(
            learner_id=claim.learner_id, epoch=claim.epoch, step=step, defaults={"values": values}
        )


def hold(claim: Claim) -> Learner:
    """Return the learner's row, locked; only inside a transaction. Raises LeaseLost."""
    learner = (
        Learner.objects.select_for_update()
        .filter(pk=claim.learner_id, lease_epoch=claim.epoch)
        .exclude(lease_holder="")
        .first()
    )
    if learner is None:
        raise LeaseLost(f"learner {claim.learner_id}: epoch {claim.epoch} is over")
    return learner


def end_round(claim: Claim, *, state: str, note: str = "", **figures: Any) -> None:
    """End the round and give the lease back. Called twice, or after a loss, it changes nothing.

    Args:
        claim: The round's.
        state: A final `Round.State`.
        note: Why it ended early or did not train; for a failed round, the error.
        figures: Fields of `Round`: steps, train_s, overhead_s and the like.
    """
    now = timezone.now()
    failed = state == Round.State.FAILED
    with transaction.atomic():
        held = Learner.objects.filter(
            pk=claim.learner_id, lease_epoch=claim.epoch, lease_holder=claim.holder[:200]
        ).update(
            lease_holder="",
            lease_expires_at=None,
            note=note[:500],
            last_error=note[:500] if failed else "",
            changed_at=now,
        )
        if held:
            Round.objects.filter(pk=claim.round_id, state=Round.State.RUNNING).update(
                state=state, ended_at=now, reason=note[:500], **figures
            )


@contextmanager
def round_of(claim: Claim) -> Iterator[None]:
    """Mark the round failed if the block raises; a lost lease is nobody's error."""
    try:
        yield
    except LeaseLost:
        logger.warning("learner %s: lost the lease of epoch %s", claim.learner_id, claim.epoch)
    except Exception as error:
        end_round(claim, state=Round.State.FAILED, note=f"{type(error).__name__}: {error}")
        raise


def seed_learner(
    name: str, config: dict[str, Any] | None = None, *, algorithm: str = "hg_dagger"
) -> Learner:
    """Return the learner `name`, created paused with `config` or the default recipe."""
    learner, _ = Learner.objects.get_or_create(
        name=name,
        defaults={
            "algorithm": algorithm,
            "config": default_recipe(algorithm) if config is None else config,
        },
    )
    return learner


def start_learner(name: str) -> Learner:
    """Let rounds run; a round is then due. Calling it again changes nothing. Raises NotFound."""
    return _set_state(name, Learner.State.RUNNING)


def pause_learner(name: str) -> Learner:
    """Stop training within a second: a running round ends with a checkpoint. Raises NotFound."""
    return _set_state(name, Learner.State.PAUSED)


def _set_state(name: str, state: str) -> Learner:
    Learner.objects.filter(name=name).exclude(state=state).update(
        state=state, changed_at=timezone.now()
    )
    learner = Learner.objects.filter(name=name).first()
    if learner is None:
        raise NotFound(f"no learner is named {name!r}")
    return learner


def _fenced(claim: Claim, **values: Any) -> None:
    updated = Learner.objects.filter(pk=claim.learner_id, lease_epoch=claim.epoch).exclude(
        lease_holder=""
    )
    if not updated.update(**values):
        raise LeaseLost(f"learner {claim.learner_id}: epoch {claim.epoch} is over")
