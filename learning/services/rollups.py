"""Keeping the dashboards' counts: in the transaction that changes what they count.

A recount of all rows gives the same numbers at any time; `recount` does that where rows changed
past the services. Whoever writes counts holds the lock of the closed cursor's row: one at a time,
after the locks of episodes, so that nobody waits in a circle.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.db import models, transaction
from django.db.models import F

from learning.models import (
    Episode,
    Intervention,
    OperatorRollup,
    SpanRollup,
    VersionRollup,
)
from learning.models.episodes import Purpose
from learning.models.rollups import OUTCOME_FIELDS
from learning.services.cursor import hold_cursor

Rollup = type[SpanRollup] | type[VersionRollup] | type[OperatorRollup]
# Model and the values of its unique key.
Key = tuple[Rollup, tuple[tuple[str, Any], ...]]
logger = logging.getLogger(__name__)

# Rows written at once in a recount.
_BATCH = 1000


def count_episode(episode: Episode, interventions: Iterable[Intervention]) -> None:
    """Count a newly closed episode, in the transaction that closes it; called once an episode."""
    hold_cursor()
    for key, amounts in _parts(episode, list(interventions)).items():
        _add(key, amounts)


def move_outcome(episode: Episode, *, before: str, after: str) -> None:
    """Count a closed episode under another outcome; its row is locked."""
    if before == after or not episode.closed or episode.purpose == Purpose.DEMONSTRATION:
        return
    hold_cursor()
    less, more = OUTCOME_FIELDS[before], OUTCOME_FIELDS[after]
    for model, values in _groups(episode):
        counted_there = model.objects.filter(**dict(values), **{f"{less}__gt": 0})
        if not counted_there.update(**{less: F(less) - 1, more: F(more) + 1}):
            # A judgement is never lost because a count is off.
            logger.error("%s is not among what is counted: recount_rollups counts anew", episode)


def recount() -> int:
    """Count everything anew; return the number of episodes. Whoever closes or judges one waits."""
    with transaction.atomic():
        hold_cursor()
        totals, episodes = counted()
        for model in (SpanRollup, VersionRollup, OperatorRollup):
            model.objects.all().delete()
            rows = (
                model(**dict(key[1]), **amounts)
                for key, amounts in totals.items()
                if key[0] is model
            )
            model.objects.bulk_create(rows, batch_size=_BATCH)
    return episodes


def counted() -> tuple[Mapping[Key, Mapping[str, int]], int]:
    """Return what the rollups must say, from the episodes themselves, and how many those are."""
    totals: dict[Key, Counter[str]] = defaultdict(Counter)
    episodes = 0
    for episode in (
        _counted_episodes().prefetch_related("interventions").iterator(chunk_size=_BATCH)
    ):
        episodes += 1
        for key, amounts in _parts(episode, list(episode.interventions.all())).items():
            totals[key].update(amounts)
    return totals, episodes


def hour_of(at: datetime) -> datetime:
    """Return the beginning of its hour."""
    return at.replace(minute=0, second=0, microsecond=0)


def day_of(at: datetime) -> datetime:
    """Return the beginning of its day."""
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def _counted_episodes() -> models.QuerySet[Episode]:
    closed = Episode.objects.filter(state=Episode.State.CLOSED)
    return closed.exclude(purpose=Purpose.DEMONSTRATION)


def _groups(episode: Episode) -> list[Key]:
    """Return the rows of `Counts` an episode belongs to."""
    at = episode.started_at
    about = (("task_id", episode.task_id), ("purpose", episode.purpose))
    groups: list[Key] = [
        (
            SpanRollup,
            (("span", span), ("starts_at", start(at)), ("robot_id", episode.robot_id), *about),
        )
        for span, start in (("day", day_of), ("hour", hour_of))
    ]
    if episode.policy_number is not None:
        groups.append((VersionRollup, (("policy_number", episode.policy_number), *about)))
    return groups


def _parts(episode: Episode, interventions: list[Intervention]) -> dict[Key, dict[str, int]]:
    if episode.purpose == Purpose.DEMONSTRATION:
        return {}
    outcome = episode.judged_outcome or episode.outcome
    amounts = {
        "episodes": 1,
        OUTCOME_FIELDS[outcome]: 1,
        "corrected": int(bool(interventions)),
        "interventions": len(interventions),
        "acted_ms": round(1000 * episode.duration_s),
        "human_ms": sum(_held_ms(episode, span) for span in interventions),
        "human_steps": episode.human_steps + episode.transition_steps,
    }
    parts: dict[Key, dict[str, int]] = dict.fromkeys(_groups(episode), amounts)
    for span in interventions:
        who: Key = (
            OperatorRollup,
            (
                ("day", day_of(episode.started_at)),
                ("operator", span.operator),
                ("operator_kind", span.operator_kind),
                ("task_id", episode.task_id),
            ),
        )
        mine = parts.setdefault(who, {"interventions": 0, "human_ms": 0})
        mine["interventions"] += 1
        mine["human_ms"] += _held_ms(episode, span)
    return parts


def _held_ms(episode: Episode, span: Intervention) -> int:
    # All of the time somebody held the robot, also while they looked and did not move it.
    return round(1000 * span.length * episode.control_period_s)


def _add(key: Key, amounts: Mapping[str, int]) -> None:
    model, values = key
    rows = model.objects.filter(**dict(values))
    change = {name: F(name) + amount for name, amount in amounts.items() if amount}
    if not rows.update(**change):
        model.objects.create(**dict(values), **amounts)
