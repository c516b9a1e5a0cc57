"""Reads of learners, rounds and versions."""

from datetime import datetime

from django.db.models import Q, QuerySet
from django.utils import timezone

from learning.exceptions import NotFound
from learning.models import Learner, LearnerMetric, PolicyVersion


def learner_named(name: str) -> Learner:
    """Return a learner. Raises NotFound."""
    learner = Learner.objects.filter(name=name).first()
    if learner is None:
        raise NotFound(f"no learner is named {name!r}")
    return learner


def due_learners(now: datetime | None = None) -> QuerySet[Learner]:
    """Return learners whose next round is due: running, and no round holds an unexpired lease."""
    now = now or timezone.now()
    return Learner.objects.filter(
        Q(lease_expires_at__isnull=True) | Q(lease_expires_at__lte=now),
        state=Learner.State.RUNNING,
    )


def published(learner: Learner) -> QuerySet[PolicyVersion]:
    """Return a learner's published versions, newest first."""
    return (
        PolicyVersion.objects.filter(learner=learner, state=PolicyVersion.State.PUBLISHED)
        .select_related("parent")
        .order_by("-number")
    )


def latest_version(learner: Learner) -> PolicyVersion | None:
    """Return the newest published version, or None before the first."""
    return published(learner).first()


def metrics_tail(learner: Learner, *, points: int) -> list[LearnerMetric]:
    """Return the last points of the curves, oldest first."""
    return list(reversed(learner.metrics.order_by("-id")[:points]))


def published_artifact(sha256: str) -> PolicyVersion:
    """Return a published version with these weights. Raises NotFound."""
    version = PolicyVersion.objects.filter(
        sha256=sha256, state=PolicyVersion.State.PUBLISHED
    ).first()
    if version is None:
        raise NotFound("no published policy has these weights")
    return version
