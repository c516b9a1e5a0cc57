"""One seed of the RECAP study: its data, its arms, its online runs. Every method is a stage.

`learning.experiments.recap` says what is compared and runs the stages side by side.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fleet.protocol.simulation import HELD_OUT_FROM, task_named
from learning.experiments.mixed_skill import MixedSkill, Played, play, read_played, write_played
from learning.experiments.stages import Stages

TASKS = ("bin-picking", "drawer-open", "box-close", "peg-insert-side", "hammer")
# Training layouts of this study; its held-out ones, for the final figures and for tuning.
TRAINING_SEEDS_FROM = 2**28
FINAL_SEEDS_FROM = HELD_OUT_FROM + 20_000
TUNING_SEEDS_FROM = HELD_OUT_FROM + 10_000
# Skill changes every 15 to 44 ticks: an advantage that looks further mixes skills.
HORIZON = 20
# Batches that scripts recorded, in a folder a task: the offline buffer, and what nobody trains on.
SCRIPTED = ("offline", "held_out")
# Online runs: where each starts, and the guidance it acts with.
RUNS: dict[str, tuple[str, float]] = {
    "positive": ("recap", 1.0),
    "unconditioned": ("recap", 0.0),
    "from_base_introduced": ("base", 1.0),
    "from_base_plain": ("base", 1.0),
}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything; runs of equal sizes resume each other."""

    seeds: int = 3
    # Episodes a task in the offline buffer, and in each online iteration.
    offline: int = 40
    online: int = 20
    iterations: int = 2
    updates: int = 1500
    value_steps: int = 1000
    # Held-out layouts a task in each figure.
    trials: int = 20
    # Layouts for tuning in place of the final ones.
    tuning: bool = False


QUICK = Sizes(seeds=1, offline=4, online=2, iterations=1, updates=40, value_steps=40, trials=2)


@cache
def _driver() -> Any:
    from fleet.agent.drivers.metaworld import MetaWorldDriver

    return MetaWorldDriver("state")


