"""Single trials of an evaluation: taken in, taken back, handed out.

Everything here runs inside `evaluations.advance`, which holds the locks.
"""

import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from django.db.models import QuerySet

from fleet.models import FleetSettings, PolicyReport, Robot
from fleet.protocol.control import Mode
from fleet.protocol.spec import TaskSpec, Trial, TrialOrder
from fleet.services.trials import order_trials, withdraw_orders
from learning.models import Episode, Evaluation, EvaluationTrial
from learning.models.episodes import Outcome
from learning.services.assignments import policy_ref

State = EvaluationTrial.State

# Trials a robot has at once: the one it runs, and one so that it never waits for the server.
QUEUE = 2
# A trial that could not be finished so often is given up, and counts for nothing.
MAX_ATTEMPTS = 3
# Without a heartbeat for this long a robot's trials are done elsewhere. Longer than a restart of
# the web process takes on a busy machine.
LOST_AFTER_S = 15.0
# Added to the time a robot's trials may take, for the episode it is in, weights and the upload.
SLACK_S = 60.0
# Trials of one version in a row on one robot before the other's turn: swapping costs a moment, and
# a robot that only ever ran one of two versions would make the robots part of the comparison.
STINT = 6
# Due trials looked at in one step: far more than a fleet begins in a second.
LOOKED_AT = 2000


def settle(evaluation: Evaluation) -> None:
    """Take in every assigned trial whose episode is closed: done, or due again, or void."""
    assigned = {t.attempt: t for t in _assigned(evaluation)}
    closed = Episode.objects.filter(trial__in=list(assigned), state=Episode.State.CLOSED)
    for episode in closed:
        trial = assigned[episode.trial]
        refusal = _why_not(trial, episode)
        if refusal is None:
            trial.state, trial.episode, trial.reason = State.DONE, episode, ""
            trial.robot = episode.robot
            trial.save()
        else:
            _take_back(trial, refusal, counts=True)


def _why_not(trial: EvaluationTrial, episode: Episode) -> str | None:
    if not episode.complete:
        return "the robot's agent ended in it"
    if episode.outcome_in_force == Outcome.ABORT:
        return f"aborted, judged by {episode.judge or 'nobody'}"
    if episode.human_steps:
        return "a person drove in it"
    said = (episode.task_id, episode.seed, episode.policy_number, episode.policy_sha256)
    wanted = (trial.task_id, trial.seed, trial.version.number, trial.version.sha256)
    return None if said == wanted else "the robot ran another task, layout or version"


def withdraw_unfit(
    evaluation: Evaluation, robots: Sequence[Robot], *, fleet: FleetSettings, now: datetime
) -> list[Robot]:
    """Take trials back from robots that cannot go on; return the robots that could work on it.

    A robot that rejected a version, or did not run its trials in time, gets no more of this
    evaluation: the reason is kept in `excluded`.
    """
    assigned: dict[int, list[EvaluationTrial]] = {}
    for trial in _assigned(evaluation):
        if trial.robot_id is None:
            _take_back(trial, "its robot was deleted")
        else:
            assigned.setdefault(trial.robot_id, []).append(trial)
    rejections = _rejections(evaluation)
    uid, fit = str(evaluation.uid), []
    for robot in robots:
        mine = assigned.get(robot.pk, [])
        if reason := rejections.get(robot.pk):
            evaluation.excluded[robot.name] = reason
        elif mine and _overdue(robot, mine, fleet=fleet, now=now):
            evaluation.excluded[robot.name] = "it did not run its trials in time"
        silent = _silent(robot, now)
        reason = evaluation.excluded.get(robot.name) or _unavailable(robot, fleet, silent=silent)
        if reason is None:
            fit.append(robot)
            continue
        for trial in mine:
            _take_back(trial, f"{robot.name}: {reason}", counts=silent)
        if _order_of(robot) == uid:
            withdraw_orders(uid, robots=[robot])
            robot.order = None
    return fit


def _rejections(evaluation: Evaluation) -> dict[int, str]:
    # The last report of a version counts: a robot may reject it, be mended, and verify it.
    sha256s = [version.sha256 for version in evaluation.versions]
    reports = PolicyReport.objects.filter(
        sha256__in=sha256s, reported_at__gte=evaluation.created_at
    ).order_by("id")
    last = {(report.robot_id, report.sha256): report for report in reports}
    return {
        robot: f"it rejected v{report.number}: {report.reason or report.status}"[:400]
        for (robot, _), report in last.items()
        if report.status in (PolicyReport.Status.REJECTED, PolicyReport.Status.ROLLED_BACK)
    }


def _silent(robot: Robot, now: datetime) -> bool:
    heard = robot.last_heartbeat_at
    return heard is None or now - heard > timedelta(seconds=LOST_AFTER_S)


