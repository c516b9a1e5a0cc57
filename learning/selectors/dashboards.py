"""What the dashboards show, from the rollups: a range of time or of versions, whole or split.

Success is of held-out evaluation: under a gate that interrupts early, neither autonomous successes
nor the intervention rate say how good a policy is (docs/learners.md). All else is of training,
where people help.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Count, QuerySet, Sum

from fleet.models import HelpRequest, Robot, Task
from learning.core import statistics
from learning.models import OperatorRollup, SpanRollup, VersionRollup
from learning.models.episodes import Purpose
from learning.models.rollups import OUTCOME_FIELDS
from learning.selectors.metrics import Rate, wilson

SUMS = (
    "episodes", *OUTCOME_FIELDS.values(), "corrected", "interventions", "acted_ms", "human_ms",
    "human_steps",
)  # fmt: skip
# A range up to this long is shown by the hour.
HOURLY = timedelta(days=4)
# Newest versions on the axis.
MAX_VERSIONS = 200
# What a dashboard may be split by; "" is not at all. A split shows at most so many lines.
SPLITS = {"": "nothing", "task": "task", "robot": "robot", "site": "site"}
MAX_LINES = 8
_GROUP = {"task": "task__name", "robot": "robot__name", "site": "robot__site"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What is looked at. Both ends of the range are whole hours or days, the second excluded."""

    since: datetime
    until: datetime
    task: Task | None = None
    robot: Robot | None = None
    site: str = ""
    split: str = ""

    @property
    def span(self) -> str:
        """The width of a point."""
        hourly = self.until - self.since <= HOURLY
        return SpanRollup.Span.HOUR if hourly else SpanRollup.Span.DAY

    @property
    def width(self) -> timedelta:
        """The same as a time."""
        return timedelta(hours=1) if self.span == SpanRollup.Span.HOUR else timedelta(days=1)

    def robots(self) -> QuerySet[Robot]:
        """Return the enabled robots it is about."""
        rows = Robot.objects.filter(enabled=True)
        if self.robot is not None:
            rows = rows.filter(pk=self.robot.pk)
        return rows.filter(site=self.site) if self.site else rows


@dataclass(slots=True)
class Cell:
    """One point of one line: counts of training and of held-out episodes, by name (`SUMS`)."""

    # Where on the axis: a time, or a version's number.
    at: datetime | int
    # Which line; "" when nothing is split.
    group: str
    train: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SUMS, 0))
    held_out: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SUMS, 0))
    # Robots that acted.
    robots: int = 0
    # Seconds of the point that have passed; 0 for versions.
    wall_s: float = 0.0

    @property
    def success(self) -> Rate:
        """Held-out success; aborted episodes say nothing."""
        return wilson(
            self.held_out["successes"], self.held_out["episodes"] - self.held_out["aborts"]
        )

    @property
    def terminated(self) -> int:
        """Training episodes that ended by themselves or by judgement, not by an abort."""
        return self.train["episodes"] - self.train["aborts"]

    @property
    def per_hour_acted(self) -> float | None:
        """Episodes terminated an hour of policy execution, resets excluded (SOP); None without."""
        acted_s = self.train["acted_ms"] / 1000
        if not acted_s:
            return None
        return statistics.episodes_per_hour(terminated=self.terminated, execution_s=acted_s)

    @property
    def per_wall_hour(self) -> float | None:
        """Successes an hour of the clock, everything included; None for versions."""
        if not self.wall_s:
            return None
        return statistics.successes_per_hour(successes=self.train["successes"], wall_s=self.wall_s)

    @property
    def per_episode(self) -> float | None:
        """Interventions an episode; None without one."""
        return (
            self.train["interventions"] / self.train["episodes"] if self.train["episodes"] else None
        )

    @property
    def per_acted_hour(self) -> float | None:
        """Interventions an hour of control; None without."""
        acted = self.train["acted_ms"]
        return 3_600_000 * self.train["interventions"] / acted if acted else None

    @property
    def human_minutes(self) -> float:
        """Minutes people held robots, in whole or looking."""
        return self.train["human_ms"] / 60_000

    @property
    def used(self) -> float | None:
        """Share of the time of the robots that acted in which they did; None for versions."""
        if not self.wall_s or not self.robots:
            return None
        acted_ms = self.train["acted_ms"] + self.held_out["acted_ms"]
        return min(1.0, acted_ms / 1000 / (self.wall_s * self.robots))

    def effort_return(self, humans: int) -> float | None:
        """Return on human effort, (M/N)·Σ reward / (1 + Σ human steps) (Fleet-DAgger).

        M humans, N robots, reward 1 for a success. None without episodes.
        """
        if not self.train["episodes"] or not self.robots:
            return None
        return humans / self.robots * self.train["successes"] / (1 + self.train["human_steps"])


