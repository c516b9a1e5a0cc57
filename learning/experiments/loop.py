"""The closed loop on a real clock: `make experiment NAME=loop`, ends in one line of JSON.

A fleet of simulated robots acts with one policy, scripted operators take over and drive, and the
running system (its own sockets, uploads, rounds and versions) learns from it for MINUTES of wall
clock. Then, off the clock and on layouts used for nothing else: how good are the base, the final
version, versions on the way, and a control that took as many updates without online data?

Options, from the environment:
    POLICY=image|state  MINUTES=20  SEED=0  ROBOTS=4  OPERATORS=2
    TRIALS=20 a task in the final figures
    FRESH=1 starts anew instead of resuming an unfinished experiment of equal settings
    OUT=DIR where experiments lie (var/experiments)

Stages are kept, so an interrupted experiment goes on where it was; only the online phase, which
is on the clock, starts over. Outputs beside the stages: result.json, curve.json, plot.png and
table.md.
The operators are scripted and privileged (`fleet/agent/teleop/gate.py`): their minutes are the
minutes robots were driven, not an estimate of a person's effort.
"""

import dataclasses
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from fleet.protocol.simulation import FINAL_SEEDS, TASKS
from learning.core.statistics import Score, pooled
from learning.experiments.analysis import Sample, loop_result, markdown_table
from learning.experiments.console import run_in_folder, say
from learning.experiments.control import train_control
from learning.experiments.figures import plot_loop
from learning.experiments.preparation import prepare_system
from learning.experiments.rollouts import Wording, evaluate
from learning.experiments.settings import BadSettings, Settings, read_settings
from learning.experiments.stages import Stages, write_json
from learning.experiments.system import System, running_system

SAMPLE_EVERY_S = 30.0
# Versions on the way that are evaluated too: share of the online phase, trials a task.
CURVE_AT = (0.25, 0.5, 0.75)
CURVE_TRIALS = 10
# The questions about words need fewer trials: the differences are large.
WORDS_TRIALS = 10


