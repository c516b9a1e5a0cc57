"""One run on the virtual clock from its description to its figures; computed once, kept as a stage.

A run is a value (`Run`): the same value gives the same figures. Runs are independent, so several
processes share them out; an interrupted experiment computes only those that are missing.
"""

import dataclasses
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.protocol.episode import sha256_of
from fleet.protocol.simulation import CURVE_SEEDS, TASKS
from learning.experiments.stages import Stages
from learning.experiments.virtual.machine import this_machine
from learning.experiments.virtual.rates import DEFAULT_RATES, Rates

# In memory where there is such a folder: what robots sync to disk must not cost a run its time.
SCRATCH = Path("/dev/shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run is made of."""

    # Artifact and demonstrations to start from.
    base: str
    demonstrations: str
    # Judged episodes from before, for learners that value steps; see `gather`.
    experience: str = ""
    # Gradient steps of each fit of what values them.
    value_steps: int = 1000
    # Fits of what values steps while robots act, evenly spaced at points; offline, every round
    # begins with one.
    value_refits: int = 0
    algorithm: str = "hg_dagger"
    # The learner's; those of a fresh installation but for the longer mean of the weights, which
    # suits the smaller network.
    options: Mapping[str, Any] = field(
        default_factory=lambda: {"ema_decay": 0.99, "autonomous_successes": True}
    )
    # As `learning.core.sampler.build_sampler` takes it; that of a fresh installation.
    sampler: Mapping[str, Any] = field(
        default_factory=lambda: {"kind": "adaptive", "alpha": 2.0, "normalise": True}
    )
    batch_size: int = 120
    # None at all: updates on the demonstrations alone, the control.
    robots: int = 4
    operators: int = 2
    minutes: float = 10.0
    # Minutes operators may hold robots, all together; None is without a limit.
    human_minutes: float | None = None
    # 0 learns while robots act (SOP). Otherwise: this many times robots act with one policy, then
    # the learner takes its share of the same number of updates, then all robots get the result.
    rounds: int = 0
    rates: Rates = DEFAULT_RATES
    # One episode in this many is held out, as on the running system; 0 is none.
    evaluate_every: int = 0
    seed: int = 0
    # Versions to evaluate on the way, evenly spaced in time, and layouts a task for each.
    points: int = 0
    point_trials: int = 10
    # Held-out layouts a task for the version that is the result, which is the one of this point:
    # by default the last. Offline, rounds are the points.
    trials: int = 40
    judged: int = -1
    # How many times their limit those of its rollouts that failed are given in another try.
    patience: int = 1

    @property
    def updates(self) -> int:
        """Gradient steps of the whole run."""
        return round(self.minutes * 60 * self.rates.updates_per_s)


def perform(run: Run) -> dict[str, Any]:
    """Perform a run in this process and return its figures, as JSON has them.

    Returns:
        `tallies`: what had happened at each point and at the end; `points`: the evaluations on
        the way, [simulated seconds, step, rollouts]; `final` and `patient`: see `Machine.judge`;
        `wall_s` and `simulated_s`.
    """
    from learning.core.sampler import build_sampler
    from learning.experiments.virtual.fleet import VirtualFleet
    from learning.experiments.virtual.learner import PartStore, VirtualLearner

    machine = this_machine()
    base = Path(run.base).read_bytes()
    scratch = SCRATCH if SCRATCH.is_dir() else Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(dir=scratch, prefix="sop-run-") as folder:
        learner = VirtualLearner(
            base,
            Path(run.demonstrations),
            algorithm=run.algorithm,
            options=run.options,
            sampler=build_sampler(**run.sampler),
            batch_size=run.batch_size,
            seed=run.seed,
            store=PartStore(Path(folder) / "parts"),
            experience=Path(run.experience) if run.experience else None,
            value_steps=run.value_steps,
        )
        drivers = machine.drivers(max(1, run.robots))
        started = time.perf_counter()
        with VirtualFleet(
            drivers=drivers[: run.robots],
            tasks=TASKS,
            learner=learner,
            rates=run.rates,
            operators=run.operators,
            seed=run.seed,
            scratch=Path(folder),
            evaluate_every=run.evaluate_every,
        ) as fleet:
            fleet.announce_base(base, sha256_of(base))
            conduct = _rounds if run.rounds or not run.robots else _online
            tallies, artifacts = [], []
            for tally, artifact in conduct(run, fleet):
                tallies.append(tally)
                artifacts.append(artifact or base)
        run_s = time.perf_counter() - started
    points = [
        [tally["t_s"], tally["steps"], machine.evaluate(artifact, CURVE_SEEDS[: run.point_trials])]
        for tally, artifact in zip(tallies, artifacts, strict=True)
        if run.points
    ]
    return {
        "tallies": tallies,
        "points": points,
        "correlations": learner.correlations,
        **machine.judge(artifacts[run.judged], run.trials, run.patience),
        "simulated_s": tallies[-1]["t_s"],
        "run_wall_s": round(run_s, 2),
        "wall_s": round(time.perf_counter() - started, 2),
    }


def _online(run: Run, fleet: Any) -> Any:
    fleet.room.budget_s = None if run.human_minutes is None else 60 * run.human_minutes
    marks = max(1, run.points)
    refits = {round(marks * n / (run.value_refits + 1)) for n in range(1, run.value_refits + 1)}
    for mark in range(1, marks + 1):
        tally = fleet.run(60 * run.minutes / marks)
        if mark in refits:
            fleet.learner.value_again()
        if mark == marks:
            # Every update counts, also those since the last version was due.
            fleet.publish(broadcast_s=0.0)
        yield dataclasses.asdict(tally), fleet.version.artifact if fleet.version else None


def _rounds(run: Run, fleet: Any) -> Any:
    fleet.learning = False
    rounds = max(1, run.rounds)
    for number in range(1, rounds + 1):
        if run.human_minutes is not None:
            fleet.room.budget_s = 60 * run.human_minutes * number / rounds
            fleet.room.pause(paused=False)
        fleet.run(60 * run.minutes / rounds)
        if run.rounds:
            fleet.learner.value_again()
        fleet.train(round(run.updates * number / rounds) - fleet.learner.trainer.step_number)
        fleet.publish(broadcast_s=0.0)
        yield dataclasses.asdict(fleet.measure()), fleet.version.artifact if fleet.version else None


def gather(run: Run, folder: str) -> int:
    """Let robots act with the base alone and keep their episodes as demonstrations are kept.

    Returns how many there are. In a process of its own, like `evaluate_base`.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_gather, (run, folder))


def _gather(run: Run, folder: str) -> int:
    from learning.core.sampler import FixedMixture
    from learning.experiments.demonstrations import write_episode
    from learning.experiments.virtual.fleet import VirtualFleet
    from learning.experiments.virtual.learner import PartStore, VirtualLearner

    base = Path(run.base).read_bytes()
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sop-run-") as scratch:
        learner = VirtualLearner(
            base,
            Path(run.demonstrations),
            algorithm="hg_dagger",
            options={},
            sampler=FixedMixture(),
            batch_size=1,
            seed=run.seed,
            store=PartStore(Path(scratch) / "parts"),
        )
        with VirtualFleet(
            drivers=this_machine().drivers(run.robots),
            tasks=TASKS,
            learner=learner,
            rates=run.rates,
            operators=0,
            seed=run.seed,
            scratch=Path(scratch),
        ) as fleet:
            fleet.learning = False
            fleet.keep = lambda manifest, parts: write_episode(Path(folder), manifest, parts)
            fleet.announce_base(base, sha256_of(base))
            return fleet.run(60 * run.minutes).episodes


def _perform_named(job: tuple[str, Run]) -> tuple[str, dict[str, Any]]:
    name, run = job
    return name, perform(run)


def perform_all(
    stages: Stages,
    runs: Mapping[str, Run],
    *,
    processes: int,
    say: Callable[[str], None],
) -> dict[str, dict[str, Any]]:
    """Return the figures of every run by name, performing those that are not kept yet."""
    due = [(name, run) for name, run in runs.items() if not stages.done(name)]
    # The longest first: the last to begin decides when all are done.
    due.sort(key=lambda job: -job[1].minutes * job[1].robots)
    done = len(runs) - len(due)

    def keep(name: str, figures: dict[str, Any]) -> None:
        nonlocal done
        stages.once(name, lambda: figures)
        done += 1
        rate = figures["simulated_s"] / max(figures["run_wall_s"], 1e-9)
        won = sum(success for _, _, success, _ in figures["final"])
        say(
            f"{done}/{len(runs)} {name}: {won}/{len(figures['final'])}, "
            f"{figures['wall_s']:.0f} s, {rate:.1f} simulated seconds a second"
        )

    if processes == 1:
        for name, run in due:
            keep(name, perform(run))
    elif due:
        # Spawned, so that no torch thread and no simulation is inherited.
        with multiprocessing.get_context("spawn").Pool(min(processes, len(due))) as pool:
            for name, figures in pool.imap_unordered(_perform_named, due):
                keep(name, figures)
    return {name: stages.once(name, dict) for name in runs}
