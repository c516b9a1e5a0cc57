"""Reads of evaluations: how far they are, and what they show with how sure one is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Count, QuerySet

from fleet.models import FleetSettings, Robot, Task
from learning.core.comparisons import (
    Paired,
    anytime_interval,
    evidence_against_equal,
    mcnemar,
    pair_up,
    paired_difference,
)
from learning.core.statistics import Score, episodes_per_hour, successes_per_hour
from learning.exceptions import NotFound
from learning.models import Episode, Evaluation, EvaluationTrial, PolicyVersion
from learning.models.episodes import Outcome

State = EvaluationTrial.State


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One trial as the page, the export and the figures have it."""

    task: str
    seed: int
    # Learner and number of its version: numbers of two learners may be equal.
    version: str
    version_id: int
    state: str
    # In force, of the episode that counts; empty while there is none.
    outcome: str
    duration_s: float
    robot: str
    episode: str
    attempts: int
    reason: str

    @property
    def counts(self) -> bool:
        """Whether it is a trial of the result: done, and not judged void afterwards."""
        return self.state == State.DONE and self.outcome != Outcome.ABORT

    @property
    def success(self) -> bool:
        """Whether it counts as a success."""
        return self.counts and self.outcome == Outcome.SUCCESS


@dataclass(frozen=True, slots=True)
class Arm:
    """What is said of one version, over some trials."""

    score: Score
    # Episodes ended per hour of policy execution (SOP), and successes per robot-hour of wall
    # clock, resets included. NaN without a trial.
    episodes_per_hour: float
    successes_per_hour: float

    @property
    def low(self) -> float:
        """Lower end of the Wilson 95 % interval."""
        return self.score.interval[0]

    @property
    def high(self) -> float:
        """Upper end of the Wilson 95 % interval."""
        return self.score.interval[1]

    @property
    def anytime(self) -> tuple[float, float]:
        """Interval that holds however the number of trials came about."""
        return anytime_interval(self.score)


@dataclass(frozen=True, slots=True)
class Line:
    """One task, or all of them: an arm for each version, and their comparison."""

    name: str
    arms: tuple[Arm, ...]
    # Of the pairs of which both trials count; None for one version.
    paired: Paired | None

    @property
    def p_value(self) -> float | None:
        """McNemar's exact p-value; None for one version."""
        return None if self.paired is None else mcnemar(self.paired)

    @property
    def difference(self) -> tuple[float, float, float] | None:
        """Second minus first with its 95 % interval; None for one version or without pairs."""
        if self.paired is None or not self.paired.pairs:
            return None
        return (self.paired.difference, *paired_difference(self.paired))

    @property
    def evidence(self) -> float | None:
        """Evidence that the versions differ, valid whenever one looks; 20 is decisive at 5 %."""
        return None if self.paired is None else evidence_against_equal(self.paired)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an evaluation is."""

    total: int
    done: int
    void: int
    running: int
    # Names of the robots that carry out an order of it now.
    robots: tuple[str, ...]

    @property
    def share(self) -> float:
        """Trials that need no more work, of all; in [0, 1]."""
        return (self.done + self.void) / self.total if self.total else 0.0


def evaluation_of(uid: UUID) -> Evaluation:
    """Return an evaluation with its versions. Raises NotFound."""
    found = Evaluation.objects.filter(uid=uid).select_related(
        "first__learner", "second__learner", "requested_by__user"
    )
    evaluation = found.first()
    if evaluation is None:
        raise NotFound(f"there is no evaluation {uid}")
    return evaluation


def recent_evaluations() -> QuerySet[Evaluation]:
    """Return every evaluation, newest first."""
    return (
        Evaluation.objects.select_related("first__learner", "second__learner", "requested_by__user")
        .prefetch_related("tasks")
        .order_by("-id")
    )


def version_named(learner: str, number: int) -> PolicyVersion:
    """Return a version by its learner's name and its number. Raises NotFound."""
    found = PolicyVersion.objects.filter(learner__name=learner, number=number)
    version = found.select_related("learner").first()
    if version is None:
        raise NotFound(f"{learner} has no version {number}")
    return version


def tasks_named(names: Sequence[str] | None) -> list[Task]:
    """Return tasks by name, also disabled ones; None is every enabled task. Raises NotFound."""
    if names is None:
        return list(Task.objects.filter(enabled=True))
    found = list(Task.objects.filter(name__in=names))
    if unknown := set(names) - {task.name for task in found}:
        raise NotFound(f"there is no task {sorted(unknown)[0]}"[:200])
    return found


def version_name(version: PolicyVersion) -> str:
    """Return a version as people write it: "hg-dagger v12"."""
    return f"{version.learner.name} v{version.number}"


