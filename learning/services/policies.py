"""Publishing versions: gate, then object, then row, then assignment.

A crash between two of the steps leaves a skipped number, an object that is swept, or a version
that is assigned at the next sweep; never a row without its object, and never a number used twice.
"""

import hashlib
from typing import Any

from django.db import transaction
from django.db.models import F

from learning import blobs
from learning.models import Learner, PolicyVersion
from learning.selectors.branches import parent_for
from learning.selectors.learners import latest_version
from learning.services.assignments import assign_wanted
from learning.services.canaries import begin_next
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

    Afterwards a passed version's object and row are durable, and robots run it as its learner's
    rollout says; of a rejected one only the row exists. Called twice, it publishes two versions:
    numbers are never used again. Locks the learner's row twice, briefly; the object is written in
    between.

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
            parent=parent_for(learner),
            branch=learner.branch,
            round_id=claim.round_id,
            step=step,
            trained_seq=trained_seq,
            gate=gate,
            state=PolicyVersion.State.PUBLISHED if passed else PolicyVersion.State.REJECTED,
        )
    if passed:
        assign_published(version, weights=artifact)
    return version


def import_version(learner: Learner, *, artifact: bytes, gate: dict[str, Any]) -> PolicyVersion:
    """Publish weights that were not trained here: the base policy. Idempotent by their sha256.

    Afterwards they are a published version of `learner`, which robots run as its rollout says.
    Locks the learner's row.
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
    assign_published(version, weights=artifact)
    return version


def assign_published(version: PolicyVersion, *, weights: bytes | None = None) -> None:
    """Do with a published version what its learner's mode says.

    Afterwards robots are assigned it, or a canary of it runs, or it waits. Called twice, the second
    call changes nothing. Weights up to the inline limit ride in the announcement.
    """
    artifacts = {} if weights is None else {version.sha256: weights}
    assign_wanted(version.learner, weights=artifacts)
    begin_next(version.learner)


def assign_pending() -> list[PolicyVersion]:
    """Assign every robot what it is to run where that did not happen; return those versions.

    A publish may have crashed before its assignment, and a robot may be newer than the version.
    Safe to repeat: does nothing once every enabled robot has its version.
    """
    assigned = []
    for learner in Learner.objects.order_by("pk"):
        told = assign_wanted(learner)
        assigned += PolicyVersion.objects.filter(learner=learner, sha256__in=told)
    return assigned


def _allocate_number(claim: Claim) -> int:
    with transaction.atomic():
        learner = hold(claim)
        Learner.objects.filter(pk=learner.pk).update(next_number=F("next_number") + 1)
    return learner.next_number
