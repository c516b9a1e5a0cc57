"""Figures people read: success with its interval, effort, curves.

Success means held-out evaluation: under a gate that interrupts early, neither autonomous successes
nor the intervention rate say how good the policy is (docs/learners.md).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Q, QuerySet, Sum
from django.utils import timezone

from learning.core import statistics
from learning.core.doubt import doubt_threshold
from learning.models import (
    Episode,
    Intervention,
    Learner,
    LearnerMetric,
    PolicyVersion,
    Round,
)
from learning.models.episodes import Outcome, Purpose

# Fewer evaluations than this a point make an interval nobody can read.
MIN_POINT = 12
# Points of the success curve; more evaluations make larger points, not more of them.
MAX_POINTS = 40
# Points of the learner's curves sent to a browser.
MAX_CURVE_POINTS = 400


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of trials with its Wilson 95 % interval; all in [0, 1]."""

    successes: int
    n: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """Successes over trials; 0 without trials."""
        return self.successes / self.n if self.n else 0.0


def wilson(successes: int, n: int) -> Rate:
    """Return a rate with its Wilson interval at 95 %. Without trials it is [0, 1]."""
    return Rate(successes, n, *statistics.wilson(successes, n))


@dataclass(frozen=True, slots=True)
class Today:
    """What happened since midnight, for the side of the fleet page."""

    success: Rate
    episodes: int
    corrections: int
    # Scripted operators' takeovers, of `corrections`.
    scripted_corrections: int
    # Minutes operators held robots, scripted ones included.
    human_minutes: float
    published_at: datetime | None
    published_number: int | None


@dataclass(frozen=True, slots=True)
class Point:
    """Consecutive evaluation episodes as one point of the success curve."""

    at: datetime
    rate: Rate
    first_policy: int | None
    last_policy: int | None


@dataclass(frozen=True, slots=True)
class TaskRate:
    """Evaluated success of one task over its newest episodes."""

    task: str
    rate: Rate


@dataclass(frozen=True, slots=True)
class TakeoverDoubt:
    """How much a learner's policies doubted when people took over (HG-DAgger)."""

    # Mean of the last quarter, in the action's unit squared; None before the first takeover.
    threshold: float | None
    # Takeovers with a doubt on record, over every version.
    n: int


def takeover_doubt(learner: Learner) -> TakeoverDoubt:
    """Return tau, the doubt above which takeovers were made, from every version of `learner`."""
    of_learner = PolicyVersion.objects.filter(learner=learner).values("sha256")
    logged = list(
        Intervention.objects.filter(doubt__isnull=False, episode__policy_sha256__in=of_learner)
        .order_by("episode__started_at", "start")
        .values_list("doubt", flat=True)
    )
    return TakeoverDoubt(doubt_threshold(logged) if logged else None, len(logged))


def evaluations() -> QuerySet[Episode]:
    """Return the fleet's finished held-out episodes with `outcome_in_force`, oldest first.

    Trials of evaluations are not among them: they may be of any old version.
    """
    finished = Episode.objects.filter(
        purpose=Purpose.EVAL, state=Episode.State.CLOSED, complete=True, trial__isnull=True
    )
    return finished.exclude(outcome_in_force=Outcome.ABORT).order_by("started_at")


def _rate(outcomes: Sequence[str]) -> Rate:
    return wilson(sum(outcome == Outcome.SUCCESS for outcome in outcomes), len(outcomes))


def today(now: datetime | None = None) -> Today:
    """Return today's figures; midnight is the server's."""
    now = now or timezone.now()
    start = timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
    closed = Episode.objects.filter(state=Episode.State.CLOSED, started_at__gte=start).exclude(
        purpose=Purpose.DEMONSTRATION
    )
    sums = closed.aggregate(n=Count("pk"), human_s=Sum("human_s"))
    spans = closed.aggregate(
        n=Count("interventions"),
        scripted=Count("interventions", filter=~Q(interventions__operator_kind="human")),
    )
    newest = (
        PolicyVersion.objects.filter(state=PolicyVersion.State.PUBLISHED)
        .order_by("-created_at")
        .first()
    )
    return Today(
        success=_rate(
            evaluations().filter(started_at__gte=start).values_list("outcome_in_force", flat=True)
        ),
        episodes=sums["n"],
        corrections=spans["n"],
        scripted_corrections=spans["scripted"],
        human_minutes=(sums["human_s"] or 0.0) / 60,
        published_at=newest.created_at if newest else None,
        published_number=newest.number if newest else None,
    )


def success_curve() -> list[Point]:
    """Return evaluated success over time, in groups of consecutive episodes that do not overlap."""
    rows = list(evaluations().values_list("started_at", "outcome_in_force", "policy_number"))
    size = max(MIN_POINT, math.ceil(len(rows) / MAX_POINTS))
    points = []
    for first in range(0, len(rows), size):
        group = rows[first : first + size]
        numbers = [number for _, _, number in group if number is not None]
        points.append(
            Point(
                at=group[-1][0],
                rate=_rate([outcome for _, outcome, _ in group]),
                first_policy=min(numbers, default=None),
                last_policy=max(numbers, default=None),
            )
        )
    return points


def success_by_task(*, newest: int = 20) -> list[TaskRate]:
    """Return each task's success over its `newest` evaluation episodes, by name."""
    outcomes: dict[str, list[str]] = {}
    rows = evaluations().order_by("-started_at").values_list("task__name", "outcome_in_force")
    for task, outcome in rows[: newest * 64]:
        kept = outcomes.setdefault(task, [])
        if len(kept) < newest:
            kept.append(outcome)
    return [TaskRate(task, _rate(outcomes[task])) for task in sorted(outcomes)]


def curve(learner: Learner) -> list[LearnerMetric]:
    """Return the learner's points, oldest first, thinned evenly to what a chart can show."""
    ids = list(learner.metrics.order_by("id").values_list("id", flat=True))
    stride = max(1, math.ceil(len(ids) / MAX_CURVE_POINTS))
    chosen = ids[::stride]
    if ids and chosen[-1] != ids[-1]:
        chosen.append(ids[-1])
    return list(learner.metrics.filter(id__in=chosen).order_by("id"))


def recent_rounds(learner: Learner, *, newest: int = 8) -> QuerySet[Round]:
    """Return the newest rounds, newest first."""
    return learner.round_set.order_by("-number")[:newest]


def round_figures(
    learner: Learner, *, within: timedelta = timedelta(minutes=10)
) -> dict[str, float | None]:
    """Return `steps_per_s` and `overhead_share` of the rounds that ended lately; None without."""
    ended = learner.round_set.filter(
        ~Q(state=Round.State.RUNNING), ended_at__gte=timezone.now() - within
    ).aggregate(steps=Sum("steps"), train=Sum("train_s"), overhead=Sum("overhead_s"))
    train, overhead = ended["train"] or 0.0, ended["overhead"] or 0.0
    return {
        "steps_per_s": (ended["steps"] or 0) / train if train else None,
        "overhead_share": overhead / (train + overhead) if train + overhead else None,
    }
