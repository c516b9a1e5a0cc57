"""What the next episode is: its task, its words, its seed, and whether it is an evaluation."""

import random
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from fleet.protocol.messages import Assignment, Purpose
from fleet.protocol.spec import MAX_ORDERED_TRIALS, TaskSpec, TrialOrder

Count = Annotated[int, Meta(ge=0)]
# Of trials begun; several orders' worth, because an old order may still be on its way.
_TRIALS_KEPT = 4 * MAX_ORDERED_TRIALS


class Progress(msgspec.Struct, kw_only=True):
    """How far a robot is in its seeds; survives a restart, so that no layout comes twice."""

    since_evaluation: Count = 0
    train: Count = 0
    # Training seeds count from here; another value in an assignment starts them anew.
    train_seed: int = 0
    # Evaluations begun, by task.
    evaluated: dict[str, Count] = msgspec.field(default_factory=dict)
    # The last trials begun, by name: none is begun twice, also not after a restart.
    trials: list[str] = msgspec.field(default_factory=list)


@dataclass(frozen=True, slots=True)
class EpisodePlan:
    """One episode to run."""

    task: TaskSpec
    instruction: str
    seed: int
    purpose: Purpose
    # Name of the trial it is; empty for all others.
    trial: str = ""


class Planner:
    """Walks an assignment: tasks by weight, one episode in `evaluate_every` held out."""

    def __init__(self, progress: Progress, rng: random.Random) -> None:
        self.progress = progress
        self._rng = rng

    def next(self, assignment: Assignment, *, may_evaluate: bool) -> EpisodePlan | None:
        """Return the next episode, or None when the assignment has no task to train on.

        A task of weight 0 is not trained on and still evaluated.
        `may_evaluate` is False while a person has the robot: the evaluation then waits its turn.
        """
        tasks = [task for task in assignment.tasks if task.weight > 0]
        if not tasks:
            return None
        p = self.progress
        if p.train_seed != assignment.train_seed:
            p.train_seed, p.train = assignment.train_seed, 0
        due = p.since_evaluation + 1 >= assignment.evaluate_every > 0
        if due and may_evaluate and assignment.eval_seeds:
            # The least evaluated task first, so that every task is judged on as many layouts.
            counts = [(p.evaluated.get(task.name, 0), task) for task in assignment.tasks]
            fewest = min(count for count, _ in counts)
            task = self._rng.choice([task for count, task in counts if count == fewest])
            seed = assignment.eval_seeds[fewest % len(assignment.eval_seeds)]
            return EpisodePlan(task, task.instruction, seed, "eval")
        task = self._rng.choices(tasks, [task.weight for task in tasks])[0]
        words = self._rng.choice([task.instruction, *task.paraphrases])
        held_out = frozenset(assignment.eval_seeds)
        while assignment.train_seed + p.train in held_out:
            p.train += 1
        return EpisodePlan(task, words, assignment.train_seed + p.train, "train")

    def trial(self, order: TrialOrder) -> EpisodePlan | None:
        """Return the first trial of an order that was not begun yet, or None when all were."""
        for trial in order.trials:
            if trial.uid not in self.progress.trials:
                words = trial.task.instruction
                return EpisodePlan(trial.task, words, trial.seed, "eval", trial.uid)
        return None

    def began(self, plan: EpisodePlan) -> None:
        """Count an episode that starts."""
        p = self.progress
        if plan.trial:
            p.trials = [*p.trials, plan.trial][-_TRIALS_KEPT:]
        elif plan.purpose == "eval":
            p.since_evaluation = 0
            p.evaluated[plan.task.name] = p.evaluated.get(plan.task.name, 0) + 1
        else:
            p.since_evaluation += 1
            p.train += 1
