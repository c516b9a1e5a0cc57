"""Figures of the RECAP study: pooled over seeds, with intervals, as JSON, Markdown and a plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fleet.protocol.simulation import CONTROL_HZ
from learning.core.comparisons import mcnemar, pair_up
from learning.core.statistics import successes_per_hour, wilson

# A reset between two episodes, for figures by wall clock; execution alone is given beside them.
RESET_S = 5.0
_DRAWS = 1000

Rollouts = Sequence[Sequence[Any]]  # [task, success, ticks]
Stages = Mapping[int, Mapping[str, Any]]


def per_hour(rollouts: Rollouts, *, reset_s: float = 0.0) -> float:
    """Return successful completions per hour of acting, plus a reset an episode."""
    return successes_per_hour(
        successes=sum(success for _, success, _ in rollouts),
        wall_s=sum(ticks / CONTROL_HZ + reset_s for _, _, ticks in rollouts),
    )


def bootstrap(rollouts: Rollouts, *, reset_s: float = 0.0) -> tuple[float, float]:
    """Return a 95 % interval of `per_hour` over resampled episodes; the draws are always the same.

    Resampling is within tasks, whose number of trials is by design.
    """
    generator = np.random.default_rng(0)
    won = np.array([success for _, success, _ in rollouts], float)
    seconds = np.array([ticks / CONTROL_HZ + reset_s for _, _, ticks in rollouts])
    names = np.array([task for task, _, _ in rollouts])
    groups = [np.flatnonzero(names == task) for task in np.unique(names)]
    rates = []
    for _ in range(_DRAWS):
        drawn = np.concatenate([g[generator.integers(len(g), size=len(g))] for g in groups])
        rates.append(3600.0 * won[drawn].sum() / seconds[drawn].sum())
    low, high = np.quantile(rates, (0.025, 0.975))
    return float(low), float(high)


def figure(seeds: Sequence[Rollouts]) -> dict[str, Any]:
    """Return one cell of the table from its rollouts, a sequence for each seed."""
    every = [rollout for rollouts in seeds for rollout in rollouts]
    won = sum(success for _, success, _ in every)
    low, high = wilson(won, len(every))
    ticks = [ticks for _, success, ticks in every if success]
    by_task: dict[str, list[int]] = {}
    for task, success, _ in every:
        counts = by_task.setdefault(task, [0, 0])
        counts[0] += success
        counts[1] += 1
    return {
        "success": won / len(every),
        "low": low,
        "high": high,
        "n": len(every),
        "seeds": [sum(s for _, s, _ in r) / len(r) for r in seeds],
        "ticks_a_success": float(np.mean(ticks)) if ticks else None,
        "per_hour": per_hour(every),
        "per_hour_interval": bootstrap(every),
        "per_hour_with_resets": per_hour(every, reset_s=RESET_S),
        "tasks": by_task,
    }


def paired(first: Sequence[Rollouts], second: Sequence[Rollouts]) -> dict[str, Any]:
    """Compare two cells layout by layout: how often only one succeeded, and exact McNemar."""
    outcomes = [
        [bool(success) for rollouts in seeds for _, success, _ in rollouts]
        for seeds in (first, second)
    ]
    pairs = pair_up(*outcomes)
    return {
        "only_first": pairs.first_only,
        "only_second": pairs.second_only,
        "p": mcnemar(pairs),
        "n": pairs.pairs,
    }


def _cell(stages: Stages, name: str, guidance: float | None) -> list[Rollouts] | None:
    found = [own.get(f"evaluate-{name}-{guidance}") for own in stages.values()]
    return None if any(one is None for one in found) else found


def _mean(stages: Stages, stage: str, key: str) -> float | None:
    found = [own[stage][key] for own in stages.values() if key in own.get(stage, {})]
    return float(np.mean(found)) if found else None


def result_of(
    stages: Stages, figures: Mapping[str, tuple[str, float | None]], *, iterations: int
) -> dict[str, Any]:
    """Return everything the study found; `line` is the object it ends with.

    Args:
        stages: By seed, each stage's result.
        figures: By name, the weights and the guidance of each cell of the table.
        iterations: Of the online runs.
    """
    found = {name: rollouts for name, cell in figures.items() if (rollouts := _cell(stages, *cell))}
    gaps = {
        name: _mean(stages, stage, "action_gap")
        for name, (weights, _) in figures.items()
        for stage in (f"train-{weights}", f"iterate-{weights}")
        if any("action_gap" in own.get(stage, {}) for own in stages.values())
    }
    cells = {name: figure(rollouts) for name, rollouts in found.items()}
    last = iterations
    pairs = {
        f"{a} over {b}": paired(found[a], found[b])
        for a, b in (
            (f"positive_{last}", "positive_0"),
            (f"positive_{last}", f"unconditioned_{last}"),
            (f"positive_{last}", "final_bc_fastest"),
            ("recap_positive", "bc_positive"),
            ("recap_guided", "bc_fastest"),
            (f"from_base_introduced_{last}", f"from_base_plain_{last}"),
        )
        if a in found and b in found
    }
    first, end = cells["positive_0"], cells[f"positive_{last}"]
    plain = cells[f"unconditioned_{last}"]
    line = {
        "experiment": "recap",
        "clock": "virtual",
        "seeds": len(stages),
        "trials": end["n"],
        "bc_all": cells["bc_all"]["success"],
        "bc_fastest": cells["bc_fastest"]["success"],
        "recap": first["success"],
        "recap_final": end["success"],
        "recap_final_low": end["low"],
        "unconditioned_final": plain["success"],
        "per_hour_first": first["per_hour"],
        "per_hour_final": end["per_hour"],
        "per_hour_unconditioned": plain["per_hour"],
        "spearman": _mean(stages, "judge", "spearman"),
        "action_gap": gaps.get(f"positive_{last}"),
    }
    return {
        "cells": cells,
        "pairs": pairs,
        "action_gap": gaps,
        "offline_success": {
            name.removeprefix("offline-"): _mean(stages, name, "success")
            for name in next(iter(stages.values()))
            if name.startswith("offline-")
        },
        "spearman_by_task": {
            task: float(np.mean([own["judge"]["by_task"][task] for own in stages.values()]))
            for task in next(iter(stages.values()))["judge"]["by_task"]
        },
        "iterations": iterations,
        "line": {k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()},
    }


def table(result: Mapping[str, Any]) -> str:
    """Return the study as Markdown."""
    lines = [
        "| | success (Wilson 95 %) | n | ticks a success | successes /h (95 %) | "
        f"/h with {RESET_S:.0f} s resets | action gap |",
        "|---|---|---:|---:|---|---:|---:|",
    ]
    for name, cell in result["cells"].items():
        low, high = cell["per_hour_interval"]
        gap, ticks = result["action_gap"].get(name), cell["ticks_a_success"]
        lines.append(
            f"| {name} | {cell['success']:.3f} ({cell['low']:.3f}–{cell['high']:.3f}) "
            f"| {cell['n']} | {'' if ticks is None else f'{ticks:.0f}'} "
            f"| {cell['per_hour']:.0f} ({low:.0f}–{high:.0f}) "
            f"| {cell['per_hour_with_resets']:.0f} | {'' if gap is None else f'{gap:.3f}'} |"
        )
    lines += [
        "",
        "| paired, same layouts | only the first | only the second | p | n |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, pair in result["pairs"].items():
        lines.append(
            f"| {name} | {pair['only_first']} | {pair['only_second']} | {pair['p']:.3g} "
            f"| {pair['n']} |"
        )
    tasks = ", ".join(f"{t} {rho:.2f}" for t, rho in result["spearman_by_task"].items())
    lines += ["", f"Held-out Spearman of the value function: {tasks}."]
    return "\n".join(lines) + "\n"


def plot(path: Path, result: Mapping[str, Any]) -> None:
    """Draw the offline arms, and the online runs over their iterations."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    cells = result["cells"]
    figure_, axes = plt.subplots(2, 2, figsize=(11, 7), layout="constrained")
    offline = [
        name for name in cells if not name.startswith(("positive", "uncond", "from", "final"))
    ]
    for axis, key, interval, label in (
        (axes[0, 0], "success", lambda c: (c["low"], c["high"]), "success"),
        (axes[0, 1], "per_hour", lambda c: c["per_hour_interval"], "successes per hour"),
    ):
        values = [cells[name][key] for name in offline]
        edges = [interval(cells[name]) for name in offline]
        error = [
            [v - low for v, (low, _) in zip(values, edges, strict=True)],
            [high - v for v, (_, high) in zip(values, edges, strict=True)],
        ]
        axis.barh(offline, values, xerr=error, color="#9bc", capsize=2)
        axis.set(xlabel=label, title="offline, same data and updates")
        axis.invert_yaxis()
    runs = ("positive", "unconditioned", "from_base_introduced", "from_base_plain")
    for axis, key, interval, label in (
        (axes[1, 0], "success", lambda c: (c["low"], c["high"]), "success"),
        (axes[1, 1], "per_hour", lambda c: c["per_hour_interval"], "successes per hour"),
    ):
        for run in runs:
            own = [cells.get(f"{run}_{i}") for i in range(result["iterations"] + 1)]
            if any(cell is None for cell in own):
                continue
            values = [cell[key] for cell in own]
            axis.errorbar(
                range(len(own)),
                values,
                yerr=[
                    [v - interval(c)[0] for v, c in zip(values, own, strict=True)],
                    [interval(c)[1] - v for v, c in zip(values, own, strict=True)],
                ],
                marker="o",
                capsize=3,
                label=run,
            )
        axis.set(xlabel="online iteration", ylabel=label, title="online, no takeovers")
        axis.legend(fontsize="small")
    figure_.savefig(path, dpi=120)
    plt.close(figure_)
