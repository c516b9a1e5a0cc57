"""What a better start is worth, and what corrections are: `make experiment NAME=pretraining`.

Virtual clock. First, a base policy from 1/8, 1/2 and all of the demonstrations, each then trained
online with corrections for the same time. Second, from the middle one: the robot time that its
online runs took, spent on demonstrations of the same kind instead (same experts, same narrow slice
of layouts), with as many updates of the same learner. Options: see `virtual/command.py`.

Ends in one line of JSON: `online_gain` and `demonstration_gain`, the rise of success over the
middle base by corrections and by more demonstrations; and for each share success before
(`base_…`) and after (`online_…`). Each with its 95 % interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from fleet.protocol.episode import decode_manifest
from fleet.protocol.simulation import CONTROL_HZ, TASKS
from learning.experiments.virtual import variants
from learning.experiments.virtual.command import Laboratory, Outcome, rates_table, run_command
from learning.experiments.virtual.comparison import Arm, arms_table, perform_arms, plot
from learning.experiments.virtual.runs import Run
from learning.experiments.virtual.summary import (
    Estimate,
    Row,
    as_result,
    by_task,
    difference_text,
    paired,
    pooled,
    spread,
    success,
)

SHARES = {"eighth": Fraction(1, 8), "half": Fraction(1, 2), "full": Fraction(1)}
MIDDLE = "half"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size(variants.Size):
    """How much is done."""

    seeds: int = 3
    # All demonstrations of a task.
    demonstrations: int = 16
    minutes: float = 10.0
    points: int = 5
    trials: int = 40


QUICK = Size(seeds=1, demonstrations=16, minutes=1.0, points=1, point_trials=2, trials=4)


def seconds_of(demonstrations: Path) -> list[float]:
    """Return how long each demonstration of a folder took, in seconds of robot time."""
    manifests = sorted(demonstrations.glob("*/manifest.json"))
    return [decode_manifest(path.read_bytes()).steps / CONTROL_HZ for path in manifests]


def gain(base: Sequence[Row], after: Sequence[Sequence[Row]]) -> Estimate:
    """Return the rise of success over the base, by seed, with the seeds' interval."""
    before = pooled(by_task(base)).rate
    return spread([pooled(by_task(rows)).rate - before for rows in after])


def conduct(laboratory: Laboratory, size: Size) -> Outcome:
    """Perform both parts."""
    runs, bases = {}, {}
    for name, share in SHARES.items():
        artifact, shown = laboratory.base(per_task=int(size.demonstrations * share))
        bases[name] = laboratory.evaluate(
            f"base-{name}", artifact, curve=size.point_trials, trials=size.trials
        )
        runs[name] = size.run(artifact, shown)
    arms = perform_arms(
        laboratory,
        runs,
        seeds=size.seeds,
        starts={name: bases[name]["curve"] for name in runs},
        bandwidths_s=dict.fromkeys(runs, 0.0),
    )
    more, per_task, robot_minutes = _more(laboratory, size, runs[MIDDLE], arms[MIDDLE])
    arms |= perform_arms(
        laboratory,
        {"more demonstrations": more},
        seeds=size.seeds,
        starts={"more demonstrations": bases[MIDDLE]["curve"]},
        bandwidths_s={"more demonstrations": 0.0},
    )
    plot(laboratory, arms, "pretraining, state policy, virtual clock")
    before = bases[MIDDLE]["final"]
    extra = arms["more demonstrations"].finals
    keys = {"online_gain": gain(before, arms[MIDDLE].finals)}
    keys["demonstration_gain"] = gain(before, extra)
    for name in SHARES:
        keys[f"base_{name}"] = success([bases[name]["final"]])
        keys[f"online_{name}"] = success(arms[name].finals)
    text = "| demonstrations a task | base | after corrections |\n|---|---|---|\n"
    for name, share in SHARES.items():
        count = int(size.demonstrations * share)
        text += f"| {count} ({name}) | {keys[f'base_{name}']} | {keys[f'online_{name}']} |\n"
    notes = (
        f"From {int(size.demonstrations * SHARES[MIDDLE])} demonstrations a task, "
        f"{robot_minutes:.1f} robot minutes each way and as many updates:\n\n"
        f"- corrections: {keys['online_gain']}\n"
        f"- {per_task - int(size.demonstrations * SHARES[MIDDLE])} more demonstrations a task of "
        f"the same kind: {keys['demonstration_gain']}\n"
        "- corrections − demonstrations, on the same layouts: "
        f"{difference_text(paired(extra, arms[MIDDLE].finals))}\n\n"
    )
    details = {"tallies": {n: [run["tallies"][-1] for run in a.runs] for n, a in arms.items()}}
    notes += arms_table(arms) + "\n" + rates_table(size.rates)
    return Outcome(as_result(keys), text, notes, details)


def _more(laboratory: Laboratory, size: Size, middle: Run, arm: Arm) -> tuple[Run, int, float]:
    """Return the run with more demonstrations, how many a task it has, and its robot minutes."""
    robot_s = arm.mean_of("robot_s")
    lengths = seconds_of(Path(middle.demonstrations))
    extra = robot_s / (sum(lengths) / len(lengths)) / len(TASKS)
    per_task = int(size.demonstrations * SHARES[MIDDLE]) + max(1, round(extra))
    folder = laboratory.demonstrations(per_task=per_task)
    run = replace(middle, demonstrations=folder, robots=0, operators=0, points=1)
    return run, per_task, robot_s / 60


def main() -> int:
    """Run from the command line."""
    return run_command("pretraining", full=Size(), quick=QUICK, conduct=conduct)


if __name__ == "__main__":
    raise SystemExit(main())