def _unavailable(robot: Robot, fleet: FleetSettings, *, silent: bool) -> str | None:
    """Return why a robot is not idle: not free to run what the fleet gives it. None when it is."""
    if not robot.enabled:
        return "it is disabled"
    if silent:
        return "it is not connected"
    if robot.paused or fleet.paused:
        return "it is paused"
    if robot.mode != Mode.AUTONOMOUS or robot.stop_requested:
        return f"it is {robot.mode}"
    if robot.leases.filter(ended_at__isnull=True).exists():
        return "somebody holds it"
    return None


def _overdue(
    robot: Robot, mine: list[EvaluationTrial], *, fleet: FleetSettings, now: datetime
) -> bool:
    hz = robot.spec.get("control_hz", 1.0)
    needed_s = sum(_spec(trial).timeout_ticks / hz + fleet.reset_s for trial in mine)
    since = max(trial.assigned_at for trial in mine)
    return now - since > timedelta(seconds=2 * needed_s + SLACK_S)


def hand_out(evaluation: Evaluation, fit: list[Robot], *, now: datetime) -> int:
    """Give robots trials that are due, and let go of robots for which none is left.

    Returns how many robots work on the evaluation afterwards.
    """
    uid = str(evaluation.uid)
    waiting = evaluation.trials.filter(state=State.DUE).order_by("position")
    due = list(waiting.select_related("version__parent", "task")[:LOOKED_AT])
    assigned: dict[int, list[EvaluationTrial]] = {}
    for trial in _assigned(evaluation):
        assigned.setdefault(trial.robot_id, []).append(trial)
    shares = Counter(
        evaluation.trials.filter(robot__isnull=False).values_list("robot_id", "version_id")
    )
    working = sum(_order_of(robot) == uid for robot in fit)
    # Robots that are in it already come first: a newcomer would cost another swap.
    for robot in sorted(fit, key=lambda robot: (_order_of(robot) != uid, robot.pk)):
        joined, mine = _order_of(robot) == uid, assigned.get(robot.pk, [])
        if robot.order is not None and not joined:
            continue
        if not joined and evaluation.max_robots and working >= evaluation.max_robots:
            continue
        picked = _pick(robot, mine, due, shares)
        if not picked:
            if joined and not mine:
                withdraw_orders(uid, robots=[robot])
                working -= 1
            continue
        for trial in picked:
            due.remove(trial)
            trial.state, trial.robot, trial.assigned_at = State.ASSIGNED, robot, now
            trial.attempt = uuid.uuid4()
            trial.save()
            shares[robot.pk, trial.version_id] += 1
        order_trials(robot, _order(evaluation, [*mine, *picked]))
        working += not joined
    return working


def _pick(
    robot: Robot,
    mine: list[EvaluationTrial],
    due: list[EvaluationTrial],
    shares: Counter[tuple[int, int]],
) -> list[EvaluationTrial]:
    """Choose what a robot gets next, of one version, in the order of positions.

    At the end of a stint it first finishes what it has, and then gets the other version.
    """
    own = set(robot.tasks.values_list("pk", flat=True))
    possible = [trial for trial in due if not own or trial.task_id in own]
    room = QUEUE - len(mine)
    if not possible or room <= 0:
        return []
    if mine:
        version = mine[0].version_id
    else:
        current = robot.order["policy"]["sha256"] if robot.order else ""
        version = min(
            possible,
            key=lambda t: (
                shares[robot.pk, t.version_id] // STINT,
                t.version.sha256 != current,
                t.position,
            ),
        ).version_id
    if any(t.version_id != version for t in possible):
        begun = shares[robot.pk, version] % STINT
        room = min(room, 0 if mine and not begun else STINT - begun)
    return [t for t in possible if t.version_id == version][:room]


def _order(evaluation: Evaluation, mine: list[EvaluationTrial]) -> TrialOrder:
    return TrialOrder(
        evaluation=str(evaluation.uid),
        policy=policy_ref(mine[0].version),
        trials=tuple(
            Trial(uid=str(trial.attempt), task=_spec(trial), seed=trial.seed) for trial in mine
        ),
    )


def _spec(trial: EvaluationTrial) -> TaskSpec:
    spec = trial.task.spec()
    timeout = trial.evaluation.timeout_ticks
    return msgspec.structs.replace(spec, timeout_ticks=timeout) if timeout else spec


def _assigned(evaluation: Evaluation) -> QuerySet[EvaluationTrial]:
    return evaluation.trials.filter(state=State.ASSIGNED).select_related("version__parent", "task")


def _order_of(robot: Robot) -> str:
    return robot.order["evaluation"] if robot.order else ""


def _take_back(trial: EvaluationTrial, reason: str, *, counts: bool = False) -> None:
    trial.attempts += counts
    trial.state = State.VOID if trial.attempts >= MAX_ATTEMPTS else State.DUE
    trial.attempt = trial.robot = trial.assigned_at = None
    trial.reason = reason[:500]
    trial.save()
