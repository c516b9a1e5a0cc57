"""How soon a correction is in the policy of each robot: the loop's own speed."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet.models import PolicyReport, Robot
from learning.models import EpisodeUse, Intervention, PolicyVersion
from learning.selectors.dashboards import Frame, quantile

# Newest corrections that are followed.
FOLLOWED = 300


@dataclass(frozen=True, slots=True)
class Freshness:
    """Seconds from a correction's first command to a robot that runs a version trained on it."""

    corrections: int
    # Pairs of a correction and a robot that has it; the others are still under way.
    arrived: int
    p50_s: float | None
    p95_s: float | None


def correction_to_fleet(frame: Frame) -> Freshness:
    """Follow the newest corrections of a range to every robot of the fleet."""
    spans = (
        Intervention.objects.filter(
            episode__started_at__gte=frame.since, episode__started_at__lt=frame.until
        )
        .filter(episode__robot__in=frame.robots(), episode__uses__isnull=False)
        .select_related("episode")
        .order_by("-episode__started_at", "-start")
    )
    if frame.task is not None:
        spans = spans.filter(episode__task=frame.task)
    followed = list(spans.distinct()[:FOLLOWED])
    if not followed:
        return Freshness(0, 0, None, None)
    uses: dict[int, list[EpisodeUse]] = {}
    for use in EpisodeUse.objects.filter(episode__in={span.episode_id for span in followed}):
        uses.setdefault(use.episode_id, []).append(use)
    first_s = min(span.episode.started_at for span in followed)
    taught = _Versions(first_s)
    arrivals = _arrivals(first_s)
    delays = []
    for span in followed:
        episode = span.episode
        at = episode.started_at + timedelta(seconds=span.start * episode.control_period_s)
        numbers = [n for use in uses[episode.pk] if (n := taught.first(use)) is not None]
        if not numbers:
            continue
        for times in arrivals.values():
            when = _first_with(times, min(numbers))
            if when is not None and when >= at:
                delays.append((when - at).total_seconds())
    delays.sort()
    return Freshness(len(followed), len(delays), quantile(delays, 0.5), quantile(delays, 0.95))


class _Versions:
    """Of each branch of a learner, the versions since a time, by the step each was made at."""

    def __init__(self, since: datetime) -> None:
        rows = PolicyVersion.objects.filter(
            state=PolicyVersion.State.PUBLISHED, created_at__gte=since, round__isnull=False
        ).order_by("step")
        self._of: dict[tuple[int, int], tuple[list[int], list[int]]] = {}
        names = ("learner_id", "branch", "step", "number")
        for learner, branch, step, number in rows.values_list(*names):
            steps, numbers = self._of.setdefault((learner, branch), ([], []))
            steps.append(step)
            numbers.append(number)

    def first(self, use: EpisodeUse) -> int | None:
        """Return the first version made after a learner's first step on an episode."""
        steps, numbers = self._of.get((use.learner_id, use.branch), ([], []))
        place = bisect_left(steps, use.step)
        return numbers[place] if place < len(numbers) else None


def _arrivals(since: datetime) -> dict[int, list[tuple[int, datetime]]]:
    """Return what each enabled robot applied, (number, when), in the order of time."""
    rows = PolicyReport.objects.filter(
        status=PolicyReport.Status.APPLIED,
        reported_at__gte=since,
        robot__in=Robot.objects.filter(enabled=True),
    ).order_by("reported_at")
    arrivals: dict[int, list[tuple[int, datetime]]] = {}
    for robot, number, when in rows.values_list("robot_id", "number", "reported_at"):
        arrivals.setdefault(robot, []).append((number, when))
    return arrivals


def _first_with(applied: Sequence[tuple[int, datetime]], number: int) -> datetime | None:
    return next((when for n, when in applied if n >= number), None)
