"""What the RECAP study compares: one buffer of judged episodes, several ways to learn from it.

Every arm runs through the product's own buffer, sampler, learner and trainer, with the same
network, optimiser, batch and number of updates; they differ in which steps they imitate and how
much each counts.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from fleet.protocol.episode import Part, open_part
from fleet.protocol.simulation import robot_spec
from learning.core.buffer import ReplayBuffer
from learning.core.learners.base import Learner, build_learner
from learning.core.learners.hg_dagger import HgDagger, HgDaggerConfig
from learning.core.normalize import state_statistics
from learning.core.policies.base import Policy, build_policy
from learning.core.records import EpisodeRecord
from learning.core.sampler import AdaptiveSampler
from learning.core.sidecar import Annotation
from learning.core.trainer import Trainer
from learning.core.types import Batch, Indicator
from learning.experiments.training import policy_config

# Of all arms: constant step size, mean of the weights over some 100 steps, 50 samples a task.
OPTIMISER: dict[str, Any] = {"learning_rate": 1e-3, "ema_decay": 0.99}
BATCH = 250
FASTEST = 0.25
# Advantage-weighted regression: weights exp(A / (scale sd of the task's advantages)), at most this.
AWR_SCALE = 1.0
AWR_LARGEST = 20.0
OFFLINE_ARMS = ("bc_all", "bc_success", "bc_fastest", "bc_positive", "awr", "recap")


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """An episode with what RECAP says of it, and where its bytes are."""

    record: EpisodeRecord
    annotation: Annotation
    folder: Path


class Data:
    """Episodes of a study, in the order they were recorded."""

    def __init__(self, episodes: Sequence[Judged]) -> None:
        self.episodes = list(episodes)
        self._paths = {
            span.sha256: one.folder / f"{span.sha256}.arrow"
            for one in self.episodes
            for span in one.record.parts
        }

    @property
    def records(self) -> list[EpisodeRecord]:
        """The episodes' records, each with its indicators."""
        return [
            dataclasses.replace(one.record, indicator=one.annotation.indicator)
            for one in self.episodes
        ]

    def open_part(self, sha256: str) -> Part:
        """Return the part of a sha256, memory-mapped."""
        return open_part(str(self._paths[sha256]))

    def states(self) -> list[np.ndarray]:
        """Return float32 (t, s) of every episode."""
        return [
            self.open_part(span.sha256).array("state")
            for one in self.episodes
            for span in one.record.parts
        ]


class Selective(HgDagger):
    """Behaviour cloning of chosen steps, each with a weight; not in the product."""

    name = "selective"

    def __init__(
        self, policy: Policy, config: HgDaggerConfig, weight: Mapping[str, np.ndarray]
    ) -> None:
        """Imitate the steps whose weight, float (t,) by uid, is above 0."""
        super().__init__(policy, config)
        self._weight = weight
        self._by_row: list[np.ndarray] = []

    def targets(self, record: EpisodeRecord) -> np.ndarray:
        """Return every step, and take note of its weight: rows follow the order of adding."""
        self._by_row.append(np.asarray(self._weight[record.uid], np.float32))
        return np.ones(len(record), bool)

    def samples(self, record: EpisodeRecord) -> np.ndarray:
        """Return the chosen steps."""
        return np.asarray(self._weight[record.uid] > 0)

    def _weights(self, batch: Batch) -> torch.Tensor:
        if len(self._by_row) > 1:
            self._by_row = [np.concatenate(self._by_row)]
        weight = torch.from_numpy(self._by_row[0][batch.row.numpy()])
        return weight / weight.mean()


def weights_for(arm: str, data: Data) -> dict[str, np.ndarray]:
    """Return how much each step of each episode counts in an arm, float (t,) by uid."""
    kept: dict[str, np.ndarray] = {}
    fastest = _fastest(data.records)
    spread = _spread(data)
    for one in data.episodes:
        record, annotation = one.record, one.annotation
        every = np.ones(len(record))
        kept[record.uid] = {
            "bc_all": every,
            "bc_success": every * (record.outcome == "success"),
            "bc_fastest": every * (record.uid in fastest),
            "bc_positive": (annotation.indicator == Indicator.POSITIVE).astype(float),
            "awr": np.minimum(
                np.exp(annotation.advantage / (AWR_SCALE * spread[record.task])), AWR_LARGEST
            ),
        }[arm]
    return kept


def _fastest(records: Sequence[EpisodeRecord]) -> set[str]:
    """Return the quickest quarter of each task's episodes, successes only."""
    chosen = set()
    for task in {record.task for record in records}:
        own = [record for record in records if record.task == task]
        won = sorted((r for r in own if r.outcome == "success"), key=len)
        chosen |= {record.uid for record in won[: max(1, round(FASTEST * len(own)))]}
    return chosen


def _spread(data: Data) -> dict[str, float]:
    found: dict[str, list[np.ndarray]] = {}
    for one in data.episodes:
        found.setdefault(one.record.task, []).append(one.annotation.advantage)
    return {task: float(np.std(np.concatenate(own))) for task, own in found.items()}


def fresh_policy(data: Data, *, seed: int) -> Policy:
    """Return an untrained state policy that scales its input by the data's statistics."""
    torch.manual_seed(seed)
    policy = build_policy(policy_config(robot_spec("state")))
    policy.normalizer.fit(*state_statistics(data.states()))  # type: ignore[union-attr]
    return policy


def learner_for(arm: str, policy: Policy, data: Data) -> Learner:
    """Return the learner of an arm."""
    if arm == "recap":
        return build_learner("recap", policy, OPTIMISER)
    config = msgspec.convert(OPTIMISER, HgDaggerConfig)
    return Selective(policy, config, weights_for(arm, data))


def trainer_for(learner: Learner, data: Data, *, seed: int) -> Trainer:
    """Return the product's trainer of a learner over the data."""
    buffer = ReplayBuffer(learner.policy.config, learner, data.open_part)
    for record in data.records:
        buffer.add(record)
    return Trainer(learner, buffer, AdaptiveSampler(normalise=True), seed=seed, batch_size=BATCH)