def progress(evaluation: Evaluation) -> Progress:
    """Return how far an evaluation is."""
    counts = dict(evaluation.trials.values_list("state").annotate(n=Count("pk")).order_by())
    ordered = Robot.objects.filter(order__evaluation=str(evaluation.uid))
    return Progress(
        total=sum(counts.values()),
        done=counts.get(State.DONE, 0),
        void=counts.get(State.VOID, 0),
        running=counts.get(State.ASSIGNED, 0),
        robots=tuple(ordered.order_by("name").values_list("name", flat=True)),
    )


def trial_rows(evaluation: Evaluation) -> list[TrialRow]:
    """Return every trial in the order in which they are handed out."""
    trials = evaluation.trials.select_related("task", "version__learner", "robot", "episode")
    rows = list(trials.order_by("position"))
    found = Episode.objects.filter(evaluation_trial__evaluation=evaluation)
    outcomes = dict(found.values_list("pk", "outcome_in_force"))
    return [
        TrialRow(
            task=trial.task.name,
            seed=trial.seed,
            version=version_name(trial.version),
            version_id=trial.version_id,
            state=trial.state,
            outcome=outcomes.get(trial.episode_id, ""),
            duration_s=trial.episode.duration_s if trial.episode else 0.0,
            robot=trial.robot.name if trial.robot else "",
            episode=str(trial.episode.uid) if trial.episode else "",
            attempts=trial.attempts,
            reason=trial.reason,
        )
        for trial in rows
    ]


def results(evaluation: Evaluation, rows: Sequence[TrialRow] | None = None) -> list[Line]:
    """Return a line for each task, and first one for all of them together ("all tasks")."""
    rows = trial_rows(evaluation) if rows is None else rows
    fleet = FleetSettings.objects.filter(pk=1).first() or FleetSettings()
    versions = [version.pk for version in evaluation.versions]
    by_task: dict[str, list[TrialRow]] = {}
    for row in rows:
        by_task.setdefault(row.task, []).append(row)
    return [
        _line(name, group, versions, reset_s=fleet.reset_s)
        for name, group in {"all tasks": list(rows), **dict(sorted(by_task.items()))}.items()
    ]


def _line(name: str, rows: list[TrialRow], versions: list[int], *, reset_s: float) -> Line:
    arms = tuple(_arm([r for r in rows if r.version_id == pk], reset_s) for pk in versions)
    return Line(name, arms, _pairs(rows, versions))


def _arm(rows: list[TrialRow], reset_s: float) -> Arm:
    counted = [row for row in rows if row.counts]
    score = _score(counted)
    acted_s = sum(row.duration_s for row in counted)
    return Arm(
        score,
        episodes_per_hour(terminated=score.trials, execution_s=acted_s),
        successes_per_hour(successes=score.successes, wall_s=acted_s + reset_s * score.trials),
    )


def _score(rows: Iterable[TrialRow]) -> Score:
    counted = [row.success for row in rows if row.counts]
    return Score(sum(counted), len(counted))


def _pairs(rows: Iterable[TrialRow], versions: list[int]) -> Paired | None:
    if len(versions) != 2:
        return None
    halves: dict[tuple[str, int], dict[int, bool]] = {}
    for row in rows:
        if row.counts:
            halves.setdefault((row.task, row.seed), {})[row.version_id] = row.success
    whole = [pair for pair in halves.values() if len(pair) == 2]
    return pair_up([pair[versions[0]] for pair in whole], [pair[versions[1]] for pair in whole])


def decidable(evaluation: Evaluation) -> tuple[dict[str, Score], Paired | None]:
    """Return what a decision may be made from: scores by task of one version, or pairs of two.

    Only whole blocks count: the first seeds of which every trial is finished. A set of trials that
    depended on which finished first would favour what finishes fast, and successes do; and for a
    mean over unequal tasks the guarantee needs whole blocks (`evidence_against_rate`). A block with
    a void trial is left out of scores; of pairs only the void one is.
    """
    blocks: dict[int, list[TrialRow]] = {}
    for row in trial_rows(evaluation):
        blocks.setdefault(row.seed, []).append(row)
    usable: list[TrialRow] = []
    for block in blocks.values():
        if any(row.state in (State.DUE, State.ASSIGNED) for row in block):
            break
        if evaluation.second_id is not None or all(row.counts for row in block):
            usable += block
    if evaluation.second_id is not None:
        return {}, _pairs(usable, [evaluation.first_id, evaluation.second_id])
    by_task: dict[str, list[TrialRow]] = {}
    for row in usable:
        by_task.setdefault(row.task, []).append(row)
    return {task: _score(rows) for task, rows in by_task.items()}, None
