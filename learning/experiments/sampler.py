"""How a batch is mixed: `make experiment NAME=sampler`. Virtual clock.

SOP + HG-DAgger four times, with nothing different but the sampler: SOP's adaptive one with the
formula as printed, the same with losses normalised, a fixed half and half (RLPD), and every frame
as likely as every other. SOP never compared its sampler with anything. Options: see
`virtual/command.py`.

Ends in one line of JSON: success at the end by sampler, and `minutes_…` to a success of 0.8, each
with its 95 % interval.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from learning.experiments.virtual.command import Laboratory, Outcome, rates_table, run_command
from learning.experiments.virtual.comparison import arms_table, minutes, perform_arms, plot
from learning.experiments.virtual.rates import DEFAULT_RATES, Rates
from learning.experiments.virtual.runs import Run
from learning.experiments.virtual.summary import (
    as_result,
    difference_text,
    paired,
    success,
    time_to,
)

SAMPLERS: Mapping[str, Mapping[str, Any]] = {
    "adaptive": {"kind": "adaptive", "alpha": 2.0},
    "adaptive_normalised": {"kind": "adaptive", "alpha": 2.0, "normalise": True},
    "half": {"kind": "fixed", "share": 0.5},
    "frames": {"kind": "frames"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is done."""

    seeds: int = 5
    robots: int = 4
    operators: int = 2
    minutes: float = 8.0
    points: int = 12
    point_trials: int = 8
    trials: int = 20
    rates: Rates = DEFAULT_RATES


QUICK = Size(seeds=1, minutes=1.0, points=2, point_trials=2, trials=3)


def conduct(laboratory: Laboratory, size: Size) -> Outcome:
    """Perform the four arms and compare them."""
    base, shown = laboratory.base()
    start = laboratory.evaluate("pretrained", base, curve=size.point_trials, trials=size.trials)
    runs = {
        name: Run(
            base=base,
            demonstrations=shown,
            sampler=sampler,
            robots=size.robots,
            operators=size.operators,
            minutes=size.minutes,
            rates=size.rates,
            points=size.points,
            point_trials=size.point_trials,
            trials=size.trials,
        )
        for name, sampler in SAMPLERS.items()
    }
    spacing_s = 60 * size.minutes / size.points
    arms = perform_arms(
        laboratory,
        runs,
        seeds=size.seeds,
        starts=dict.fromkeys(runs, start["curve"]),
        bandwidths_s=dict.fromkeys(runs, spacing_s),
    )
    plot(laboratory, arms, "sampler, state policy, virtual clock")
    keys = {name: success(arm.finals) for name, arm in arms.items()}
    for name, arm in arms.items():
        assert arm.curve is not None
        keys[f"minutes_{name}"] = minutes(time_to(arm.curve))
    text = "Against half and half, on the same layouts:\n\n"
    half = arms["half"].finals
    for name, arm in arms.items():
        if name != "half":
            text += f"- {name}: {difference_text(paired(half, arm.finals))}\n"
    details = {"tallies": {n: [run["tallies"][-1] for run in a.runs] for n, a in arms.items()}}
    notes = text + "\n" + rates_table(size.rates)
    return Outcome(as_result(keys), arms_table(arms), notes, details)


def main() -> int:
    """Run from the command line."""
    return run_command("sampler", full=Size(), quick=QUICK, conduct=conduct)


if __name__ == "__main__":
    raise SystemExit(main())
