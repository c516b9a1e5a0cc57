"""Reads of value functions, thresholds and sidecars."""

from datetime import datetime

from django.db.models import Prefetch, Q, QuerySet
from django.utils import timezone

from fleet.models import FleetSettings
from learning.exceptions import NotFound
from learning.models import Learner, ThresholdVersion, ValueVersion


def value_versions(learner: Learner) -> QuerySet[ValueVersion]:
    """Return a learner's value functions with their thresholds, newest first, both."""
    return (
        ValueVersion.objects.filter(learner=learner)
        .prefetch_related(Prefetch("thresholds", ThresholdVersion.objects.order_by("-number")))
        .order_by("-number")
    )


def value_numbered(learner: Learner, number: int) -> ValueVersion:
    """Return one of a learner's value functions. Raises NotFound."""
    value = ValueVersion.objects.filter(learner=learner, number=number).first()
    if value is None:
        raise NotFound(f"learner {learner.name} has no value function {number}")
    return value


def unfinished_value(learner: Learner) -> ValueVersion | None:
    """Return the value function that is due or being fitted, or None."""
    return ValueVersion.objects.filter(learner=learner, state__in=["due", "running"]).first()


def newest_done(learner: Learner) -> ValueVersion | None:
    """Return the newest value function that is done, or None before the first."""
    return (
        ValueVersion.objects.filter(learner=learner, state=ValueVersion.State.DONE)
        .order_by("-number")
        .first()
    )


def newest_of_all() -> ValueVersion | None:
    """Return the value function that was finished last, of whichever learner; or None."""
    done = ValueVersion.objects.filter(state=ValueVersion.State.DONE)
    return done.order_by("-ended_at", "-pk").first()


def sha256_on_robots() -> str:
    """Return which value function robots are told to compute; empty for none."""
    fleet = FleetSettings.objects.filter(pk=1, values_on_robots=True).first()
    return "" if fleet is None or fleet.value is None else fleet.value["sha256"]


def value_with_weights(sha256: str) -> ValueVersion:
    """Return a finished value function with these weights. Raises NotFound."""
    value = ValueVersion.objects.filter(sha256=sha256, state=ValueVersion.State.DONE).first()
    if value is None:
        raise NotFound("no value function has these weights")
    return value


def threshold_in_force(learner: Learner) -> ThresholdVersion | None:
    """Return the newest derived threshold of the newest value function; None before the first."""
    value = newest_done(learner)
    if value is None:
        return None
    return (
        ThresholdVersion.objects.filter(value=value, derived_at__isnull=False)
        .select_related("value")
        .order_by("-number")
        .first()
    )


def due_values(now: datetime | None = None) -> QuerySet[ValueVersion]:
    """Return jobs nobody works on: due, or running under a lease that expired."""
    now = now or timezone.now()
    return ValueVersion.objects.filter(
        Q(state=ValueVersion.State.DUE)
        | Q(state=ValueVersion.State.RUNNING, lease_expires_at__lte=now)
    )


def due_thresholds() -> QuerySet[ThresholdVersion]:
    """Return thresholds that are asked for and not yet worked out."""
    return ThresholdVersion.objects.filter(
        derived_at__isnull=True, value__state=ValueVersion.State.DONE
    ).select_related("value")
