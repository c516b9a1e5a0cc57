"""Publishing versions: gate, then object, then row, then assignment.

A crash between two of the steps leaves a skipped number, an object that is swept, or a version
that is assigned at the next sweep; never a row without its object, and never a number used twice.
"""

import hashlib
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from fleet.models import Robot
from fleet.protocol.messages import MAX_INLINE_WEIGHTS_BYTES
from fleet.protocol.spec import PolicyRef
from fleet.services.policies import assign_policy
from learning import blobs
from learning.models import Learner, PolicyVersion
from learning.selectors.learners import latest_version
from learning.services.learners import Claim, hold


def publish_version(
    claim: Claim,
    *,
    artifact: bytes,
    gate: dict[str, Any],
    passed: bool,
    step: int,
    trained_seq: int,
) -> PolicyVersion:
    """Publish weights that passed the gate, or record that they did not.

    Afterwards a passed version's object and row are durable and robots are assigned to it; of a
    rejected one only the row exists. Called twice, it publishes two versions: numbers are never
    used again. Locks the learner's row twice, briefly; the object is written in between.

    Args:
        claim: The round's; every write is fenced by its epoch.
        artifact: The weights, as safetensors.
        gate: What the gate measured, for the row.
        passed: What the gate decided.
        step: Gradient steps taken.
        trained_seq: Cursor of the buffer it was trained from.

    Raises:
        LeaseLost: Another round took over.
        StoreUnavailable: Nothing was published; the number is skipped.
    """
    number = _allocate_number(claim)
    sha256 = hashlib.sha256(artifact).hexdigest()
    if passed:
        blobs.store().put(artifact, sha256=sha256)
    with transaction.atomic():
        learner = hold(claim)
        version = PolicyVersion.objects.create(
            learner=learner,
            number=number,
            sha256=sha256,
            size_bytes=len(artifact),
            parent=latest_version(learner),
            round_id=claim.round_id,
            step=step,
            trained_seq=trained_seq,
            gate=gate,
            state=PolicyVersion.State.PUBLISHED if passed else PolicyVersion.State.REJECTED,
        )
    if passed:
        assign_version(version, weights=artifact)
    return version


def import_version(learner: Learner, *, artifact: bytes, gate: dict[str, Any]) -> PolicyVersion:
    """Publish weights that were not trained here: the base policy. Idempotent by their sha256.

    Afterwards they are a published version of `learner` and every enabled robot is assigned to it,
    unless it has a newer one. Locks the learner's row.
    """
    sha256 = blobs.store().put(artifact)
    with transaction.atomic():
        learner = Learner.objects.select_for_update().get(pk=learner.pk)
        version = PolicyVersion.objects.filter(learner=learner, sha256=sha256).first()
        if version is None:
            version = PolicyVersion.objects.create(
                learner=learner,
                number=learner.next_number,
                sha256=sha256,
                size_bytes=len(artifact),
                parent=latest_version(learner),
                gate=gate,
            )
            learner.next_number += 1
            learner.save(update_fields=["next_number", "changed_at"])
    assign_version(version, weights=artifact)
    return version


def assign_version(
    version: PolicyVersion, *, weights: bytes | None = None, even_if_older: bool = False
) -> list[str]:
    """Make every enabled robot run `version`; return their names.

    Called twice, the second call announces it again. Robots that have a newer version keep it,
    unless `even_if_older`. Publishes `PolicyAnnouncement` on commit; weights up to the inline
    limit ride in it.
    """
    if weights is not None and len(weights) > MAX_INLINE_WEIGHTS_BYTES:
        weights = None
    with transaction.atomic():
        robots = assign_policy(policy_ref(version), weights=weights, even_if_older=even_if_older)
        PolicyVersion.objects.filter(pk=version.pk, assigned_at__isnull=True).update(
            assigned_at=timezone.now()
        )
    return robots


def assign_pending() -> list[PolicyVersion]:
    """Assign each learner's newest version where that did not happen; return those assigned.

    A publish may have crashed before its assignment, and a robot may be newer than the version.
    Safe to repeat: does nothing once every enabled robot has the newest version.
    """
    assigned = []
    for learner in Learner.objects.all():
        version = latest_version(learner)
        if version is None:
            continue
        behind = Robot.objects.filter(enabled=True).filter(
            Q(assigned_number__isnull=True) | Q(assigned_number__lt=version.number)
        )
        if version.assigned_at is None or (behind.exists() and not _rolled_back(version)):
            assign_version(version)
            assigned.append(version)
    return assigned


def policy_ref(version: PolicyVersion) -> PolicyRef:
    """Return a version as the value that robots are told."""
    return PolicyRef(
        number=version.number,
        sha256=version.sha256,
        url=f"/api/policies/{version.sha256}/weights",
        size_bytes=version.size_bytes,
        parent=version.parent.number if version.parent else None,
    )


def _rolled_back(version: PolicyVersion) -> bool:
    # A lead put robots back to an older version after this one was assigned: leave that alone.
    return Robot.objects.filter(
        enabled=True, assigned_number__lt=version.number, assigned_at__gt=version.assigned_at
    ).exists()


def _allocate_number(claim: Claim) -> int:
    with transaction.atomic():
        learner = hold(claim)
        Learner.objects.filter(pk=learner.pk).update(next_number=F("next_number") + 1)
    return learner.next_number
