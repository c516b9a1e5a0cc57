"""Arms that differ in one setting: their runs, their table, their plot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from learning.experiments.figures import Line, plot_arms
from learning.experiments.virtual.command import Laboratory
from learning.experiments.virtual.runs import Run
from learning.experiments.virtual.summary import (
    TARGET,
    Curve,
    Estimate,
    Row,
    curve_of,
    success,
    time_to,
)


@dataclass(frozen=True, slots=True)
class Arm:
    """The runs of one arm, all of its seeds."""

    name: str
    runs: Sequence[Mapping[str, Any]]
    curve: Curve | None

    @property
    def finals(self) -> list[Sequence[Row]]:
        """Rollouts of each seed's result on the final layouts."""
        return [run["final"] for run in self.runs]

    def mean_of(self, key: str) -> float:
        """Return a tally at the end, mean over seeds."""
        return sum(run["tallies"][-1][key] for run in self.runs) / len(self.runs)


def perform_arms(
    laboratory: Laboratory,
    arms: Mapping[str, Run],
    *,
    seeds: int,
    starts: Mapping[str, Sequence[Row]],
    bandwidths_s: Mapping[str, float],
) -> dict[str, Arm]:
    """Perform every arm with seeds 0, 1, …

    Args:
        laboratory: Where.
        arms: A run by arm's name; its seed is replaced.
        seeds: How many.
        starts: By arm: rollouts of its base on the curves' layouts.
        bandwidths_s: By arm: of the smoothing of its curve.
    """
    named = {
        name: {f"{name}-seed-{seed}": replace(run, seed=seed) for seed in range(seeds)}
        for name, run in arms.items()
    }
    figures = laboratory.perform({k: v for runs in named.values() for k, v in runs.items()})
    done = {}
    for name, runs in named.items():
        own = [figures[key] for key in runs]
        curve = None
        if arms[name].points:
            points = [run["points"] for run in own]
            curve = curve_of(starts[name], points, bandwidth_s=bandwidths_s[name])
        done[name] = Arm(name, own, curve)
    return done


def minutes(estimate: Estimate) -> Estimate:
    """Return seconds as minutes."""
    return Estimate(estimate.value / 60, estimate.low / 60, estimate.high / 60)


def arms_table(arms: Mapping[str, Arm]) -> str:
    """Return success, time to the target and what it cost, as Markdown."""
    lines = [
        f"| arm | success at the end | minutes to {TARGET:g} | mean over the curve | episodes | "
        "robot min | human min | updates | online share |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for arm in arms.values():
        when = str(minutes(time_to(arm.curve))) if arm.curve else ""
        area = f"{sum(arm.curve.rates) / len(arm.curve.rates):.3f}" if arm.curve else ""
        lines.append(
            f"| {arm.name} | {success(arm.finals)} | {when} | {area} | "
            f"{arm.mean_of('episodes'):.0f} | {arm.mean_of('robot_s') / 60:.1f} | "
            f"{arm.mean_of('human_s') / 60:.1f} | {arm.mean_of('steps'):.0f} | "
            f"{arm.mean_of('omega'):.2f} |"
        )
    return "\n".join(lines) + "\n"


def plot(laboratory: Laboratory, arms: Mapping[str, Arm], title: str) -> None:
    """Draw every arm's curve, with the range of its seeds, and its end."""
    lines, bars = {}, {}
    for name, arm in arms.items():
        end = success(arm.finals)
        bars[name] = (end.value, end.low, end.high)
        if arm.curve:
            seeds = list(zip(*arm.curve.seeds, strict=True))
            lines[name] = Line(
                [t_s / 60 for t_s in arm.curve.times_s],
                arm.curve.rates,
                [min(at) for at in seeds],
                [max(at) for at in seeds],
            )
    plot_arms(laboratory.folder / "plot.png", lines=lines, bars=bars, title=title, target=TARGET)