class Study:
    """One seed of a study, in the study's folder; every method is a stage or reads one."""

    def __init__(self, folder: Path, sizes: Sizes, seed: int) -> None:
        self.sizes, self.seed = sizes, seed
        self.folder = folder / f"seed-{seed}"
        self.folder.mkdir(exist_ok=True)
        self.stages = Stages(self.folder)

    # ---- data ----------------------------------------------------------------------------------

    def _training_seed(self, batch: int) -> int:
        return TRAINING_SEEDS_FROM + self.seed * 1_000_000 + batch * 10_000

    def offline(self, task: str) -> dict[str, Any]:
        """Record a task of the offline buffer, and episodes that only the action gap looks at."""
        for name, batch, count in (("offline", 0, self.sizes.offline), ("held_out", 1, 2)):
            folder = self.folder / name / task
            if not folder.exists():
                write_played(folder, self._scripted(task, batch, count))
        manifests = [manifest for manifest, _ in read_played(self.folder / "offline" / task)]
        return {
            "episodes": len(manifests),
            "success": sum(m.outcome == "success" for m in manifests) / len(manifests),
            "steps": sum(m.steps for m in manifests),
        }

    def _scripted(self, task: str, batch: int, count: int) -> Iterable[Played]:
        for number in range(count):
            seed = self._training_seed(batch) + number
            generator = np.random.default_rng([seed, TASKS.index(task)])
            script = MixedSkill(task, generator)
            yield play(_driver(), task_named(task), seed, script, record_as=f"script-{batch}")

    def _folders(self, name: str) -> list[Path]:
        """Return where the episodes of a batch lie; scripted ones by task."""
        own = self.folder / name
        return [own / task for task in TASKS] if name in SCRIPTED else [own]

    def judge(self) -> dict[str, Any]:
        """Fit the value function to the offline buffer, cross-fitted by episode; keep values."""
        from safetensors.numpy import save

        from learning.core.value import save_value
        from learning.core.value_training import FitConfig, fit_value

        data = self._unjudged("offline")
        fit = fit_value(
            [record for record, _ in data],
            _opener(self._folders("offline")),
            _config(),
            FitConfig(steps=self.sizes.value_steps, seed=self.seed),
        )
        _put(self.folder / "value.safetensors", save_value(fit.value))
        _put(self.folder / "values-offline.safetensors", save(fit.values))
        return {
            "spearman": fit.correlation,
            "by_task": fit.by_task,
            "episodes": fit.episodes,
            "frames": fit.frames,
        }

    def _unjudged(self, name: str) -> list[tuple[Any, Path]]:
        from learning.core.records import record_from

        found = []
        for folder in self._folders(name):
            for manifest, part in read_played(folder):
                record = record_from(manifest, [part], closed_seq=len(found) + 1)
                found.append((replace(record, online=name not in SCRIPTED), folder))
        return found

    def data(self, online: Sequence[str] = (), *, positive: float = 0.3) -> Any:
        """Return the judged offline buffer with online batches, thresholds over all of it.

        Args:
            online: Names of batches, as they were recorded.
            positive: Share of each task's steps that the threshold leaves.
        """
        from safetensors.numpy import load_file, save

        from learning.core.advantages import Shares
        from learning.core.annotate import values_of
        from learning.core.sidecar import annotate, epsilons_of
        from learning.core.value import load_value
        from learning.experiments.recap_arms import Data, Judged

        found = []
        for name in ("offline", *online):
            path = self.folder / f"values-{name}.safetensors"
            if not path.exists():
                value = load_value((self.folder / "value.safetensors").read_bytes())
                opener = _opener(self._folders(name))
                fresh = {
                    record.uid: values_of(value, record, opener, action_dim=4)
                    for record, _ in self._unjudged(name)
                }
                _put(path, save(fresh))
            values = load_file(path)
            found += [(r, folder, values[r.uid]) for r, folder in self._unjudged(name)]
        first = [(r, annotate(r, v, epsilons={}, horizon=HORIZON)) for r, _, v in found]
        epsilons = epsilons_of(first, Shares(positive=positive))
        return Data(
            [
                Judged(r, annotate(r, v, epsilons=epsilons, horizon=HORIZON), folder)
                for r, folder, v in found
            ]
        )

    def held_out(self) -> list[Any]:
        """Return frames of episodes nobody trains on, as a policy observes them."""
        from learning.core.types import Observation

        return [
            Observation({}, part.array("state")[row].copy(), manifest.header.instruction)
            for folder in self._folders("held_out")
            for manifest, part in read_played(folder)
            for row in range(0, manifest.steps, 10)
        ]

    # ---- training ------------------------------------------------------------------------------

    def weights(self, name: str) -> Path:
        """Return where the artifact of an arm lies."""
        return self.folder / f"{name}.safetensors"

    def train(self, arm: str) -> dict[str, Any]:
        """Train one arm on the offline buffer from scratch."""
        from learning.experiments.recap_arms import fresh_policy, learner_for, trainer_for

        data = self.data()
        learner = learner_for(arm, fresh_policy(data, seed=self.seed), data)
        trainer = trainer_for(learner, data, seed=self.seed)
        return self._run(trainer, arm, self.sizes.updates)

    def _run(self, trainer: Any, name: str, updates: int) -> dict[str, Any]:
        from learning.core.policies.base import save_policy

        started = time.perf_counter()
        losses = [trainer.step().loss for _ in range(updates)]
        report = trainer.learner.report(self.held_out())
        _put(self.weights(name), save_policy(trainer.learner.policy))
        _put(self.folder / f"{name}.checkpoint", trainer.checkpoint())
        return {
            "loss": float(np.mean(losses[-100:])),
            "updates": updates,
            "seconds": time.perf_counter() - started,
            **report,
        }

    # ---- acting --------------------------------------------------------------------------------

    def evaluate(self, name: str, guidance: float | None) -> list[list[Any]]:
        """Return [task, success, ticks] of a policy acting alone on each held-out layout."""
        first = TUNING_SEEDS_FROM if self.sizes.tuning else FINAL_SEEDS_FROM
        seeds = range(first + self.seed * 1000, first + self.seed * 1000 + self.sizes.trials)
        return [
            [played.task, played.success, played.ticks]
            for played in self._acted(name, guidance, seeds, held_out=True)
        ]

    def _acted(
        self,
        name: str,
        guidance: float | None,
        seeds: Iterable[int],
        *,
        held_out: bool = False,
        record_as: str = "",
    ) -> Iterable[Played]:
        from fleet.agent.controllers import ChunkController
        from learning.core.policies.base import load_policy

        policy = load_policy(self.weights(name).read_bytes())
        policy.guidance = guidance
        for task in TASKS:
            spec = task_named(task)
            for seed in seeds:
                controller = ChunkController(policy)

                def act(reading: Any, spec=spec, controller=controller) -> np.ndarray:
                    return controller.propose(reading, spec.instruction)[0]

                yield play(_driver(), spec, seed, act, held_out=held_out, record_as=record_as)

    # ---- online iterations -----------------------------------------------------------------------

    def iterate(self, run: str, iteration: int) -> dict[str, Any]:
        """Act for one iteration, judge what came of it with the frozen value function, and learn.

        Iteration 0 only makes what the run starts from.
        """
        start, guidance = RUNS[run]
        if iteration == 0:
            return self._begin(run, start)
        acted = f"{run}-{iteration - 1}"
        batch = f"{run}-episodes-{iteration}"
        if not (self.folder / batch).exists():
            first = self._training_seed(10 + iteration)
            seeds = range(first, first + self.sizes.online)
            acting = None if self._plain(run, iteration - 1) else guidance
            write_played(self.folder / batch, self._acted(acted, acting, seeds, record_as=batch))
        batches = [f"{run}-episodes-{number}" for number in range(1, iteration + 1)]
        return self._learn(run, iteration, batches)

    def _plain(self, run: str, iteration: int) -> bool:
        return run == "from_base_plain" and iteration == 0

    def _begin(self, run: str, start: str) -> dict[str, Any]:
        if start == "recap" or run == "from_base_plain":
            source = "recap" if start == "recap" else "bc_all"
            _put(self.weights(f"{run}-0"), self.weights(source).read_bytes())
            if start == "recap":
                checkpoint = (self.folder / "recap.checkpoint").read_bytes()
                _put(self.folder / f"{run}-0.checkpoint", checkpoint)
            return {"started": source}
        # The indicator is introduced: dropout fine-tuning of the base on the offline buffer.
        return {"started": "bc_all", **self._tune("bc_all", f"{run}-0", [], self.sizes.updates)}

    def _tune(self, source: str, name: str, batches: list[str], updates: int) -> dict[str, Any]:
        from learning.core.policies.base import load_policy
        from learning.experiments.recap_arms import learner_for, trainer_for

        data = self.data(batches, positive=0.4 if batches else 0.3)
        policy = load_policy(self.weights(source).read_bytes())
        trainer = trainer_for(learner_for("recap", policy, data), data, seed=self.seed)
        return self._run(trainer, name, updates)

    def _learn(self, run: str, iteration: int, batches: list[str]) -> dict[str, Any]:
        name, before = f"{run}-{iteration}", f"{run}-{iteration - 1}"
        updates = self.sizes.updates
        if self._plain(run, iteration - 1):
            # As many updates in all as the run whose indicator was introduced first.
            return self._tune(before, name, batches, 2 * updates)
        from learning.core.policies.base import load_policy
        from learning.experiments.recap_arms import learner_for, trainer_for

        data = self.data(batches, positive=0.4)
        policy = load_policy(self.weights(before).read_bytes())
        trainer = trainer_for(learner_for("recap", policy, data), data, seed=self.seed)
        # Optimiser, average, draws and the sampler's losses go on from where they stood.
        trainer.restore((self.folder / f"{before}.checkpoint").read_bytes())
        return self._run(trainer, name, updates)

    def clone_final(self, arm: str) -> dict[str, Any]:
        """Train filtered behaviour cloning on all the positive run had, as often as it learned."""
        from learning.experiments.recap_arms import fresh_policy, learner_for, trainer_for

        last = self.sizes.iterations
        batches = [f"positive-episodes-{number}" for number in range(1, last + 1)]
        data = self.data(batches, positive=0.4)
        learner = learner_for(arm, fresh_policy(data, seed=self.seed), data)
        trainer = trainer_for(learner, data, seed=self.seed)
        return self._run(trainer, f"final_{arm}", self.sizes.updates * (last + 1))


@cache
def _config() -> Any:
    from fleet.protocol.simulation import robot_spec
    from learning.experiments.training import policy_config

    return policy_config(robot_spec("state"))


def _opener(folders: Sequence[Path]) -> Callable[[str], Any]:
    from fleet.protocol.episode import open_part

    paths = {path.stem: path for folder in folders for path in folder.glob("*.arrow")}
    return lambda sha256: open_part(str(paths[sha256]))


def _put(path: Path, data: bytes) -> None:
    """Write a file, complete or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)
