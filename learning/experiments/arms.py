"""Algorithms with and without the fleet's loop: `make experiment NAME=arms`. Virtual clock.

    pretrained                  the base policy as it is
    hg_dagger, recap            offline: robots act with one policy for a share of the time, then
                                the learner takes its share of the updates, then all get the result
    sop_hg_dagger, sop_recap    online: the learner trains all the while, robots take each version

Equal for all but the first: robot time, the limit of operator minutes, updates, layouts, demon-
strations, base and evaluation layouts. RECAP's value function is fitted again at the beginning of
every offline iteration, and online at the same times but the last, as the job that an operator
starts on the running system. (SOP freezes it online.)

Ends in one line of JSON: mean success over tasks of each arm; of SOP + HG-DAgger over the
pretrained policy `throughput_ratio`, episodes ended per hour of policy execution (SOP), and
`completions_ratio`, successes per hour with the pauses to put the scene back; each with the ends
of its 95 % interval. Options: see `virtual/command.py`; ARMS=hg_dagger,sop_hg_dagger performs
those alone, and the same command without it goes on with the others.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from fleet.protocol.simulation import TASKS
from learning.core.comparisons import paired_difference
from learning.experiments.analysis import markdown_table
from learning.experiments.figures import Line, plot_arms
from learning.experiments.virtual.command import Laboratory, Outcome, rates_table, run_command
from learning.experiments.virtual.rates import DEFAULT_RATES, Rates
from learning.experiments.virtual.runs import Run, gather
from learning.experiments.virtual.summary import (
    Estimate,
    Row,
    as_result,
    by_task,
    completions,
    curve_of,
    difference_text,
    paired,
    ratio,
    success,
    throughput,
    within,
)

ONLINE_OF = {"hg_dagger": "sop_hg_dagger", "recap": "sop_recap"}
EXPERIENCE_SEED = 80
# Of each learner: those of a fresh installation but for the longer mean of the weights.
OPTIONS: dict[str, Mapping[str, Any]] = {
    "hg_dagger": {"ema_decay": 0.99, "autonomous_successes": True},
    "recap": {"ema_decay": 0.99},
}
KEYS = ("pretrained", "hg_dagger", "recap", "sop_hg_dagger", "sop_recap")
ARMS = ("hg_dagger", "sop_hg_dagger", "recap", "sop_recap")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is done."""

    seeds: int = 3
    robots: int = 4
    operators: int = 2
    minutes: float = 15.0
    # Of both operators together; they may not use it up.
    human_minutes: float = 20.0
    rounds: int = 3
    # Of all robots with the base alone, before RECAP: what its value function begins with.
    experience_minutes: float = 5.0
    value_steps: int = 1000
    points: int = 6
    point_trials: int = 10
    trials: int = 40
    # How many times its limit a rollout that failed is given in another try, for throughput only.
    patience: int = 2
    rates: Rates = DEFAULT_RATES


QUICK = Size(
    value_steps=50,
    seeds=1,
    minutes=1.5,
    human_minutes=2.0,
    points=2,
    point_trials=2,
    trials=4,
    rounds=2,
    experience_minutes=1.0,
)


def runs_of(arm: str, size: Size, base: str, shown: str, experience: str = "") -> dict[str, Run]:
    """Return the runs of one arm by name; RECAP's need judged `experience`."""
    online = arm.startswith("sop_")
    algorithm = arm.removeprefix("sop_")
    run = Run(
        base=base,
        demonstrations=shown,
        experience=experience,
        value_steps=size.value_steps,
        # As often as between offline rounds; see the module's docstring.
        value_refits=size.rounds - 1 if online else 0,
        algorithm=algorithm,
        options=OPTIONS[algorithm],
        robots=size.robots,
        operators=size.operators,
        minutes=size.minutes,
        human_minutes=size.human_minutes,
        rounds=0 if online else size.rounds,
        rates=size.rates,
        points=size.points,
        point_trials=size.point_trials,
        trials=size.trials,
        patience=size.patience,
    )
    return {f"{arm}-seed-{seed}": replace(run, seed=seed) for seed in range(size.seeds)}


def conduct(laboratory: Laboratory, size: Size) -> Outcome:
    """Perform the arms and compare them."""
    base, shown = laboratory.base()
    wanted = os.environ.get("ARMS", ",".join(ARMS)).split(",")
    arms = [arm for arm in ARMS if arm in wanted]
    start = laboratory.evaluate(
        "pretrained",
        base,
        curve=size.point_trials,
        trials=size.trials,
        patience=size.patience,
    )
    valued = any(arm.endswith("recap") for arm in arms)
    judged = _experience(laboratory, size, base, shown) if valued else ""
    runs = {
        arm: runs_of(arm, size, base, shown, judged if arm.endswith("recap") else "")
        for arm in arms
    }
    done = laboratory.perform({name: run for own in runs.values() for name, run in own.items()})
    figures = {arm: [done[name] for name in own] for arm, own in runs.items()}
    finals = {"pretrained": [start["final"]]}
    finals |= {arm: [run["final"] for run in seeds] for arm, seeds in figures.items()}
    estimates = {arm: success(rows) for arm, rows in finals.items()}
    keys = {arm: estimates.get(arm, _MISSING) for arm in KEYS}
    for key, per_hour in (
        ("throughput_ratio", throughput),
        ("completions_ratio", partial(completions, reset_s=size.rates.reset_s)),
    ):
        keys[key] = (
            ratio(per_hour, finals["pretrained"], finals["sop_hg_dagger"])
            if "sop_hg_dagger" in finals
            else _MISSING
        )
    _plot(laboratory, start["curve"], figures, estimates)
    details = {
        "arms": {arm: [_by_task_json(rows) for rows in seeds] for arm, seeds in finals.items()},
        "tallies": {arm: [run["tallies"][-1] for run in seeds] for arm, seeds in figures.items()},
    }
    table, notes = _tables(size, finals, estimates, figures)
    if "sop_hg_dagger" in figures:
        patient = [run["patient"] for run in figures["sop_hg_dagger"]]
        notes += _by_limit(size, [start["patient"]], patient)
    return Outcome(as_result(keys), table, notes, details, finished=len(arms) == len(ARMS))


