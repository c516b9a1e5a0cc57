"""SOP + HG-DAgger several times with one thing different, compared with one of them.

What `sampler` and `hg_dagger` have in common: everything but what they vary.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from learning.experiments.virtual.command import Laboratory, Outcome, rates_table
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

    def run(self, base: str, shown: str) -> Run:
        """Return a run of this size from a base policy and its demonstrations."""
        return Run(
            base=base,
            demonstrations=shown,
            robots=self.robots,
            operators=self.operators,
            minutes=self.minutes,
            rates=self.rates,
            points=self.points,
            point_trials=self.point_trials,
            trials=self.trials,
        )


QUICK = Size(seeds=1, minutes=1.0, points=2, point_trials=2, trials=3)


def compare(
    laboratory: Laboratory,
    size: Size,
    variants: Mapping[str, Mapping[str, Any]],
    *,
    name: str,
    reference: str,
) -> Outcome:
    """Perform every variant and compare it with `reference`.

    Args:
        laboratory: Where.
        size: How much.
        variants: By name: the fields of `Run` that it has different.
        name: Of the experiment, for the plot.
        reference: The variant that the others are compared with, on the same layouts.
    """
    base, shown = laboratory.base()
    start = laboratory.evaluate("pretrained", base, curve=size.point_trials, trials=size.trials)
    run = size.run(base, shown)
    arms = perform_arms(
        laboratory,
        {variant: replace(run, **changes) for variant, changes in variants.items()},
        seeds=size.seeds,
        starts=dict.fromkeys(variants, start["curve"]),
        bandwidths_s=dict.fromkeys(variants, 60 * size.minutes / size.points),
    )
    plot(laboratory, arms, f"{name}, state policy, virtual clock")
    keys = {variant: success(arm.finals) for variant, arm in arms.items()}
    for variant, arm in arms.items():
        assert arm.curve is not None
        keys[f"minutes_{variant}"] = minutes(time_to(arm.curve))
    text = f"Against {reference}, on the same layouts:\n\n"
    for variant, arm in arms.items():
        if variant != reference:
            pairs = paired(arms[reference].finals, arm.finals)
            text += f"- {variant}: {difference_text(pairs)}\n"
    details = {"tallies": {n: [run["tallies"][-1] for run in a.runs] for n, a in arms.items()}}
    return Outcome(
        as_result(keys), arms_table(arms), text + "\n" + rates_table(size.rates), details
    )
