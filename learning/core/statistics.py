"""Success, throughput and time-to-target: what is said of a policy, with how sure one is.

Pure functions over plain numbers, without torch, so that the pages and the experiments say the
same. `comparisons.py` decides between two of these.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Two-sided 95 % of the normal distribution.
Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Score:
    """Successes out of trials."""

    successes: int
    trials: int

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.trials:
            raise ValueError(f"{self.successes} successes of {self.trials} trials")

    @property
    def rate(self) -> float:
        """Share of successes; NaN without trials."""
        return self.successes / self.trials if self.trials else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the rate; (0, 1) without trials."""
        return wilson(self.successes, self.trials)


def wilson(successes: int, trials: int, *, z: float = Z95) -> tuple[float, float]:
    """Return Wilson's score interval of a success rate.

    Args:
        successes: At most `trials`.
        trials: 0 gives the whole range.
        z: Normal quantile; 1.96 for 95 %.

    Source:
        E. B. Wilson (1927), Probable inference, the law of succession, and statistical inference.
        188 of 200 gives .898 to .965.
    """
    if trials == 0:
        return 0.0, 1.0
    rate = successes / trials
    centre = rate + z * z / (2 * trials)
    half = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def pooled(tasks: Mapping[str, Score]) -> Score:
    """Return all tasks' trials as one score. With equal trials its rate is the mean over tasks."""
    return Score(sum(s.successes for s in tasks.values()), sum(s.trials for s in tasks.values()))


def episodes_per_hour(*, terminated: int, execution_s: float) -> float:
    """Return throughput as SOP counts it: episodes ended per hour of policy execution.

    Args:
        terminated: Successes, failures and timeouts; a policy that fails fast has a high figure,
            so `successes_per_hour` stands beside it.
        execution_s: Seconds the policy acted, resets excluded; 0 gives NaN.

    Source:
        SOP (arXiv 2601.03044), section on metrics.
    """
    return _per_hour(terminated, execution_s)


def successes_per_hour(*, successes: int, wall_s: float) -> float:
    """Return completed tasks per hour of wall clock, resets and idle time included; NaN at 0 s."""
    return _per_hour(successes, wall_s)


def _per_hour(count: int, seconds: float) -> float:
    if count < 0 or seconds < 0:
        raise ValueError(f"{count} in {seconds} s")
    return 3600 * count / seconds if seconds else math.nan


def smoothed(times: Sequence[float], scores: Sequence[Score], *, bandwidth: float) -> list[float]:
    """Return the success rate at each time, averaged over near times with Gaussian weights.

    The weights multiply trials, so that a point of many trials counts for more (Nadaraya and
    Watson's estimate). Where all weight falls on points without trials the value is NaN.

    Args:
        times: In any unit, in any order.
        scores: One for each time.
        bandwidth: Standard deviation of the weights, in the unit of `times`; 0 smooths nothing.

    Raises:
        ValueError: The lengths differ, or the bandwidth is negative.
    """
    if len(times) != len(scores):
        raise ValueError(f"{len(times)} times and {len(scores)} scores")
    if bandwidth < 0:
        raise ValueError(f"bandwidth {bandwidth}")
    if bandwidth == 0:
        return [score.rate for score in scores]
    rates = []
    for now in times:
        weights = [math.exp(-0.5 * ((now - time) / bandwidth) ** 2) for time in times]
        tried = sum(w * s.trials for w, s in zip(weights, scores, strict=True))
        won = sum(w * s.successes for w, s in zip(weights, scores, strict=True))
        rates.append(won / tried if tried else math.nan)
    return rates


def time_to_target(
    times: Sequence[float], rates: Sequence[float], *, target: float = 0.8
) -> float | None:
    """Return when a curve of success first reaches `target`, or None: "not reached" is a value.

    Between the last point below and the first point at or above it the time is interpolated
    linearly; a curve that begins there gives its first time. Points that are NaN are skipped.

    Args:
        times: Ascending, in any unit.
        rates: Success at each time, as measured or `smoothed`.
        target: Success to reach; SOP's 0.8.

    Raises:
        ValueError: The lengths differ, or times do not ascend.
    """
    if len(times) != len(rates):
        raise ValueError(f"{len(times)} times and {len(rates)} rates")
    if any(later < earlier for earlier, later in itertools.pairwise(times)):
        raise ValueError("times must ascend")
    before: tuple[float, float] | None = None
    for time, rate in zip(times, rates, strict=True):
        if math.isnan(rate):
            continue
        if rate >= target:
            if before is None:
                return time
            then, lower = before
            return then + (time - then) * (target - lower) / (rate - lower)
        before = (time, rate)
    return None