class Loop:
    """One experiment in its folder."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.stages = Stages(folder)

    # ---- on the clock --------------------------------------------------------------------------

    def online(self) -> dict[str, Any]:
        """Run the fleet for the online phase; keep what was sampled and the versions' weights."""
        var = self.folder / "system"
        if var.exists():
            # A fleet that was interrupted has learned something: it cannot be the base again.
            shutil.rmtree(var)
        s = self.settings
        say("preparing demonstrations, base policy and database")
        arguments = prepare_system(
            var,
            kept=self.folder.parent / "kept",
            robots=s.robots,
            operators=s.operators,
            policy=s.policy,
            seed=s.seed,
        )
        say(f"starting {s.robots} robots and {s.operators} operators in {var}")
        with running_system(
            var, robots=s.robots, operators=s.operators, arguments=arguments
        ) as system:
            say(f"live after {system.ready_s:.1f} s at {system.url}")
            samples = self._sample_until_the_end(system)
            return self._keep(system, samples)

    def _sample_until_the_end(self, system: System) -> list[Sample]:
        samples = []
        ends_s = system.started_s + 60 * self.settings.minutes
        while True:
            now_s = time.time()
            sample = system.ledger.sample(system.started_s, now_s)
            samples.append(sample)
            say(progress_line(sample))
            write_json(self.folder / "samples.json", [dataclasses.asdict(x) for x in samples])
            if now_s >= ends_s:
                return samples
            time.sleep(min(SAMPLE_EVERY_S, max(0.05, ends_s - time.time())))

    def _keep(self, system: System, samples: list[Sample]) -> dict[str, Any]:
        """Store the weights that will be evaluated, and what the ledger says of the phase."""
        ledger = system.ledger
        started_s, ends_s = system.started_s, time.time()
        versions = [v for v in ledger.versions() if v.created_s <= ends_s]
        if not versions:
            raise RuntimeError(f"no version was ever published: see {system.var}/logs")
        chosen = {"base": versions[0], "final": versions[-1]}
        for share in CURVE_AT:
            until_s = started_s + share * 60 * self.settings.minutes
            before = [v for v in versions if v.created_s <= until_s]
            chosen[f"at_{round(100 * share)}"] = (before or versions)[-1]
        weights = self.folder / "weights"
        weights.mkdir(exist_ok=True)
        for name, version in chosen.items():
            (weights / f"{name}.safetensors").write_bytes(system.weights(version.sha256))
        algorithm, config = ledger.learner()
        return {
            "samples": [dataclasses.asdict(x) for x in samples],
            "versions": {
                name: {
                    "number": version.number,
                    "step": version.step,
                    "sha256": version.sha256,
                    "minute": max(0.0, (version.created_s - started_s) / 60),
                }
                for name, version in chosen.items()
            },
            "published": len(versions),
            "algorithm": algorithm,
            "config": config,
            "minutes": (ends_s - started_s) / 60,
            "mixed_version_episodes": ledger.mixed_version_episodes(),
            "partial_episodes": ledger.partial_episodes(),
            "outcomes": ledger.outcomes(started_s),
            "link": ledger.link_quality(started_s),
        }

    # ---- off the clock -------------------------------------------------------------------------

    def evaluated(self, name: str, *, trials: int, wording: Wording = "own") -> dict[str, Score]:
        """Return success by task of a kept version on the fixed held-out layouts, as a stage."""
        stage = f"eval_{name}_{wording}_{trials}"

        def compute() -> dict[str, list[int]]:
            say(f"evaluating {name} ({wording} words), {trials} trials a task")
            rollouts = evaluate(
                (self.folder / "weights" / f"{name}.safetensors").read_bytes(),
                tasks=[task.name for task in TASKS],
                seeds=FINAL_SEEDS[:trials],
                processes=min(2, os.cpu_count() or 1),
                wording=wording,
            )
            scores: dict[str, list[int]] = {}
            for rollout in rollouts:
                won, tried = scores.get(rollout.task, (0, 0))
                scores[rollout.task] = [won + rollout.success, tried + 1]
            return scores

        scores = self.stages.once(stage, compute)
        result = {task: Score(won, tried) for task, (won, tried) in scores.items()}
        low, high = pooled(result).interval
        say(f"{name} ({wording}): {pooled(result).rate:.3f} ({low:.3f} to {high:.3f})")
        return result

    def control(self, online: dict[str, Any]) -> dict[str, Any]:
        """Train the control arm for as many updates as the final version had."""
        updates = online["versions"]["final"]["step"] - online["versions"]["base"]["step"]
        say(f"training the control for {updates} updates on demonstrations only")
        config = online["config"]
        artifact = train_control(
            (self.folder / "weights" / "base.safetensors").read_bytes(),
            self.folder / "system" / "demonstrations",
            updates=updates,
            algorithm=online["algorithm"],
            learner=config.get("learner"),
            batch_size=config.get("batch_size", 60),
            seed=self.settings.seed,
        )
        (self.folder / "weights" / "control.safetensors").write_bytes(artifact)
        return {"updates": updates}

    # ---- the whole -----------------------------------------------------------------------------

    def run(self) -> dict[str, object]:
        """Run what is not done yet and write the outputs; returns the result."""
        trials = self.settings.trials
        online = self.stages.once("online", self.online)
        samples = [Sample(**values) for values in online["samples"]]
        final = self.evaluated("final", trials=trials)
        base = self.evaluated("base", trials=trials)
        self.stages.once("control", lambda: self.control(online))
        control = self.evaluated("control", trials=trials)
        few = min(CURVE_TRIALS, trials)
        curve = [(0.0, base)]
        for share in CURVE_AT:
            name = f"at_{round(100 * share)}"
            scores = self.evaluated(name, trials=few)
            curve.append((online["versions"][name]["minute"], scores))
        curve.append((online["versions"]["final"]["minute"], final))
        words = min(WORDS_TRIALS, trials)
        arms = {
            "base": base,
            "control": control,
            "final": final,
            "final, held-out words": self.evaluated("final", trials=words, wording="held_out"),
            "final, wrong words": self.evaluated("final", trials=words, wording="wrong"),
        }
        result = loop_result(
            clock=self.settings.clock,
            policy=self.settings.policy,
            base=base,
            control=control,
            final=final,
            minutes=online["minutes"],
            last=samples[-1],
            mixed_version_episodes=online["mixed_version_episodes"],
        )
        self._write(online, samples, curve, arms, control, result)
        return result

    def _write(
        self,
        online: dict[str, Any],
        samples: list[Sample],
        curve: list[tuple[float, dict[str, Score]]],
        arms: dict[str, dict[str, Score]],
        control: dict[str, Score],
        result: dict[str, object],
    ) -> None:
        write_json(
            self.folder / "curve.json",
            {
                # What is not known yet is null: NaN is not JSON.
                "samples": [
                    {name: value if value == value else None for name, value in sample.items()}
                    for sample in online["samples"]
                ],
                "evaluations": [
                    {"minute": minute, "tasks": {t: dataclasses.asdict(s) for t, s in at.items()}}
                    for minute, at in curve
                ],
            },
        )
        (self.folder / "table.md").write_text(markdown_table(arms))
        plot_loop(
            self.folder / "plot.png",
            samples=samples,
            evaluations=curve,
            control=control,
            title=f"loop, {self.settings.policy} policy, seed {self.settings.seed}: "
            f"{self.settings.robots} robots, {self.settings.operators} scripted operators",
        )
        kept = ("versions", "published", "config", "partial_episodes", "outcomes", "link")
        write_json(
            self.folder / "result.json",
            {
                "result": result,
                "settings": dataclasses.asdict(self.settings),
                "arms": {
                    arm: {t: dataclasses.asdict(s) for t, s in scores.items()}
                    for arm, scores in arms.items()
                },
                **{name: online[name] for name in kept},
            },
        )


def progress_line(sample: Sample) -> str:
    """Return one sample as a line for people."""
    return (
        f"{sample.minute:5.1f} min  step {sample.step} ({sample.updates_per_s:.1f}/s)  "
        f"version {sample.version}  episodes {sample.episodes}  corrections {sample.corrections}  "
        f"human {sample.human_minutes:.1f} min  online share {sample.omega:.2f}  "
        f"held out {sample.eval_successes}/{sample.eval_trials}"
    )


def main() -> int:
    """Run the experiment; returns the exit status."""
    try:
        settings = read_settings(os.environ)
    except BadSettings as error:
        print(error, file=sys.stderr)
        return 2
    return run_in_folder(
        "loop",
        dataclasses.asdict(settings),
        lambda folder: Loop(settings, folder).run(),
        report="table.md",
    )


if __name__ == "__main__":
    raise SystemExit(main())
