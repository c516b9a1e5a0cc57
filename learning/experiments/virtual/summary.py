"""From rollouts of several seeds to figures with intervals. Pure functions.

A seed is a whole run: its layouts, its operators' luck, its learner's draws. The spread over seeds
holds all of that, but not the choice of evaluation layouts, which all seeds share; Wilson's
interval of the pooled trials holds that, but not the seeds. Figures of success state the hull.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from fleet.protocol.simulation import CONTROL_HZ
from learning.core.comparisons import Paired, mcnemar, pair_up, paired_difference
from learning.core.statistics import (
    Score,
    episodes_per_hour,
    pooled,
    smoothed,
    successes_per_hour,
    time_to_target,
)

# Two-sided 95 % of Student's t, by degrees of freedom.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179)
_T95_MORE = 2.1
RESAMPLES = 1000
TARGET = 0.8

# One rollout as a run keeps it: task, seed of the layout, success, ticks.
Row = tuple[str, int, bool, int]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval; `value` is NaN where there is none."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if not math.isfinite(self.value):
            return "not reached"
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f})"


def as_result(estimates: Mapping[str, Estimate]) -> dict[str, float]:
    """Return the keys of a last line: each estimate, its `_low` and its `_high`."""
    out = {}
    for key, estimate in estimates.items():
        out[key] = round(estimate.value, 4)
        out[f"{key}_low"] = round(estimate.low, 4)
        out[f"{key}_high"] = round(estimate.high, 4)
    return out


def by_task(rows: Sequence[Row]) -> dict[str, Score]:
    """Return success by task, in the order of the tasks' first rollouts."""
    counts: dict[str, tuple[int, int]] = {}
    for task, _, success, _ in rows:
        won, tried = counts.get(task, (0, 0))
        counts[task] = won + bool(success), tried + 1
    return {task: Score(won, tried) for task, (won, tried) in counts.items()}


def spread(values: Sequence[float]) -> Estimate:
    """Return the mean of one value a seed with Student's 95 % interval; the line for one seed."""
    mean = fmean(values)
    if len(values) < 2:
        return Estimate(mean, -math.inf, math.inf)
    t = _T95[len(values) - 2] if len(values) - 2 < len(_T95) else _T95_MORE
    half = t * stdev(values) / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half)


def success(seeds: Sequence[Sequence[Row]]) -> Estimate:
    """Return mean success over tasks and seeds; its interval is the hull of both kinds."""
    scores = [pooled(by_task(rows)) for rows in seeds]
    everything = Score(sum(s.successes for s in scores), sum(s.trials for s in scores))
    low, high = everything.interval
    if len(seeds) > 1:
        over_seeds = spread([score.rate for score in scores])
        low, high = min(low, over_seeds.low), max(high, over_seeds.high)
    return Estimate(everything.rate, max(0.0, low), min(1.0, high))


def throughput(rows: Sequence[Row]) -> float:
    """Return episodes ended per hour of policy execution (SOP's figure)."""
    return episodes_per_hour(
        terminated=len(rows), execution_s=sum(ticks for *_, ticks in rows) / CONTROL_HZ
    )


def within(rows: Sequence[Row], limits: Mapping[str, int]) -> list[Row]:
    """Return what rollouts would have been, had they been given up after so many ticks, by task."""
    return [
        (task, seed, bool(won) and ticks <= limits[task], min(ticks, limits[task]))
        for task, seed, won, ticks in rows
    ]


def completions(rows: Sequence[Row], *, reset_s: float) -> float:
    """Return successes per hour of wall clock, resets included."""
    wall_s = sum(ticks for *_, ticks in rows) / CONTROL_HZ + reset_s * len(rows)
    return successes_per_hour(successes=sum(bool(won) for *_, won, _ in rows), wall_s=wall_s)