def _experience(laboratory: Laboratory, size: Size, base: str, shown: str) -> str:
    """Return a folder of the base's own episodes, which value functions are first fitted to.

    They are judged, and nothing else is learned from them: no arm imitates them.
    """
    folder = laboratory.folder / "experience"
    run = Run(
        base=base,
        demonstrations=shown,
        robots=size.robots,
        operators=0,
        minutes=size.experience_minutes,
        rates=size.rates,
        # Layouts of no other run.
        seed=EXPERIENCE_SEED,
    )
    laboratory.stages.once("experience", lambda: gather(run, str(folder)))
    return str(folder)


_MISSING = Estimate(float("nan"), float("nan"), float("nan"))


def _by_task_json(rows: Sequence[Row]) -> dict[str, list[int]]:
    return {task: [score.successes, score.trials] for task, score in by_task(rows).items()}


def _plot(
    laboratory: Laboratory,
    start: Sequence[Row],
    figures: Mapping[str, Sequence[Mapping[str, Any]]],
    estimates: Mapping[str, Estimate],
) -> None:
    lines = {}
    for arm, seeds in figures.items():
        curve = curve_of(start, [run["points"] for run in seeds], bandwidth_s=0.0)
        lines[arm] = Line([t / 60 for t in curve.times_s], curve.rates)
    bars = {arm: (e.value, e.low, e.high) for arm, e in estimates.items()}
    plot_arms(
        laboratory.folder / "plot.png",
        lines=lines,
        bars=bars,
        title="arms, state policy, virtual clock",
    )


def _tables(
    size: Size,
    finals: Mapping[str, Sequence[Sequence[Row]]],
    estimates: Mapping[str, Estimate],
    figures: Mapping[str, Sequence[Mapping[str, Any]]],
) -> tuple[str, str]:
    reset_s = size.rates.reset_s
    lines = [
        "| arm | success | episodes /h of execution | successes /h with resets | robot min | "
        "human min | updates |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm, seeds in finals.items():
        rows = [row for seed in seeds for row in seed]
        ends = [run["tallies"][-1] for run in figures.get(arm, ())]
        spent = " | ".join(
            f"{sum(end[key] for end in ends) / len(ends) / unit:.1f}" if ends else "0"
            for key, unit in (("robot_s", 60), ("human_s", 60), ("steps", 1))
        )
        lines.append(
            f"| {arm} | {estimates[arm]} | {throughput(rows):.0f} | "
            f"{completions(rows, reset_s=reset_s):.0f} | {spent} |"
        )
    scores = {
        arm: by_task([row for seed in seeds for row in seed]) for arm, seeds in finals.items()
    }
    text = markdown_table(scores)
    for offline, online in ONLINE_OF.items():
        if offline in finals and online in finals:
            text += f"\n{online} − {offline}, on the same layouts:\n\n"
            text += f"- all tasks: {difference_text(paired(finals[offline], finals[online]))}\n"
            text += _by_task_differences(finals[offline], finals[online])
    return "\n".join(lines) + "\n", text + "\n" + rates_table(size.rates)


def _by_limit(size: Size, before: Sequence[Sequence[Row]], after: Sequence[Sequence[Row]]) -> str:
    """Say how throughput depends on when a task times out, as Markdown."""
    text = "\n| task's limit | base | SOP + HG-DAgger | throughput ratio |\n|---|---|---|---|\n"
    for halves in range(2, 2 * size.patience + 1):
        limits = {task.name: task.timeout_ticks * halves // 2 for task in TASKS}
        sides = [[within(rows, limits) for rows in side] for side in (before, after)]
        rates = " | ".join(f"{success(side).value:.3f}" for side in sides)
        text += f"| × {halves / 2:g} | {rates} | {ratio(throughput, *sides)} |\n"
    return text


def _by_task_differences(offline: Sequence[Sequence[Row]], online: Sequence[Sequence[Row]]) -> str:
    text = ""
    for task in by_task(offline[0]):
        pairs = paired(
            [[row for row in rows if row[0] == task] for rows in offline],
            [[row for row in rows if row[0] == task] for rows in online],
        )
        low, high = paired_difference(pairs)
        worse = ", worse beyond its interval" if high < 0 else ""
        text += f"- {task}: {pairs.difference:+.3f} ({low:+.3f} to {high:+.3f}){worse}\n"
    return text


def main() -> int:
    """Run from the command line."""
    return run_command("arms", full=Size(), quick=QUICK, conduct=conduct)


if __name__ == "__main__":
    raise SystemExit(main())
