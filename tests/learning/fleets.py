"""A fleet for evaluations: idle robots, versions to judge, and what robots would answer."""

from datetime import timedelta

import msgspec
from django.utils import timezone

from fleet.models import Robot, Task
from fleet.protocol.spec import PolicyRef, Trial, TrialOrder
from fleet.services.robots import assignment_of
from learning.models import Episode, Evaluation, Learner, PolicyVersion
from learning.services.evaluations import take_result
from tests.factories import make_robot
from tests.learning.making import SPEC, record, send


def make_version(learner: Learner, number: int, **fields: object) -> PolicyVersion:
    sha256 = f"{learner.pk:032x}{number:032x}"
    return PolicyVersion.objects.create(
        **{"learner": learner, "number": number, "sha256": sha256, "size_bytes": 10} | fields
    )


def make_idle(name: str, **fields: object) -> Robot:
    """A robot that is connected and runs what the fleet gives it."""
    return make_robot(
        name,
        **{
            "spec": msgspec.to_builtins(SPEC),
            "mode": "autonomous",
            "last_heartbeat_at": timezone.now(),
        }
        | fields,
    )


def fall_silent(robot: Robot, seconds: float = 60.0) -> None:
    at = timezone.now() - timedelta(seconds=seconds)
    Robot.objects.filter(pk=robot.pk).update(last_heartbeat_at=at)


def be_heard(robot: Robot) -> None:
    """Send a heartbeat: a test may take longer than a silent robot is waited for."""
    fall_silent(robot, seconds=0.0)


def order_of(robot: Robot) -> TrialOrder | None:
    """What the robot would be told, by whichever process it connects to."""
    return assignment_of(Robot.objects.get(pk=robot.pk)).order


def run_trial(
    robot: Robot,
    trial: Trial,
    policy: PolicyRef,
    outcome: str = "success",
    *,
    steps: int = 4,
    tell: bool = True,
    **fields: object,
) -> Episode:
    """Record and upload a trial as the robot's agent does; `tell` as the API does on closing."""
    recorded = record(
        robot,
        Task.objects.get(name=trial.task.name),
        **{
            "modes": (0,) * steps, "purpose": "eval", "seed": trial.seed, "outcome": outcome,
            "policy_number": policy.number, "policy_sha256": policy.sha256, "trial": trial.uid,
        }
        | fields,
    )  # fmt: skip
    episode = send(recorded, robot)
    if tell:
        take_result(episode)
    return episode


def run_next(robot: Robot, outcome: str = "success", **fields: object) -> Trial:
    """Run the first trial of the robot's order that has no episode yet."""
    be_heard(robot)
    order = order_of(robot)
    assert order is not None, f"{robot.name} has no order"
    done = {str(uid) for uid in Episode.objects.values_list("trial", flat=True)}
    trial = next(trial for trial in order.trials if trial.uid not in done)
    run_trial(robot, trial, order.policy, outcome, **fields)
    return trial


def run_all(evaluation: Evaluation, *robots: Robot, limit: int = 1000, outcome=None) -> None:
    """Let robots run trials in turn until the evaluation has ended.

    `outcome` maps (version number, task, seed) to an outcome; everything succeeds by default.
    """
    for _ in range(limit):
        for robot in robots:
            be_heard(robot)
            order = order_of(robot)
            if order is None:
                continue
            done = {str(uid) for uid in Episode.objects.values_list("trial", flat=True)}
            trial = next(t for t in order.trials if t.uid not in done)
            said = outcome(order.policy.number, trial.task.name, trial.seed) if outcome else None
            run_trial(robot, trial, order.policy, said or "success")
        evaluation.refresh_from_db()
        if not evaluation.open:
            return
    raise AssertionError("the evaluation does not end")