def ratio(
    figure: Callable[[Sequence[Row]], float],
    before: Sequence[Sequence[Row]],
    after: Sequence[Sequence[Row]],
    *,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Return figure(after) over figure(before), both over all seeds, with a bootstrap interval.

    Layouts are drawn again with replacement, the same on both sides, and seeds of each side, so
    that the interval holds both (a percentile bootstrap; Efron 1979).
    """
    layouts = sorted({(task, seed) for rows in (*before, *after) for task, seed, *_ in rows})
    # Rollouts by seed of the run and layout; every run has every layout.
    tables = [
        [{(task, seed): row for row in rows for task, seed in [row[:2]]} for rows in side]
        for side in (before, after)
    ]

    def value(drawn: Sequence[tuple[str, int]], sides: Sequence[Sequence[dict]]) -> float:
        first, second = (
            figure([table[layout] for table in side for layout in drawn if layout in table])
            for side in sides
        )
        return second / first if first else math.nan

    rng = random.Random(0)
    values = []
    for _ in range(resamples):
        sides = [rng.choices(side, k=len(side)) for side in tables]
        values.append(value(rng.choices(layouts, k=len(layouts)), sides))
    return Estimate(value(layouts, tables), *_percentiles(values))


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(math.inf if math.isnan(v) else v for v in values)
    if not ordered:
        return math.nan, math.nan
    return ordered[int(0.025 * len(ordered))], ordered[int(0.975 * (len(ordered) - 1))]


def paired(first: Sequence[Sequence[Row]], second: Sequence[Sequence[Row]]) -> Paired:
    """Return outcomes of two arms on the same layouts, runs of the same position paired."""
    outcomes = []
    for rows_1, rows_2 in zip(first, second, strict=True):
        other = {row[:2]: bool(row[2]) for row in (tuple(row) for row in rows_2)}
        outcomes += [(bool(won), other[task, seed]) for task, seed, won, _ in rows_1]
    return pair_up([a for a, _ in outcomes], [b for _, b in outcomes])


def difference_text(pairs: Paired) -> str:
    """Return second minus first with its interval and the exact p-value, for a table."""
    low, high = paired_difference(pairs)
    return (
        f"{pairs.difference:+.3f} ({low:+.3f} to {high:+.3f}), McNemar p = {mcnemar(pairs):.3g}, "
        f"n = {pairs.pairs}"
    )


# ---- curves --------------------------------------------------------------------------------------

# The evaluations of one run in the order of time: simulated seconds, learner steps, rollouts.
Points = Sequence[tuple[float, int, Sequence[Row]]]


@dataclass(frozen=True, slots=True)
class Curve:
    """Success over simulated time of one arm: the mean of its seeds, smoothed."""

    times_s: list[float]
    # At each time: each seed's score, not smoothed.
    scores: list[list[Score]]
    bandwidth_s: float

    @property
    def rates(self) -> list[float]:
        """Mean over seeds at each time, smoothed."""
        return self._mean(self.scores)

    @property
    def seeds(self) -> list[list[float]]:
        """Each seed by itself, smoothed."""
        return [self._mean([run]) for run in self.scores]

    def reached_s(self, runs: Sequence[Sequence[Score]] | None = None) -> float:
        """Return when the mean of `runs` (all by default) reaches the target; NaN when never."""
        rates = self._mean(self.scores if runs is None else runs)
        when = time_to_target(self.times_s, rates, target=TARGET)
        return math.nan if when is None else when

    def _mean(self, runs: Sequence[Sequence[Score]]) -> list[float]:
        summed = [
            Score(sum(s.successes for s in at), sum(s.trials for s in at))
            for at in zip(*runs, strict=True)
        ]
        return smoothed(self.times_s, summed, bandwidth=self.bandwidth_s)


def curve_of(start: Sequence[Row], runs: Sequence[Points], *, bandwidth_s: float) -> Curve:
    """Return the curve of runs that were evaluated at the same times.

    Args:
        start: Rollouts of the policy all runs begin with, the value at time 0.
        runs: One for each seed.
        bandwidth_s: Of the smoothing.
    """
    first = pooled(by_task(start))
    return Curve(
        [0.0, *(t_s for t_s, _, _ in runs[0])],
        [[first, *(pooled(by_task(rows)) for _, _, rows in run)] for run in runs],
        bandwidth_s,
    )


def time_to(curve: Curve, *, resamples: int = RESAMPLES) -> Estimate:
    """Return the simulated seconds to the target, with a bootstrap interval over seeds.

    NaN where it was not reached; a draw of seeds that never reaches it counts as infinite.
    """
    rng = random.Random(0)
    drawn = [
        curve.reached_s(rng.choices(curve.scores, k=len(curve.scores))) for _ in range(resamples)
    ]
    return Estimate(curve.reached_s(), *_percentiles(drawn))


def speedup(one: Curve, many: Curve, *, resamples: int = RESAMPLES) -> Estimate:
    """Return time to the target of `one` over that of `many`, with a bootstrap over seeds.

    Seeds are drawn again with replacement on each side; a draw in which `one` never reaches the
    target counts as infinitely fast, one in which `many` does not as 0.
    """
    rng = random.Random(0)
    drawn = []
    for _ in range(resamples):
        slow = one.reached_s(rng.choices(one.scores, k=len(one.scores)))
        fast = many.reached_s(rng.choices(many.scores, k=len(many.scores)))
        drawn.append(0.0 if math.isnan(fast) else math.inf if math.isnan(slow) else slow / fast)
    return Estimate(one.reached_s() / many.reached_s(), *_percentiles(drawn))


def at_time(tallies: Sequence[Sequence[Mapping[str, Any]]], t_s: float, key: str) -> float:
    """Return a tally's value at a moment, interpolated linearly, mean over seeds; NaN for NaN."""
    if math.isnan(t_s):
        return math.nan
    values = []
    for run in tallies:
        before_t, before = 0.0, 0.0
        for tally in run:
            if tally["t_s"] >= t_s:
                share = (t_s - before_t) / (tally["t_s"] - before_t)
                before += share * (tally[key] - before)
                break
            before_t, before = tally["t_s"], tally[key]
        values.append(before)
    return fmean(values)
