"""Success of every task against version, and whether one was forgotten.

Made of all held-out episodes of a learner's versions: those of the running fleet and the trials of
evaluations. Tasks that nobody trains now are known through the latter, and through the fleet's own
held-out episodes as long as their weight is 0 and they are enabled.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fleet.models import Task
from learning.core.comparisons import forgotten
from learning.core.statistics import Score
from learning.models import Episode, Learner, PolicyVersion
from learning.models.episodes import Outcome, Purpose

# Fewer trials than this a point make an interval nobody can read, and no alarm.
MIN_POINT = 12
# Points of one task's curve; more trials make larger points, not more of them.
MAX_POINTS = 20


@dataclass(frozen=True, slots=True)
class VersionPoint:
    """Success of one task over consecutive versions, both ends included."""

    first: int
    last: int
    score: Score

    @property
    def words(self) -> str:
        """The versions as people write them: "v12" or "v3–v9"."""
        return f"v{self.first}" if self.first == self.last else f"v{self.first}–v{self.last}"


@dataclass(frozen=True, slots=True)
class TaskCurve:
    """Success of one task against version, oldest first."""

    task: str
    # Whether robots practise it now: enabled, with a weight above 0.
    trained: bool
    points: tuple[VersionPoint, ...]


@dataclass(frozen=True, slots=True)
class Alarm:
    """A task that the newest judged versions do worse than earlier ones, beyond chance."""

    task: str
    trained: bool
    now: VersionPoint
    best: VersionPoint
    # One-sided Fisher, times the number of earlier points it was compared with.
    p_value: float


def success_by_version(learner: Learner) -> list[TaskCurve]:
    """Return the curve of every task with a held-out episode of this learner, by name."""
    sha256s = PolicyVersion.objects.filter(learner=learner).values("sha256")
    finished = Episode.objects.filter(
        purpose=Purpose.EVAL,
        state=Episode.State.CLOSED,
        complete=True,
        policy_number__isnull=False,
        policy_sha256__in=sha256s,
    )
    rows = finished.exclude(outcome_in_force=Outcome.ABORT)
    counts: dict[str, dict[int, list[int]]] = {}
    for task, number, outcome in rows.values_list(
        "task__name", "policy_number", "outcome_in_force"
    ):
        won_of = counts.setdefault(task, {}).setdefault(number, [0, 0])
        won_of[0] += outcome == Outcome.SUCCESS
        won_of[1] += 1
    trained = set(Task.objects.filter(enabled=True, weight__gt=0).values_list("name", flat=True))
    return [
        TaskCurve(task, task in trained, grouped({n: Score(*won) for n, won in versions.items()}))
        for task, versions in sorted(counts.items())
    ]


def grouped(scores: Mapping[int, Score]) -> tuple[VersionPoint, ...]:
    """Join consecutive versions until a point has enough trials; one that has enough stands alone.

    The last point may have fewer.
    """
    size = max(MIN_POINT, math.ceil(sum(s.trials for s in scores.values()) / MAX_POINTS))
    points: list[VersionPoint] = []
    pending: VersionPoint | None = None
    for number in sorted(scores):
        alone = VersionPoint(number, number, scores[number])
        if pending is not None and alone.score.trials >= size:
            points.append(pending)
            pending = None
        pending = alone if pending is None else _joined(pending, alone)
        if pending.score.trials >= size:
            points.append(pending)
            pending = None
    return (*points, pending) if pending is not None else tuple(points)


def _joined(a: VersionPoint, b: VersionPoint) -> VersionPoint:
    score = Score(a.score.successes + b.score.successes, a.score.trials + b.score.trials)
    return VersionPoint(a.first, b.last, score)


def alarms(curves: list[TaskCurve]) -> list[Alarm]:
    """Return the tasks that were forgotten, the surest first.

    The newest point of a task with at least `MIN_POINT` trials is compared with every earlier one
    (`core.comparisons.forgotten`: Fisher, one-sided, Bonferroni). For a task that was never done
    better an alarm comes up at a point with a probability of at most 5 %. It goes when a newer
    point is not worse beyond chance any more.
    """
    found = []
    for curve in curves:
        judged = [point for point in curve.points if point.score.trials >= MIN_POINT]
        if len(judged) < 2:
            continue
        *earlier, now = judged
        loss = forgotten(now.score, [point.score for point in earlier])
        if loss is not None:
            found.append(Alarm(curve.task, curve.trained, now, earlier[loss.best], loss.p_value))
    return sorted(found, key=lambda alarm: alarm.p_value)
