"""Does RECAP pay on data of mixed skill? `make experiment NAME=recap`, ends in one line of JSON.

Scripts whose skill changes within an episode fill an offline buffer. On it, with the same data,
network and number of updates: behaviour cloning of all, of successes, of the fastest quarter, of
the steps whose indicator is positive, advantage-weighted regression, and RECAP acting
unconditioned, told "positive" (β = 1) and guided beyond (β = 1.5). Then RECAP goes on alone:
iterations of acting, judging by the task's own signal, and learning, with no takeover; once acting
as told, once unconditioned. And from a base that never saw an indicator, with and without a step
that introduces it on the offline buffer.

State policy, five tasks, the driver's own clock (no real time passes): robots do not slow each
other, so ticks are exact. Layouts of the final figures are used for nothing else; those for tuning
(`--tuning`) are others.

    make experiment NAME=recap ARGS="--seeds 3"
    make experiment NAME=recap ARGS="--seeds 1 --quick"

Stages are kept in var/experiments/recap-<time>/; the same command goes on where an interrupted one
stopped. Outputs beside them: result.json, table.md, plot.png.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fleet.protocol.simulation import HELD_OUT_FROM, task_named
from learning.experiments.analysis import last_line
from learning.experiments.mixed_skill import MixedSkill, Played, play, read_played, write_played
from learning.experiments.recap_report import RESET_S, plot, result_of, table
from learning.experiments.stages import Stages, open_experiment, write_json

TASKS = ("bin-picking", "drawer-open", "box-close", "peg-insert-side", "hammer")
# Training layouts of this study; its held-out ones, for the final figures and for tuning.
TRAINING_SEEDS_FROM = 2**28
FINAL_SEEDS_FROM = HELD_OUT_FROM + 20_000
TUNING_SEEDS_FROM = HELD_OUT_FROM + 10_000
# Skill changes every 15 to 44 ticks: an advantage that looks further mixes skills.
HORIZON = 20
OFFLINE = ("bc_all", "bc_success", "bc_fastest", "bc_positive", "awr")
# Name of a figure → arm it is trained as, and the guidance it acts with (None: it has none).
CELLS: dict[str, tuple[str, float | None]] = {
    **{arm: (arm, None) for arm in OFFLINE},
    "recap_unconditioned": ("recap", 0.0),
    "recap_positive": ("recap", 1.0),
    "recap_guided": ("recap", 1.5),
}
# Online runs: where each starts, and the guidance it acts with.
RUNS: dict[str, tuple[str, float]] = {
    "positive": ("recap", 1.0),
    "unconditioned": ("recap", 0.0),
    "from_base_introduced": ("base", 1.0),
    "from_base_plain": ("base", 1.0),
}
# Filtered behaviour cloning of everything the positive run had at its end.
FINAL_CLONES = ("bc_fastest", "bc_positive")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything; runs of equal sizes resume each other."""

    seeds: int = 3
    # Episodes a task in the offline buffer, and in each online iteration.
    offline: int = 50
    online: int = 30
    iterations: int = 2
    updates: int = 2000
    value_steps: int = 1000
    # Held-out layouts a task in each figure.
    trials: int = 25
    # Layouts for tuning in place of the final ones.
    tuning: bool = False


QUICK = Sizes(seeds=1, offline=8, online=4, iterations=1, updates=100, value_steps=60, trials=3)


def say(text: str) -> None:
    """Tell what happens; the last line of standard output is the result alone."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


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

    def offline(self) -> dict[str, Any]:
        """Record the offline buffer, and a few episodes that only the action gap looks at."""
        for name, batch, count in (("offline", 0, self.sizes.offline), ("held_out", 1, 2)):
            folder = self.folder / name
            if not folder.exists():
                write_played(folder, self._scripted(batch, count))
        outcomes = [manifest.outcome for manifest, _ in read_played(self.folder / "offline")]
        steps = [manifest.steps for manifest, _ in read_played(self.folder / "offline")]
        return {
            "episodes": len(outcomes),
            "success": outcomes.count("success") / len(outcomes),
            "steps": int(sum(steps)),
        }

    def _scripted(self, batch: int, count: int) -> Iterable[Played]:
        for task in TASKS:
            for number in range(count):
                seed = self._training_seed(batch) + number
                generator = np.random.default_rng([seed, TASKS.index(task)])
                script = MixedSkill(task, generator)
                yield play(_driver(), task_named(task), seed, script, record_as=f"script-{batch}")

    def judge(self) -> dict[str, Any]:
        """Fit the value function to the offline buffer, cross-fitted by episode; keep values."""
        from safetensors.numpy import save

        from learning.core.value import save_value
        from learning.core.value_training import FitConfig, fit_value

        data = self._unjudged("offline")
        fit = fit_value(
            [record for record, _ in data],
            _opener(self.folder / "offline"),
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

        online = name not in ("offline", "held_out")
        found = []
        for number, (manifest, part) in enumerate(read_played(self.folder / name), 1):
            record = record_from(manifest, [part], closed_seq=number)
            found.append((replace(record, online=online), self.folder / name))
        return found

    def data(self, online: Sequence[str] = (), *, positive: float = 0.3) -> Any:
        """Return the judged offline buffer with online batches, thresholds over all of it.

        Args:
            online: Names of batches, as they were recorded.
            positive: Share of each task's steps that the threshold leaves.
        """
        from safetensors.numpy import load_file, save

        from learning.core.advantages import Shares
        from learning.core.annotate import annotate, epsilons_of, values_of
        from learning.core.value import load_value
        from learning.experiments.recap_arms import Data, Judged

        found = []
        for name in ("offline", *online):
            path = self.folder / f"values-{name}.safetensors"
            if not path.exists():
                value = load_value((self.folder / "value.safetensors").read_bytes())
                opener = _opener(self.folder / name)
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
            for manifest, part in read_played(self.folder / "held_out")
            for row in range(0, manifest.steps, 10)
        ]

    # ---- training ------------------------------------------------------------------------------

    def weights(self, name: str) -> Path:
        """Return where the artifact of an arm lies."""
        return self.folder / f"{name}.safetensors"

    def train(self, arm: str, *, twice: bool = False) -> dict[str, Any]:
        """Train one arm on the offline buffer from scratch."""
        from learning.experiments.recap_arms import fresh_policy, learner_for, trainer_for

        data = self.data()
        learner = learner_for(arm, fresh_policy(data, seed=self.seed), data)
        trainer = trainer_for(learner, data, seed=self.seed)
        return self._run(trainer, arm, self.sizes.updates * (2 if twice else 1))

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


def _opener(folder: Path) -> Callable[[str], Any]:
    from fleet.protocol.episode import open_part

    return lambda sha256: open_part(str(folder / f"{sha256}.arrow"))


def _put(path: Path, data: bytes) -> None:
    """Write a file, complete or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)