def over_time(frame: Frame, *, now: datetime) -> list[Cell]:
    """Return the points of a range, by time and then by group; empty ones are left out."""
    rows = SpanRollup.objects.filter(
        span=frame.span, starts_at__gte=frame.since, starts_at__lt=frame.until
    )
    if frame.robot is not None:
        rows = rows.filter(robot=frame.robot)
    if frame.site:
        rows = rows.filter(robot__site=frame.site)
    rows = _of_task(rows, frame)
    group = _GROUP.get(frame.split)
    keys = ("starts_at", group) if group else ("starts_at",)
    counted = rows.values(*keys, "purpose").annotate(
        **{name: Sum(name) for name in SUMS}, robots=Count("robot", distinct=True)
    )
    cells: dict[tuple[datetime, str], Cell] = {}
    for row in counted.order_by(*keys):
        at, name = row["starts_at"], row[group] or "none" if group else ""
        wall = min(now, at + frame.width) - at
        cell = cells.setdefault((at, name), Cell(at, name, wall_s=max(0.0, wall.total_seconds())))
        _count(cell, row)
        cell.robots = max(cell.robots, row["robots"])
    return _largest(list(cells.values()))


def over_versions(frame: Frame) -> list[Cell]:
    """Return the points of the newest versions, by number; only a task chooses and splits them."""
    rows = _of_task(VersionRollup.objects.all(), frame)
    newest = rows.order_by("-policy_number").values_list("policy_number", flat=True).distinct()
    numbers = list(newest[:MAX_VERSIONS])
    keys = ("policy_number", "task__name") if frame.split == "task" else ("policy_number",)
    counted = rows.filter(policy_number__in=numbers).values(*keys, "purpose")
    cells: dict[tuple[int, str], Cell] = {}
    for row in counted.annotate(**{name: Sum(name) for name in SUMS}).order_by(*keys):
        key = row["policy_number"], row.get("task__name", "")
        _count(cells.setdefault(key, Cell(*key)), row)
    return _largest(list(cells.values()))


@dataclass(frozen=True, slots=True)
class OperatorLoad:
    """What one operator did within a range."""

    operator: str
    kind: str
    interventions: int
    human_minutes: float


def operators(frame: Frame) -> list[OperatorLoad]:
    """Return who helped, most minutes first; a robot or a site does not choose among them."""
    first = frame.since.replace(hour=0, minute=0, second=0, microsecond=0)
    rows = _of_task(OperatorRollup.objects.filter(day__gte=first, day__lt=frame.until), frame)
    sums = rows.values("operator", "operator_kind").annotate(
        n=Sum("interventions"), ms=Sum("human_ms")
    )
    return [
        OperatorLoad(row["operator"], row["operator_kind"], row["n"], row["ms"] / 60_000)
        for row in sums.order_by("-ms", "operator")
    ]


@dataclass(frozen=True, slots=True)
class Waiting:
    """How long requests for help waited for their first answer, within a range."""

    requests: int
    answered: int
    p50_s: float | None
    p95_s: float | None


def waiting(frame: Frame) -> Waiting:
    """Return how fast people answered."""
    rows = HelpRequest.objects.filter(
        raised_at__gte=frame.since, raised_at__lt=frame.until, robot__in=frame.robots()
    )
    answers = rows.filter(answered_at__isnull=False).values_list("raised_at", "answered_at")
    waits = sorted((answered - raised).total_seconds() for raised, answered in answers)
    return Waiting(rows.count(), len(waits), quantile(waits, 0.5), quantile(waits, 0.95))


def total(cells: Iterable[Cell]) -> Cell:
    """Return all points as one; the robots are the most that acted at a time."""
    whole = Cell(0, "")
    robots, wall_s, seen = 0, 0.0, set()
    for cell in cells:
        for name in SUMS:
            whole.train[name] += cell.train[name]
            whole.held_out[name] += cell.held_out[name]
        robots = max(robots, cell.robots)
        if cell.at not in seen:
            seen.add(cell.at)
            wall_s += cell.wall_s
    return Cell(0, "", whole.train, whole.held_out, robots, wall_s)


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """Return a quantile of sorted numbers, the nearest one; None of none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def _of_task(rows: QuerySet, frame: Frame) -> QuerySet:
    return rows.filter(task=frame.task) if frame.task is not None else rows


def _count(cell: Cell, row: dict) -> None:
    counts = cell.held_out if row["purpose"] == Purpose.EVAL else cell.train
    counts.update({name: counts[name] + row[name] for name in SUMS})


def _largest(cells: list[Cell]) -> list[Cell]:
    """Keep the groups with most episodes: more lines than colours tell nothing."""
    sizes: dict[str, int] = {}
    for cell in cells:
        n = cell.train["episodes"] + cell.held_out["episodes"]
        sizes[cell.group] = sizes.get(cell.group, 0) + n
    kept = set(sorted(sizes, key=lambda name: (-sizes[name], name))[:MAX_LINES])
    return [cell for cell in cells if cell.group in kept]
