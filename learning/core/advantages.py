"""What RECAP says of a step after its episode was judged: return, advantage, threshold, indicator.

Pure functions over one episode's columns (`t` steps) and over all advantages of a task. Rewards,
returns, values and advantages share one unit: the longest episode of the task with the penalty of
a failure is 1.

Source:
    RECAP (pi*0.6, arXiv:2511.14759): rewards, normalisation per task, n-step advantages,
    percentile thresholds, corrections and demonstrations forced positive. Departures: the penalty
    of a failure is the task's own limit; a partial success, unknown to the paper, costs half of
    it; a window that passes the end of an episode bootstraps with 0; a threshold is taken over
    the steps that are not forced, where there are any.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
import numpy as np
from jaxtyping import Bool, Float, Int8, UInt8
from msgspec import Meta

from fleet.protocol.control import ControlLabel
from learning.core.checked import typechecked
from learning.core.records import Indicator

# N of the n-step advantage, in steps.
HORIZON = 50


class Shares(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which share of a task's steps a threshold leaves positive."""

    # RECAP: 30 % while pretraining, 40 % while fine-tuning, 10 % for tasks that are easy.
    positive: Annotated[float, Meta(gt=0, lt=1)] = 0.3
    easy: Annotated[float, Meta(gt=0, lt=1)] = 0.1
    easy_tasks: tuple[str, ...] = ()
    # What people set for single tasks; it comes before the rest.
    by_task: dict[str, Annotated[float, Meta(gt=0, lt=1)]] = {}

    def of(self, task: str) -> float:
        """Return the share of a task."""
        if task in self.by_task:
            return self.by_task[task]
        return self.easy if task in self.easy_tasks else self.positive


PRETRAINING = Shares(positive=0.3)
FINE_TUNING = Shares(positive=0.4)


# Share of the penalty of a failure that an outcome costs at the end of the episode.
_PENALTIES = {"success": 0.0, "partial": 0.5, "failure": 1.0, "timeout": 1.0}


def penalty_share(outcome: str) -> float | None:
    """Return which share of a failure's penalty an outcome costs. None: nobody judged the episode.

    A timeout is a failure. A partial success, which the paper does not know, costs half.
    """
    return _PENALTIES.get(outcome)


@typechecked
def rewards(
    steps: int, *, failure: float | bool, t_max: int, c_fail: int | None = None
) -> Float[np.ndarray, " t"]:
    """Return the reward of each step: -1, at the end -C_fail [failure]; over T_max + C_fail.

    Args:
        steps: T, at least 1.
        failure: Whether the episode failed, or the share of the penalty: see `penalty_share`.
        t_max: T_max, the task's limit in steps.
        c_fail: C_fail in steps; None is T_max, so that failing is worse than any success.
    """
    c_fail = t_max if c_fail is None else c_fail
    reward = np.full(steps, -1.0)
    reward[-1] = -c_fail * float(failure)
    return np.asarray(reward / (t_max + c_fail), np.float32)


@typechecked
def returns(
    steps: int, *, failure: float | bool, t_max: int, c_fail: int | None = None
) -> Float[np.ndarray, " t"]:
    """Return the target of the value function at each step, within [-1, 0].

    clip((-remaining - C_fail [failure]) / (T_max + C_fail), -1, 0), remaining = T - t - 1: the sum
    of `rewards` from the step on, clipped where an episode ran beyond its limit.
    """
    c_fail = t_max if c_fail is None else c_fail
    remaining = np.arange(steps - 1, -1, -1)
    target = (-remaining - c_fail * float(failure)) / (t_max + c_fail)
    return np.asarray(np.clip(target, -1.0, 0.0), np.float32)


@typechecked
def n_step_advantages(
    reward: Float[np.ndarray, " t"], value: Float[np.ndarray, " t"], *, horizon: int = HORIZON
) -> Float[np.ndarray, " t"]:
    """Return the advantage of each step, looking `horizon` steps ahead.

    A_t = sum_{k<N} r_{t+k} + V(o_{t+N}) - V(o_t), with N = `horizon`; beyond the last step rewards
    and values are 0.
    """
    total = np.concatenate(([0.0], np.cumsum(reward, dtype=np.float64)))  # (t + 1,)
    ends = np.minimum(np.arange(len(reward)) + horizon, len(reward))
    ahead = np.append(value.astype(np.float64), 0.0)[ends]
    return np.asarray(total[ends] - total[:-1] + ahead - value, np.float32)


@typechecked
def threshold(advantages: Float[np.ndarray, " n"], *, positive: float) -> float:
    """Return epsilon: the percentile of a task's advantages that leaves a share above it.

    Raises:
        ValueError: There are no advantages.
    """
    if not len(advantages):
        raise ValueError("no advantages to take a percentile of")
    return float(np.quantile(advantages.astype(np.float64), 1.0 - positive))


@typechecked
def forced_positive(purpose: str, control_mode: UInt8[np.ndarray, " t"]) -> Bool[np.ndarray, " t"]:
    """Return the steps that are positive whatever their advantage.

    All of a demonstration, and those under human control. Not the handover into a takeover: the
    person is still taking hold.

    Args:
        purpose: Of the episode.
        control_mode: A ControlLabel of each step.
    """
    if purpose == "demonstration":
        return np.ones(len(control_mode), bool)
    return np.asarray(control_mode == ControlLabel.HUMAN)


@typechecked
def indicators(
    advantages: Float[np.ndarray, " t"], *, epsilon: float, forced: Bool[np.ndarray, " t"]
) -> Int8[np.ndarray, " t"]:
    """Return I = [A > epsilon], or forced, as `Indicator` POSITIVE or NEGATIVE of each step."""
    positive = (advantages > epsilon) | forced
    return np.where(positive, Indicator.POSITIVE, Indicator.NEGATIVE).astype(np.int8)


def thresholds(
    advantages: Mapping[str, Sequence[np.ndarray]],
    forced: Mapping[str, Sequence[np.ndarray]],
    shares: Shares,
) -> dict[str, float]:
    """Return epsilon by task, over the steps of its episodes that are not forced positive.

    Args:
        advantages: By task, float32 (t,) of each episode.
        forced: By task, bool (t,) of the same episodes.
        shares: What is left above.

    Where every step of a task is forced (demonstrations alone), over all of them: a start, until
    robots have tried the task.
    """
    epsilons = {}
    for task, episodes in advantages.items():
        every = np.concatenate(episodes)
        free = every[~np.concatenate(forced[task])]
        chosen = free if len(free) else every
        epsilons[task] = threshold(chosen.astype(np.float32), positive=shares.of(task))
    return epsilons


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's rank correlation, ties by their mean rank; NaN where a side is constant."""
    ranks = [_mean_ranks(np.asarray(side, np.float64)) for side in (first, second)]
    centred = [rank - rank.mean() for rank in ranks]
    scale = np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
    return float((centred[0] * centred[1]).sum() / scale) if scale > 0 else float("nan")


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean = last - (counts - 1) / 2.0
    ranks: np.ndarray = mean[inverse.reshape(-1)]
    return ranks
