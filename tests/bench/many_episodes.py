"""A hundred thousand episodes as rows only, made in bulk: what a year of a small fleet leaves."""

import random
import uuid
from datetime import UTC, datetime, timedelta

from fleet.models import Operator, OperatorKind, Robot, Role, Task
from fleet.models.tokens import hash_token
from learning.models import ClosedCursor, Episode, EpisodeUse, Intervention, Label, Learner
from learning.models.policies import PolicyVersion

TASKS = ("drawer-open", "door-open", "peg-insert-side", "push", "pick-place", "window-close")
ROBOTS, VERSIONS, OPERATORS = 12, 400, 8
START = datetime(2026, 1, 1, tzinfo=UTC)
EVERY = timedelta(minutes=4)
_BATCH = 2000


def make_episodes(n: int, *, seed: int = 0) -> None:
    """Write `n` closed episodes with their interventions, labels and uses into an empty database.

    A third was corrected by one of eight operators, one in ten was labelled, outcomes are as a
    learning fleet has them with one in a thousand called off, and versions grow with time.
    """
    draw = random.Random(seed)
    tasks = [_task(name) for name in TASKS]
    robots = [
        Robot.objects.create(name=f"arm-{i:02d}", token_hash=hash_token(f"arm-{i}"))
        for i in range(ROBOTS)
    ]
    operators = [_operator(f"operator-{i:02d}") for i in range(OPERATORS)]
    learner = Learner.objects.create(name="hg-dagger", step=25 * VERSIONS, next_number=VERSIONS + 1)
    shas = {number: f"{number:064x}" for number in range(1, VERSIONS + 1)}
    PolicyVersion.objects.bulk_create(
        PolicyVersion(learner=learner, number=number, sha256=sha, size_bytes=1, step=25 * number)
        for number, sha in shas.items()
    )
    for first in range(0, n, _BATCH):
        numbers = range(first, min(n, first + _BATCH))
        rows = [_episode(draw, i, n, tasks, robots, shas) for i in numbers]
        rows = Episode.objects.bulk_create(rows)
        Intervention.objects.bulk_create(
            Intervention(
                episode=row,
                start=10,
                end=10 + row.human_steps,
                operator=draw.choice(operators).name,
            )
            for row in rows
            if row.human_steps
        )
        labelled = [row for row in rows if row.judged_outcome]
        Label.objects.bulk_create(
            Label(
                episode=row,
                outcome=row.judged_outcome,
                operator=draw.choice(operators),
                note=draw.choice(("", "slipped at the handle", "wrong place", "hit the fence")),
            )
            for row in labelled
        )
        EpisodeUse.objects.bulk_create(
            EpisodeUse(episode=row, learner=learner, step=row.first_trained_step)
            for row in rows
            if row.first_trained_step
        )
    ClosedCursor.objects.update_or_create(pk=1, defaults={"value": n})


def _episode(
    draw: random.Random,
    i: int,
    n: int,
    tasks: list[Task],
    robots: list[Robot],
    shas: dict[int, str],
) -> Episode:
    at = START + i * EVERY
    task = draw.choice(tasks)
    number = 1 + i * VERSIONS // n
    steps = draw.randint(40, 500)
    eval_ = i % 6 == 0
    won = draw.random() < 0.5 + 0.45 * i / n
    outcome = "abort" if draw.random() < 0.001 else "success" if won else draw.choice(
        ("failure", "timeout")
    )  # fmt: skip
    judged = draw.choice(("success", "failure")) if draw.random() < 0.1 else ""
    return Episode(
        uid=uuid.UUID(int=draw.getrandbits(128)),
        robot=draw.choice(robots),
        task=task,
        purpose="eval" if eval_ else "train",
        seed=i,
        instruction=f"{task.instruction} {draw.choice(('now', 'gently', 'please', 'again'))}",
        policy_number=number,
        policy_sha256=shas[number],
        outcome=outcome,
        judged_outcome=judged,
        judge="robot",
        steps=steps,
        human_steps=0 if eval_ or draw.random() < 0.66 else draw.randint(5, 30),
        complete=True,
        started_at=at,
        ended_at=at + timedelta(seconds=steps / 20),
        state=Episode.State.CLOSED,
        closed_at=at + timedelta(seconds=steps / 20 + 1),
        closed_seq=i + 1,
        manifest_sha256=f"{i:064x}",
        first_trained_at=None if eval_ else at + timedelta(seconds=60),
        first_trained_step=None if eval_ else 25 * number - 12,
    )


def _task(name: str) -> Task:
    words = name.replace("-", " ")
    return Task.objects.create(name=name, instruction=f"do the {words}", family="bench")


def _operator(name: str) -> Operator:
    from django.contrib.auth.models import User

    return Operator.objects.create(
        user=User.objects.create(username=name), role=Role.OPERATOR, kind=OperatorKind.HUMAN
    )
