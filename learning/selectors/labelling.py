"""What waits to be judged, in the order of what teaches most; and how well labellers agree.

An episode waits when it is whole, was run for training, and no person has judged it. A share of
those that were judged waits a second time, for another labeller, who is not told.

Each has a score, the sum of three parts in [0, 1]:

- uncertainty 4 p (1 - p), where p is the probability of success that the value function sees at
  the last step: with RECAP's returns (arXiv:2511.14759) a success ends at 0 and a failure at
  -C_fail / (T_max + C_fail) = -0.5, so p = clip(1 + V / 0.5, 0, 1). 0.5 where nothing was valued;
- disagreement |r - p|, where r is 1 when the robot says success and 0 otherwise. Without a value:
  how often people overruled robots that said this of this task, (overruled + 1) / (judged + 2);
- balance 1 - n / max n, where n counts the judged episodes of the task: rare tasks come first.

Equal scores: newest first.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from fleet.models import Operator
from learning.models import DeskClaim, Episode, Label, Sidecar
from learning.models.episodes import Outcome, Purpose
from learning.models.labels import Judgement, Source
from learning.selectors.episodes import standing_labels

# The newest this many are looked at: ordering more would cost a labeller the time it saves.
CANDIDATES = 2000
# V of the last step of a failure, C_fail = T_max.
FAILURE_VALUE = -0.5


@dataclass(frozen=True, slots=True)
class Waiting:
    """An episode to judge, and why now."""

    uid: UUID
    task: str
    uncertainty: float
    disagreement: float
    balance: float

    @property
    def score(self) -> float:
        """What the queue is ordered by."""
        return self.uncertainty + self.disagreement + self.balance


@dataclass(frozen=True, slots=True)
class Experience:
    """What labels said so far."""

    # Judged episodes by task.
    judged: dict[int, int]
    # (judged, overruled) by task and what the robot said.
    overruled: dict[tuple[int, str], tuple[int, int]]


def judgeable() -> QuerySet[Episode]:
    """Return episodes that a label would teach something about."""
    return Episode.objects.filter(
        state=Episode.State.CLOSED, complete=True, steps__gt=0, purpose=Purpose.TRAIN
    )


def waiting_for(operator: Operator) -> QuerySet[Episode]:
    """Return what `operator` may judge: unjudged episodes, and second opinions on others'.

    An operator who marked an episode while it ran has judged it (`judge` names them).
    """
    # Sets of their own, each read once: asked for each episode they cost minutes at ten thousands.
    standing = standing_labels().order_by()
    labelled = standing.values("episode_id")
    at_desk = standing.filter(source=Source.DESK).values("episode_id")
    own = standing.filter(operator=operator).values("episode_id")
    people = labelled.annotate(people=Count("operator", distinct=True))
    by_several = people.filter(people__gt=1).values("episode_id")
    # Spread evenly and for ever the same, whoever asks: a hash of the key, in any database.
    asked_twice = Q(turn__lt=settings.SOP_DOUBLE_LABEL_PERCENT)
    return (
        judgeable()
        .exclude(judge__startswith="operator:")
        .alias(turn=(F("pk") * 37) % 100)
        .filter(~Q(pk__in=labelled) | (asked_twice & Q(pk__in=at_desk) & ~Q(pk__in=by_several)))
        .exclude(pk__in=own)
    )


def claims(now: datetime, *, apart_from: UUID | None = None) -> QuerySet[DeskClaim]:
    """Return the claims that hold, but those of one page."""
    found = DeskClaim.objects.filter(expires_at__gt=now).order_by()
    return found if apart_from is None else found.exclude(page=apart_from)


def queue(
    operator: Operator,
    *,
    without: Collection[UUID] = (),
    limit: int = 8,
    page: UUID | None = None,
    now: datetime | None = None,
) -> list[Waiting]:
    """Return what `operator` should judge next, what teaches most first.

    Args:
        operator: Who judges.
        without: Episodes that the labeller's page holds already.
        limit: How many.
        page: Whose claims do not count; those of every other page do.
        now: For tests.
    """
    elsewhere = claims(now or timezone.now(), apart_from=page)
    value = (
        Sidecar.objects.filter(episode=OuterRef("pk"), end_value__isnull=False)
        .order_by("-value_id", "-id")
        .values("end_value")[:1]
    )
    rows = (
        waiting_for(operator)
        .exclude(pk__in=elsewhere.values("episode_id"))
        .annotate(end_value=Subquery(value))
        .order_by("-pk")
        .values_list("uid", "task_id", "task__name", "outcome", "end_value")[:CANDIDATES]
    )
    experience = experience_of()
    skipped = set(without)
    found = [
        score(uid, task_id, task, outcome, end_value, experience)
        for uid, task_id, task, outcome, end_value in rows
        if uid not in skipped
    ]
    # The sort is stable: equal ones stay newest first.
    return sorted(found, key=lambda one: -one.score)[:limit]


def waiting_tasks(operator: Operator) -> list[tuple[str, int]]:
    """Return the tasks of what waits for `operator`, with how many, by name."""
    names = waiting_for(operator).values_list("task__name", flat=True)
    return sorted(Counter(names).items())


def last_pictures(operator: Operator, *, task: str, limit: int) -> list[dict[str, Any]]:
    """Return the newest episodes that wait, each with where to see how it ended.

    Not those that somebody else looks at. `camera` is the first camera of the robot's spec; empty
    for a robot without any.
    """
    elsewhere = claims(timezone.now()).exclude(operator=operator)
    found = waiting_for(operator).exclude(pk__in=elsewhere.values("episode_id"))
    found = found.select_related("robot", "task").order_by("-pk")
    if task:
        found = found.filter(task__name=task)
    rows = []
    for episode in found[:limit]:
        cameras = episode.robot.spec.get("cameras") if episode.robot else None
        camera = cameras[0]["name"] if cameras else ""
        rows.append({"episode": episode, "camera": camera, "last": episode.steps - 1})
    return rows


def experience_of() -> Experience:
    """Return what the standing labels say about tasks and robots' own judgements."""
    judged: dict[int, int] = {}
    overruled: dict[tuple[int, str], tuple[int, int]] = {}
    rows = (
        standing_labels()
        .values_list("episode__task", "episode__outcome", "outcome")
        .annotate(n=Count("episode", distinct=True))
        .order_by()
    )
    for task, robot, person, n in rows:
        judged[task] = judged.get(task, 0) + n
        known, wrong = overruled.get((task, robot), (0, 0))
        differs = (robot == Outcome.SUCCESS) != (person == Judgement.SUCCESS)
        overruled[task, robot] = (known + n, wrong + n * differs)
    return Experience(judged, overruled)


