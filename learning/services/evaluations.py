"""Evaluations as jobs: asked for by people, carried out by idle robots, ended when they are done.

`advance` is the one step that moves an evaluation, and rows are all it knows: it may be called by
whoever has news (a closed episode, a sweep, a person), as often as they like, in any process. What
it does with single trials is in `trials.py`.
"""

from collections.abc import Sequence

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from fleet.models import FleetSettings, Operator, Robot, Task
from fleet.protocol.simulation import TRIAL_SEEDS
from fleet.services.trials import repeat_orders, withdraw_orders
from learning.core.comparisons import decide_pair, decide_rate
from learning.core.statistics import pooled
from learning.exceptions import Unprocessable
from learning.models import Episode, Evaluation, EvaluationTrial, PolicyVersion
from learning.selectors.evaluations import decidable
from learning.services import trials

# More than this is a fleet's whole week, or a slip of the keyboard.
MAX_TRIALS = 20_000
WAITING = "waits for an idle robot"


def request_evaluation(
    *,
    operator: Operator,
    first: PolicyVersion,
    second: PolicyVersion | None = None,
    tasks: Sequence[Task],
    trials_per_task: int,
    first_seed: int = TRIAL_SEEDS[0],
    timeout_ticks: int | None = None,
    max_robots: int | None = None,
    stop_when_decided: bool = False,
    target: float | None = None,
) -> Evaluation:
    """Declare an evaluation with all its trials; idle robots begin with it at once.

    Called twice, there are two: asking again is how one repeats an evaluation. Raises Unprocessable
    for what cannot be evaluated; nothing is stored then.
    """
    versions = [first] if second is None else [first, second]
    for version in versions:
        if version.state != PolicyVersion.State.PUBLISHED:
            raise Unprocessable(f"version {version.number} did not pass its gate")
    if second is not None and second.pk == first.pk:
        raise Unprocessable("compare two different versions")
    if not tasks:
        raise Unprocessable("choose at least one task")
    if target is not None and second is not None:
        raise Unprocessable("a target is for one version; two are compared with each other")
    if stop_when_decided and second is None and target is None:
        raise Unprocessable("with one version, say the target that decides it")
    if trials_per_task * len(tasks) * len(versions) > MAX_TRIALS:
        raise Unprocessable(f"that is more than {MAX_TRIALS} trials")
    evaluation = Evaluation(
        requested_by=operator,
        first=first,
        second=second,
        trials_per_task=trials_per_task,
        first_seed=first_seed,
        timeout_ticks=timeout_ticks,
        max_robots=max_robots,
        stop_when_decided=stop_when_decided,
        target=target,
        note=WAITING,
    )
    try:
        evaluation.full_clean()
    except ValidationError as error:
        field, texts = next(iter(error.message_dict.items()))
        raise Unprocessable(f"{field.replace('_', ' ')}: {texts[0]}") from None
    plan = [
        (version, task, first_seed + i)
        for i in range(trials_per_task)
        for task in sorted(tasks, key=lambda task: task.name)
        for version in versions
    ]
    with transaction.atomic():
        evaluation.save()
        evaluation.tasks.set(tasks)
        EvaluationTrial.objects.bulk_create(
            EvaluationTrial(
                evaluation=evaluation, version=version, task=task, seed=seed, position=position
            )
            for position, (version, task, seed) in enumerate(plan)
        )
    advance(evaluation.pk)
    evaluation.refresh_from_db()
    return evaluation


def cancel_evaluation(evaluation: Evaluation, *, operator: Operator) -> Evaluation:
    """End an evaluation now: trials under way are aborted, robots go back to their normal work.

    What was done stays. Of one that has ended it changes nothing. Locks the evaluation's row.
    """
    with transaction.atomic():
        evaluation = Evaluation.objects.select_for_update().get(pk=evaluation.pk)
        if evaluation.open:
            _end(evaluation, Evaluation.State.CANCELLED, f"cancelled by {operator.name}")
    return evaluation


def take_result(episode: Episode) -> None:
    """Go on with the evaluation that a closed episode is a trial of, if it is one."""
    if episode.trial is None:
        return
    found = EvaluationTrial.objects.filter(attempt=episode.trial).values_list("evaluation_id")
    for (evaluation_id,) in found:
        advance(evaluation_id)


def advance_open() -> None:
    """Go on with every open evaluation, the oldest first, and repeat what robots were told."""
    for pk in Evaluation.objects.filter(state__in=Evaluation.OPEN).order_by("pk").values_list("pk"):
        advance(pk[0])
    repeat_orders()


def advance(evaluation_id: int) -> None:
    """Take in finished trials, take back lost ones, end the evaluation or hand out more.

    Safe to repeat. Locks the evaluation's row, then those of all enabled robots in the order of
    their keys, so that it neither meets itself nor crosses the heartbeats.
    """
    now = timezone.now()
    with transaction.atomic():
        evaluation = Evaluation.objects.select_for_update().filter(pk=evaluation_id).first()
        if evaluation is None or not evaluation.open:
            return
        robots = list(Robot.objects.select_for_update().order_by("pk"))
        fleet = FleetSettings.objects.filter(pk=1).first() or FleetSettings()
        trials.settle(evaluation)
        fit = trials.withdraw_unfit(evaluation, robots, fleet=fleet, now=now)
        if _ended(evaluation, robots):
            return
        working = trials.hand_out(evaluation, fit, now=now)
        if working and evaluation.state == Evaluation.State.QUEUED:
            evaluation.state, evaluation.started_at = Evaluation.State.RUNNING, now
        evaluation.note = "" if working else WAITING
        evaluation.save(update_fields=["state", "started_at", "note", "excluded"])


def _ended(evaluation: Evaluation, robots: list[Robot]) -> bool:
    decision = _decision(evaluation) if evaluation.stop_when_decided else None
    if decision is not None:
        _end(evaluation, Evaluation.State.DONE, "decided before every trial was run", decision)
        return True
    left = evaluation.trials.filter(
        state__in=(EvaluationTrial.State.DUE, EvaluationTrial.State.ASSIGNED)
    )
    if not left.exists():
        _end(evaluation, Evaluation.State.DONE, "every trial was run")
        return True
    enabled = {robot.name for robot in robots if robot.enabled}
    if enabled and enabled <= set(evaluation.excluded):
        reason = next(iter(evaluation.excluded.values()))
        _end(evaluation, Evaluation.State.FAILED, f"no robot can run it: {reason}"[:500])
        return True
    return False


def _decision(evaluation: Evaluation) -> str | None:
    scores, paired = decidable(evaluation)
    if paired is not None:
        return decide_pair(paired)
    if evaluation.target is None:
        return None
    return decide_rate(pooled(scores), target=evaluation.target)


def _end(evaluation: Evaluation, state: str, note: str, decision: str = "") -> None:
    withdraw_orders(str(evaluation.uid))
    evaluation.trials.filter(state=EvaluationTrial.State.ASSIGNED).update(
        state=EvaluationTrial.State.DUE, attempt=None, robot=None, assigned_at=None
    )
    evaluation.state, evaluation.note, evaluation.decision = state, note, decision
    evaluation.ended_at = timezone.now()
    evaluation.save(update_fields=["state", "note", "decision", "ended_at", "excluded"])
