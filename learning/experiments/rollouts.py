"""Roll a policy out on held-out layouts, off the clock: `python -m learning.experiments.rollouts`.

Acts through the agent's own `ChunkController` and driver, so an evaluation is what a robot does,
only as fast as the machine allows: pictures are made only on ticks at which the policy infers.
"""

import argparse
import json
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from fleet.protocol.simulation import FINAL_SEEDS, HELD_OUT_PARAPHRASES, TASKS, task_named
from learning.core.statistics import wilson

# Which words the policy is given: the task's own, a paraphrase never trained on, another task's.
Wording = Literal["own", "held_out", "wrong"]


@dataclass(frozen=True, slots=True)
class Rollout:
    """One episode of a policy acting alone."""

    task: str
    seed: int
    instruction: str
    success: bool
    ticks: int


def words_for(task_name: str, seed: int, wording: Wording) -> str:
    """Return the instruction of one rollout; with several to choose from the seed decides."""
    if wording == "own":
        return task_named(task_name).instruction
    if wording == "held_out":
        paraphrases = HELD_OUT_PARAPHRASES[task_name]
        return paraphrases[seed % len(paraphrases)]
    others = [task.instruction for task in TASKS if task.name != task_name]
    return others[seed % len(others)]


class Roller:
    """One process's driver and policy."""

    def __init__(self, artifact: bytes, driver: Any = None) -> None:
        """Load a policy; `driver` is a `MetaWorldDriver` to act with, a new one by default."""
        import torch

        from fleet.agent.controllers import ChunkController
        from fleet.agent.drivers.metaworld import MetaWorldDriver
        from learning.core.policies.base import load_policy

        torch.set_num_threads(1)
        policy = load_policy(artifact)
        self._driver = driver or MetaWorldDriver("image" if policy.config.cameras else "state")
        self._controller = ChunkController(policy)
        self._controller.guide(evaluation=True)

    def roll(self, task_name: str, seed: int, instruction: str, *, patience: int = 1) -> Rollout:
        """Let the policy do a task alone on a held-out layout, for `patience` times its limit."""
        task = task_named(task_name)
        limit = patience * task.timeout_ticks
        self._driver.reset(task, seed=seed, held_out=True)
        self._controller.reset()
        low, high = np.array(self._driver.spec.action_low), np.array(self._driver.spec.action_high)
        for tick in range(limit):
            reading = self._driver.read(images=self._controller.wants_image)
            if reading.success:
                return Rollout(task_name, seed, instruction, True, tick)
            action, _, _ = self._controller.propose(reading, instruction)
            self._driver.apply(np.clip(action, low, high).astype(np.float32))
        success = self._driver.read(images=False).success
        return Rollout(task_name, seed, instruction, success, limit)


_roller: Roller | None = None


def _start(artifact: bytes) -> None:
    global _roller
    _roller = Roller(artifact)


def _roll(job: tuple[str, int, str]) -> Rollout:
    assert _roller is not None
    return _roller.roll(*job)


def evaluate(
    artifact: bytes,
    *,
    tasks: Sequence[str] = tuple(task.name for task in TASKS),
    seeds: Sequence[int] = FINAL_SEEDS[:20],
    processes: int = 2,
    wording: Wording = "own",
    progress: bool = False,
) -> list[Rollout]:
    """Roll out every task on every held-out seed, over the full range of layouts.

    Args:
        artifact: The policy, as published.
        tasks: Names of default tasks.
        seeds: Of held-out layouts.
        processes: Side by side, one thread each; 1 stays in this process.
        wording: Which instruction the policy is given.
        progress: Show a bar.

    Returns:
        One rollout for each task and seed, ordered by task, then seed. It does not depend on
        `processes`.
    """
    jobs = [(task, seed, words_for(task, seed, wording)) for task in tasks for seed in seeds]
    bar: dict[str, Any] = {"desc": "rollouts", "total": len(jobs), "disable": not progress}
    if processes == 1:
        roller = Roller(artifact)
        return [roller.roll(*job) for job in tqdm(jobs, **bar)]
    # Spawned, so that no OpenGL context and no torch thread is inherited.
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(processes, len(jobs)), _start, (artifact,)) as pool:
        return list(tqdm(pool.imap(_roll, jobs, chunksize=4), **bar))


def summarise(rollouts: Sequence[Rollout]) -> dict[str, dict[str, float]]:
    """Return success with its 95 % Wilson interval per task and over all ("all")."""
    groups: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        groups.setdefault(rollout.task, []).append(rollout)
    out = {}
    for name, group in {**groups, "all": list(rollouts)}.items():
        successes = sum(rollout.success for rollout in group)
        low, high = wilson(successes, len(group))
        out[name] = {
            "success": successes / len(group),
            "low": low,
            "high": high,
            "n": len(group),
            "ticks": float(np.median([rollout.ticks for rollout in group])),
        }
    return out


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--tasks", nargs="+", default=[task.name for task in TASKS])
    parser.add_argument("--episodes", type=int, default=20, help="a task")
    parser.add_argument("--wording", choices=("own", "held_out", "wrong"), default="own")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, help="also write every rollout here, as JSON")
    arguments = parser.parse_args()
    rollouts = evaluate(
        arguments.artifact.read_bytes(),
        tasks=arguments.tasks,
        seeds=FINAL_SEEDS[: arguments.episodes],
        processes=arguments.processes,
        wording=arguments.wording,
        progress=True,
    )
    for name, row in summarise(rollouts).items():
        interval = f"{row['low']:.2f}-{row['high']:.2f}"
        print(
            f"{name:18s} {row['success']:.2f}  [{interval}]  n={row['n']}  {row['ticks']:.0f} ticks"
        )
    if arguments.out:
        arguments.out.write_text(json.dumps([asdict(rollout) for rollout in rollouts], indent=1))


if __name__ == "__main__":
    main()