def score(
    uid: UUID,
    task_id: int,
    task: str,
    outcome: str,
    end_value: float | None,
    experience: Experience,
) -> Waiting:
    """Return an episode with its score, see the module."""
    if end_value is None:
        known, wrong = experience.overruled.get((task_id, outcome), (0, 0))
        uncertainty, disagreement = 0.5, (wrong + 1) / (known + 2)
    else:
        p = min(max(1.0 - end_value / FAILURE_VALUE, 0.0), 1.0)
        uncertainty = 4.0 * p * (1.0 - p)
        disagreement = abs((outcome == Outcome.SUCCESS) - p)
    most = max(experience.judged.values(), default=0)
    balance = 1.0 - experience.judged.get(task_id, 0) / most if most else 1.0
    return Waiting(uid, task, uncertainty, disagreement, balance)


def has_judged(operator: Operator, episode: Episode) -> bool:
    """Say whether a label of `operator` stands on `episode`."""
    return standing_labels().filter(episode=episode, operator=operator).exists()


def pairs() -> list[tuple[Label, Label]]:
    """Return the labels that two people gave the same episode at the desk, the earlier one first.

    Neither saw the other's. More than two opinions: the first two count. In the order of episodes.
    """
    twice = (
        standing_labels()
        .filter(source=Source.DESK)
        .values("episode")
        .annotate(people=Count("operator", distinct=True))
        .filter(people__gte=2)
        .values("episode")
    )
    labels = (
        standing_labels()
        .filter(source=Source.DESK, episode__in=twice)
        .select_related("operator__user", "episode__task", "episode__robot")
        .order_by("episode_id", "id")
    )
    by_episode: dict[int, dict[int, Label]] = {}
    for label in labels:
        # Of one person the last word counts, at the place of the first.
        by_episode.setdefault(label.episode_id, {})[label.operator_id] = label
    found = []
    for given in by_episode.values():
        first, second = list(given.values())[:2]
        found.append((first, second))
    return found


def conflicts() -> list[tuple[Label, Label]]:
    """Return pairs that differ and that no review has settled, newest first."""
    differing = [(a, b) for a, b in pairs() if category(a.outcome) != category(b.outcome)]
    settled = set(
        standing_labels()
        .filter(source=Source.REVIEW, episode__in=[a.episode_id for a, _ in differing])
        .values_list("episode_id", flat=True)
    )
    return [pair for pair in reversed(differing) if pair[0].episode_id not in settled]


def category(outcome: str) -> str:
    """Return what counts as the same judgement: a timeout is a failure."""
    return "failure" if outcome == Judgement.TIMEOUT else outcome


def agreement_pairs() -> Sequence[tuple[str, str]]:
    """Return the categories of `pairs`."""
    return [(category(a.outcome), category(b.outcome)) for a, b in pairs()]