# A job: folder, sizes, seed, what to call, its arguments.
Job = tuple[Path, Sizes, int, str, tuple[Any, ...]]


def _work(job: Job) -> tuple[int, str, Any]:
    import torch

    from learning.core.allocation import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
    folder, sizes, seed, method, arguments = job
    study = Study(folder, sizes, seed)
    name = "-".join([method, *map(str, arguments)])
    return seed, name, study.stages.once(name, lambda: getattr(study, method)(*arguments))


def evaluated(run: str, iteration: int) -> tuple[str, float | None]:
    """Return the weights and the guidance that a run is evaluated with after an iteration.

    What a run starts from may be an arm that is evaluated already.
    """
    start, guidance = RUNS[run]
    if iteration == 0 and start == "recap":
        return "recap", guidance
    if iteration == 0 and run == "from_base_plain":
        return "bc_all", None
    return f"{run}-{iteration}", guidance


def figures(iterations: int) -> dict[str, tuple[str, float | None]]:
    """Return every figure of the study: its name, the weights it is of, and their guidance."""
    online = {
        f"{run}_{iteration}": evaluated(run, iteration)
        for run in RUNS
        for iteration in range(iterations + 1)
    }
    final: dict[str, tuple[str, float | None]] = {
        f"final_{arm}": (f"final_{arm}", None) for arm in FINAL_CLONES
    }
    return {**CELLS, **online, "positive_guided": (f"positive-{iterations}", 1.5), **final}


def phases(sizes: Sizes) -> Iterable[list[tuple[str, tuple[Any, ...]]]]:
    """Yield what can be done side by side once everything before it is done."""
    wanted = list(dict.fromkeys(figures(sizes.iterations).values()))

    def evaluations(*names: str) -> list[tuple[str, tuple[Any, ...]]]:
        return [("evaluate", cell) for cell in wanted if cell[0] in names]

    yield [("offline", ())]
    yield [("judge", ())]
    yield [("train", (arm,)) for arm in (*OFFLINE, "recap")]
    yield evaluations(*OFFLINE, "recap")
    for iteration in range(sizes.iterations + 1):
        yield [("iterate", (run, iteration)) for run in RUNS]
        yield evaluations(*(f"{run}-{iteration}" for run in RUNS))
    yield [("clone_final", (arm,)) for arm in FINAL_CLONES]
    yield evaluations(*(f"final_{arm}" for arm in FINAL_CLONES))


def conduct(folder: Path, sizes: Sizes, *, processes: int) -> dict[int, dict[str, Any]]:
    """Run every stage that is not there yet; return all of them, by seed and name."""
    found: dict[int, dict[str, Any]] = {seed: {} for seed in range(sizes.seeds)}
    # Spawned, so that no torch thread is inherited.
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes) as pool:
        for phase in phases(sizes):
            jobs = [
                (folder, sizes, seed, method, arguments)
                for method, arguments in phase
                for seed in range(sizes.seeds)
            ]
            for seed, name, value in pool.imap_unordered(_work, jobs):
                say(f"seed {seed}: {name}")
                found[seed][name] = value
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--quick", action="store_true", help="a check that it runs, no evidence")
    parser.add_argument("--trials", type=int, help="held-out layouts a task in each figure")
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--tuning", action="store_true", help="on the layouts for tuning")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--fresh", action="store_true", help="do not resume")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "var/experiments")))
    arguments = parser.parse_args()
    asked = {
        name: getattr(arguments, name)
        for name in ("seeds", "trials", "iterations")
        if getattr(arguments, name) is not None
    }
    sizes = replace(QUICK if arguments.quick else Sizes(), tuning=arguments.tuning, **asked)
    folder = open_experiment(arguments.out, "recap", asdict(sizes), fresh=arguments.fresh)
    say(f"working in {folder}")
    stages = conduct(folder, sizes, processes=arguments.processes)
    result = result_of(stages, figures(sizes.iterations), iterations=sizes.iterations)
    (folder / "table.md").write_text(table(result))
    plot(folder / "plot.png", result)
    write_json(folder / "result.json", {"reset_s": RESET_S, **result})
    print(table(result), file=sys.stderr)
    print(last_line(result["line"]))


if __name__ == "__main__":
    main()
