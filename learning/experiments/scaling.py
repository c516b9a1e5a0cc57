"""How learning speeds up with the fleet: `make experiment NAME=scaling`. Virtual clock.

SOP + HG-DAgger with N = 1, 2 and 4 robots (8 with `--set most=8`, half an hour more), once with an
operator for each robot and once with one operator in all, everything else equal; then N = 4 with
other things made faster, to see what holds it back. Time to a success of 0.8 comes from the mean
curve of all seeds, smoothed.
Options: see `virtual/command.py`.

Ends in one line of JSON: `speedup_N` = time of one robot / time of N with an operator each, and
`success_N` at the same simulated time, each with its 95 % interval.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from learning.experiments.virtual.command import Laboratory, Outcome, rates_table, run_command
from learning.experiments.virtual.comparison import Arm, arms_table, minutes, perform_arms, plot
from learning.experiments.virtual.rates import DEFAULT_RATES, Rates
from learning.experiments.virtual.runs import Run
from learning.experiments.virtual.summary import (
    TARGET,
    as_result,
    at_time,
    speedup,
    success,
    time_to,
)

SHARED = "one operator"
# Robots that wait for help for more of their time than this are short of operators.
MOST_WAITING = 0.15
# Up to this many times the episodes of one robot, a fleet is as good as its data.
MOST_EPISODES = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is done."""

    seeds: int = 5
    # The largest fleet.
    most: int = 4
    # Simulated minutes of each fleet: until well after it is expected at the target.
    minutes: Mapping[int, float] = field(default_factory=lambda: {1: 18.0, 2: 9.0, 4: 6.0, 8: 4.5})
    # Fleets are compared at this time, which is a point of every one of them.
    equal_minutes: float = 4.5
    points: int = 12
    point_trials: int = 6
    trials: int = 20
    rates: Rates = DEFAULT_RATES

    @property
    def fleets(self) -> list[int]:
        """Numbers of robots, rising."""
        return [robots for robots in sorted(self.minutes) if robots <= self.most]


QUICK = Size(
    seeds=2,
    minutes={1: 2.0, 2: 1.5, 4: 1.0},
    equal_minutes=1.0,
    points=4,
    point_trials=2,
    trials=2,
)


def point_at(run: Run, when: float) -> int:
    """Return the index of the point nearest to `when`, in minutes."""
    return min(range(run.points), key=lambda i: abs((i + 1) * run.minutes / run.points - when))


def runs_of(size: Size, base: str, shown: str) -> dict[str, Run]:
    """Return one run for each arm."""
    arms = {}
    for robots in size.fleets:
        length = size.minutes[robots]
        run = Run(
            base=base,
            demonstrations=shown,
            robots=robots,
            operators=robots,
            minutes=length,
            rates=size.rates,
            points=size.points,
            point_trials=size.point_trials,
            trials=size.trials,
        )
        run = replace(run, judged=point_at(run, size.equal_minutes))
        arms[f"N={robots}"] = run
        if robots > 1:
            # Slower: give it the time of a fleet half as large.
            longer = size.minutes[max(n for n in size.minutes if n < robots)]
            shared = replace(run, operators=1, minutes=longer)
            arms[f"N={robots}, {SHARED}"] = replace(
                shared, judged=point_at(shared, size.equal_minutes)
            )
    four = arms["N=4"]
    twice = replace(size.rates, updates_per_s=2 * size.rates.updates_per_s)
    at_once = replace(size.rates, publish_every_s=2.0, broadcast_s=0.1, upload_s=0.1)
    arms["N=4, updates ×2"] = replace(four, rates=twice)
    arms["N=4, no latency"] = replace(four, rates=at_once)
    return arms


def bound(arm: Arm, one: Arm) -> str:
    """Say which resource an arm ran out of on its way to the target, from what it used.

    Robots that waited for help ran out of operators. Otherwise, against one robot: as many
    episodes to the target means that data was all that was missing; more, that the learner had not
    yet learned what was there.
    """
    if math.isnan(_used(arm, "t_s")) or math.isnan(_used(one, "t_s")):
        return "the target was not reached"
    if _used(arm, "unmet_s") > MOST_WAITING * _used(arm, "robot_s"):
        return "operators"
    return "data" if _used(arm, "episodes") < MOST_EPISODES * _used(one, "episodes") else "learner"


def _used(arm: Arm, key: str) -> float:
    """Return a tally at the moment the arm's mean curve reached the target."""
    assert arm.curve is not None
    return at_time([run["tallies"] for run in arm.runs], arm.curve.reached_s(), key)


def conduct(laboratory: Laboratory, size: Size) -> Outcome:
    """Perform every fleet and compare them."""
    base, shown = laboratory.base()
    start = laboratory.evaluate("pretrained", base, curve=size.point_trials, trials=size.trials)
    runs = runs_of(size, base, shown)
    arms = perform_arms(
        laboratory,
        runs,
        seeds=size.seeds,
        starts=dict.fromkeys(runs, start["curve"]),
        # Half as wide for twice the robots: their curves rise as much faster.
        bandwidths_s={name: 1.5 * 60 * run.minutes / run.points for name, run in runs.items()},
    )
    plot(laboratory, arms, "scaling, state policy, virtual clock")
    one = arms["N=1"]
    assert one.curve is not None
    keys = {}
    for robots in size.fleets:
        arm = arms[f"N={robots}"]
        assert arm.curve is not None
        if robots > 1:
            keys[f"speedup_{robots}"] = speedup(one.curve, arm.curve)
    for robots in size.fleets:
        keys[f"success_{robots}"] = success(arms[f"N={robots}"].finals)
    details = {
        "tallies": {n: [run["tallies"][-1] for run in a.runs] for n, a in arms.items()},
        "curves": {
            n: {"t_s": a.curve.times_s, "mean": a.curve.rates, "seeds": a.curve.seeds}
            for n, a in arms.items()
            if a.curve
        },
    }
    notes = f"""The target is success {TARGET:g}; what was used is counted until it is reached.
Success is at {size.equal_minutes:g} simulated minutes.

{arms_table(arms)}
{rates_table(size.rates)}"""
    return Outcome(as_result(keys), _table(arms, runs, one), notes, details)


def _table(arms: Mapping[str, Arm], runs: Mapping[str, Run], one: Arm) -> str:
    lines = [
        "| fleet | success | minutes to target | speed-up | efficiency | episodes | updates | "
        "operators busy | robots waiting for help | bound by |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    assert one.curve is not None
    for name, arm in arms.items():
        assert arm.curve is not None
        run = runs[name]
        faster = speedup(one.curve, arm.curve)
        when_s = arm.curve.reached_s()
        busy = _used(arm, "held_s") / (run.operators * when_s)
        waiting = _used(arm, "unmet_s") / _used(arm, "robot_s")
        cells = (
            (faster.value / run.robots, ".2f"),
            (_used(arm, "episodes"), ".0f"),
            (_used(arm, "steps"), ".0f"),
            (busy, ".0%"),
            (waiting, ".0%"),
        )
        known = " | ".join("—" if math.isnan(x) else format(x, how) for x, how in cells)
        lines.append(
            f"| {name} | {success(arm.finals)} | {minutes(time_to(arm.curve))} | {faster} | "
            f"{known} | {bound(arm, one)} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run from the command line."""
    return run_command("scaling", full=Size(), quick=QUICK, conduct=conduct)


if __name__ == "__main__":
    raise SystemExit(main())
