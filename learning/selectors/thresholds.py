"""What another threshold would say, before anybody asks for it: counts at every share of a task.

From stored values alone: no network is run, and the web process loads no torch. Counts are those
that `services.sidecars.derive_threshold` arrives at.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from django.conf import settings

from learning import blobs
from learning.exceptions import LearningError
from learning.models import Episode, Learner, Sidecar, ThresholdVersion, ValueVersion
from learning.selectors.episodes import trainable_after
from learning.selectors.replay import part_of
from learning.selectors.values import newest_done

PERCENTS = tuple(range(1, 100))
# Episodes whose advantages stay in memory, about 1 kB each.
_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class Preview:
    """Positive steps of a task at each share of `PERCENTS`."""

    task: str
    value: int
    episodes: int
    # Steps that a threshold decides, and those that are positive whatever it is.
    free_steps: int
    forced_steps: int
    # By percent: the threshold, in units of returns, and all positive steps.
    epsilons: tuple[float, ...]
    positive_steps: tuple[int, ...]
    # Episodes whose values or parts cannot be read now; they are not counted.
    unreadable: int


def tasks_with_thresholds(value: ValueVersion) -> list[str]:
    """Return the tasks that a value function has thresholds of, by name."""
    found: set[str] = set()
    for threshold in ThresholdVersion.objects.filter(value=value):
        found |= set(threshold.epsilons)
    return sorted(found)


def share_of(threshold: ThresholdVersion, task: str) -> float:
    """Return the share of a task's steps that a threshold leaves positive."""
    import msgspec

    from learning.core.advantages import Shares

    return msgspec.convert(threshold.shares, Shares).of(task)


def preview(learner: Learner, task: str) -> Preview | None:
    """Return what each share would mean for a task; None without judged episodes with values."""
    value = newest_done(learner)
    if value is None:
        return None
    free, forced, episodes, unreadable = [], 0, 0, 0
    everything = []
    for found in _advantages(value, task):
        if found is None:
            unreadable += 1
            continue
        advantages, is_forced = found
        episodes += 1
        free.append(advantages[~is_forced])
        everything.append(advantages)
        forced += int(is_forced.sum())
    if not episodes:
        return None
    decided = np.sort(np.concatenate(free))
    # As `learning.core.advantages.thresholds`: over all steps where every one is forced.
    chosen = decided if len(decided) else np.concatenate(everything)
    shares = 1.0 - np.array(PERCENTS) / 100.0
    epsilons = np.quantile(chosen.astype(np.float64), shares)
    # Compared in single precision, as indicators are.
    above = len(decided) - np.searchsorted(decided, epsilons.astype(np.float32), side="right")
    return Preview(
        task=task,
        value=value.number,
        episodes=episodes,
        free_steps=len(decided),
        forced_steps=forced,
        epsilons=tuple(np.round(epsilons, 6).tolist()),
        positive_steps=tuple((above + forced).tolist()),
        unreadable=unreadable,
    )


def _advantages(value: ValueVersion, task: str) -> Iterator[tuple[np.ndarray, np.ndarray] | None]:
    """Yield (advantages, whether forced) of each judged episode of a task; None: unreadable."""
    from learning.core.advantages import HORIZON, penalty_share

    horizon = int(value.config.get("horizon", HORIZON))
    rows = Sidecar.objects.filter(value=value, episode__task__name=task).order_by("id")
    known: dict[int, str] = dict(rows.values_list("episode_id", "sha256"))
    for episode in trainable_after(0).filter(task__name=task, pk__in=known):
        if penalty_share(episode.outcome_in_force) is None:
            continue
        try:
            yield _of_episode(known[episode.pk], episode, horizon)
        except (LearningError, ValueError):
            yield None


def _of_episode(sha256: str, episode: Episode, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    parts = tuple(row.sha256 for row in sorted(episode.parts.all(), key=lambda p: p.index))
    return _kept(
        settings.SOP_STORE_URL, sha256, parts, episode.outcome_in_force, episode.purpose, horizon
    )


@lru_cache(maxsize=_KEPT)
def _kept(
    _store_url: str,
    sha256: str,
    parts: tuple[str, ...],
    outcome: str,
    purpose: str,
    horizon: int,
) -> tuple[np.ndarray, np.ndarray]:
    from learning.core.advantages import (
        forced_positive,
        n_step_advantages,
        penalty_share,
        rewards,
    )
    from learning.core.sidecar import decode_annotation

    value = decode_annotation(blobs.store().get(sha256)).value
    opened = [part_of(part) for part in parts]
    reward = rewards(
        len(value),
        failure=penalty_share(outcome) or 0.0,
        t_max=opened[0].header.task.timeout_ticks,
    )
    advantages = n_step_advantages(reward, value, horizon=horizon)
    modes = np.concatenate([part.array("control_mode") for part in opened])
    return advantages, forced_positive(purpose, modes)
