"""The simulations that a process keeps, and policies rolled out in them, off every clock."""

import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fleet.protocol.simulation import CURVE_SEEDS, FINAL_SEEDS, TASKS, task_named
from fleet.protocol.spec import TaskSpec
from learning.experiments.virtual.summary import Row


class Machine:
    """What a process keeps between runs: simulations, which take seconds to build."""

    def __init__(self) -> None:
        """Keep to one thread."""
        import torch

        from learning.core.allocation import keep_freed_memory
        from learning.experiments.virtual.scenes import ScenePool

        torch.set_num_threads(1)
        keep_freed_memory()
        self._pool = ScenePool()
        self._drivers: list[Any] = []

    def drivers(self, count: int) -> list[Any]:
        """Return simulated robots that are in no scene yet."""
        from learning.experiments.virtual.scenes import PooledDriver

        while len(self._drivers) < count:
            self._drivers.append(PooledDriver(self._pool))
        for driver in self._drivers:
            driver.leave()
        return self._drivers[:count]

    def evaluate(self, artifact: bytes, seeds: Sequence[int]) -> list[Row]:
        """Roll a policy out on every task and seed."""
        return self._roll(artifact, [(task, seed) for task in TASKS for seed in seeds])

    def judge(self, artifact: bytes, trials: int, patience: int) -> dict[str, list[Row]]:
        """Roll a policy out on layouts used for nothing else.

        Returns:
            `final`; and `patient`, the same where those that failed had `patience` times their
            limit in another try. A policy and its scene are deterministic: what succeeded within
            the limit would again.
        """
        final = self.evaluate(artifact, FINAL_SEEDS[:trials])
        failed = []
        if patience > 1:
            failed = [(task_named(task), seed) for task, seed, success, _ in final if not success]
        again = {row[:2]: row for row in self._roll(artifact, failed, patience)}
        return {"final": final, "patient": [again.get(row[:2], row) for row in final]}

    def _roll(
        self, artifact: bytes, layouts: Sequence[tuple[TaskSpec, int]], patience: int = 1
    ) -> list[Row]:
        from learning.experiments.rollouts import Roller

        roller = Roller(artifact, driver=self.drivers(1)[0])
        rollouts = [
            roller.roll(task.name, seed, task.instruction, patience=patience)
            for task, seed in layouts
        ]
        return [(r.task, r.seed, r.success, r.ticks) for r in rollouts]


_machine: Machine | None = None


def this_machine() -> Machine:
    """Return the one of this process."""
    global _machine
    if _machine is None:
        _machine = Machine()
    return _machine


def evaluate_base(
    artifact: str, *, curve: int, trials: int, patience: int = 1
) -> dict[str, list[Row]]:
    """Return rollouts of a policy on `curve` layouts a task of the curves and `trials` final ones.

    In a process of its own, so that the caller holds no simulation while runs are performed.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_evaluate_base, (artifact, curve, trials, patience))


def _evaluate_base(artifact: str, curve: int, trials: int, patience: int) -> dict[str, list[Row]]:
    weights, machine = Path(artifact).read_bytes(), this_machine()
    return {
        "curve": machine.evaluate(weights, CURVE_SEEDS[:curve]),
        **machine.judge(weights, trials, patience),
    }
