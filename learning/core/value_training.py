"""Fit a value function to judged episodes, and say on held-out episodes how well it ranks.

Episodes, not frames, are held out: frames of one episode look alike and share their outcome. Every
episode is held out once (cross-fitting), so the values that advantages come from are never those
of a network that learned the same episode's return by heart. A last network is fitted to all of
them, for episodes yet to come.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
import torch
from msgspec import Meta

from learning.core.advantages import penalty_share, returns, spearman
from learning.core.annotate import frames_buffer, values_of
from learning.core.buffer import ReplayBuffer
from learning.core.normalize import state_statistics
from learning.core.payload import OpenPart
from learning.core.policies.base import PolicyConfig
from learning.core.records import EpisodeRecord
from learning.core.value import ValueFunction, value_config


class FitConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a value function is fitted."""

    # Gradient steps of each network.
    steps: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    batch_size: Annotated[int, Meta(ge=1, le=65536)] = 128
    # Falls to zero along a half cosine.
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 1e-3
    # Far more than a policy's: few episodes have many frames, and it must not know them by heart.
    weight_decay: Annotated[float, Meta(ge=0, le=10)] = 0.1
    width: Annotated[int, Meta(ge=8, le=4096)] = 128
    # Parts the episodes are split into; each is valued by a network that did not see it.
    folds: Annotated[int, Meta(ge=2, le=20)] = 3
    seed: Annotated[int, Meta(ge=0, le=2**53)] = 0


@dataclass(frozen=True, slots=True)
class ValueFit:
    """A fitted value function and what it was worth where it had not looked."""

    value: ValueFunction
    # By uid, float32 (t,): the values of each episode by the network that did not see it.
    values: dict[str, np.ndarray]
    # Spearman's correlation of value and return on held-out episodes, by task; and its mean.
    by_task: dict[str, float]
    correlation: float
    # How many episodes and frames the correlations are over.
    episodes: int
    frames: int
    # Mean loss of the last fitted network's last tenth of steps, in nats.
    loss: float


class NothingToFit(ValueError):
    """Too few judged episodes to fit a value function to and hold some out."""


def judged(records: Sequence[EpisodeRecord]) -> list[EpisodeRecord]:
    """Return the episodes a value function may be fitted to: whole, judged, not held out."""
    return [
        record
        for record in records
        if record.complete
        and record.purpose != "eval"
        and penalty_share(record.outcome) is not None
    ]


def split_episodes(
    records: Sequence[EpisodeRecord], folds: int, generator: np.random.Generator
) -> np.ndarray:
    """Return the fold of each episode, int64 (n,), even within each task and outcome."""
    fold = np.zeros(len(records), np.int64)
    strata: dict[tuple[str, str], list[int]] = {}
    for position, record in enumerate(records):
        strata.setdefault((record.task, record.outcome), []).append(position)
    turn = 0
    for positions in strata.values():
        for position in generator.permutation(positions).tolist():
            fold[position] = turn % folds
            turn += 1
    return fold


def fit_value(
    records: Sequence[EpisodeRecord],
    open_part: OpenPart,
    policy: PolicyConfig,
    config: FitConfig,
    *,
    progress: Callable[[float], None] = lambda _: None,
) -> ValueFit:
    """Fit a value function that sees what a policy of `policy` sees.

    Randomness comes from the seed alone: torch's global generator is left as it was.

    Args:
        records: Episodes; those that nobody judged are left out.
        open_part: Returns the part of a sha256.
        policy: Cameras, sizes and words.
        config: How.
        progress: Called about every 20 steps with the share done; may raise to give up.

    Raises:
        NothingToFit: Fewer judged episodes than folds.
    """
    records = judged(records)
    if len(records) < config.folds:
        raise NothingToFit(f"{len(records)} judged episodes, {config.folds} are needed at least")
    fold = split_episodes(records, config.folds, np.random.default_rng(config.seed))
    values: dict[str, np.ndarray] = {}
    with torch.random.fork_rng(devices=[]):
        for run in range(config.folds + 1):
            frames = _Frames(
                [r for r, f in zip(records, fold.tolist(), strict=True) if f != run],
                open_part,
                policy,
                config,
            )
            fitted, loss = _fit(frames, config, run, progress)
            for position in np.flatnonzero(fold == run).tolist():
                record = records[position]
                values[record.uid] = values_of(
                    fitted, record, open_part, action_dim=policy.action_dim
                )
    by_task = rank_correlations(records, values)
    known = [rho for rho in by_task.values() if np.isfinite(rho)]
    return ValueFit(
        value=fitted,
        values=values,
        by_task=by_task,
        correlation=float(np.mean(known)) if known else float("nan"),
        episodes=len(records),
        frames=sum(len(record) for record in records),
        loss=loss,
    )


def rank_correlations(
    records: Sequence[EpisodeRecord], values: dict[str, np.ndarray]
) -> dict[str, float]:
    """Return Spearman's correlation of value and return by task, over all frames of its episodes.

    By task, because returns are normalised by task: across tasks a correlation would also count
    how long each usually takes.
    """
    sides: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {}
    for record in records:
        failure = penalty_share(record.outcome)
        if failure is None or record.uid not in values:
            continue
        value, target = sides.setdefault(record.task, ([], []))
        value.append(values[record.uid])
        target.append(returns(len(record), failure=failure, t_max=record.timeout_ticks))
    return {
        task: spearman(np.concatenate(value), np.concatenate(target))
        for task, (value, target) in sides.items()
    }


class _Frames:
    """Frames of some episodes with their returns, drawn by task uniformly."""

    def __init__(
        self,
        records: Sequence[EpisodeRecord],
        open_part: OpenPart,
        policy: PolicyConfig,
        config: FitConfig,
    ) -> None:
        self.shape = value_config(policy, width=config.width)
        self.buffer: ReplayBuffer = frames_buffer(
            self.shape, open_part, action_dim=policy.action_dim
        )
        self.states = []
        rows: dict[str, list[np.ndarray]] = {}
        targets, first = [], 0
        for record in records:
            self.buffer.add(record)
            self.states += [open_part(span.sha256).array("state") for span in record.parts]
            seen = record.has_image if self.shape.cameras else np.ones(len(record), bool)
            rows.setdefault(record.task, []).append(first + np.flatnonzero(seen))
            targets.append(
                returns(
                    len(record),
                    failure=penalty_share(record.outcome) or 0.0,
                    t_max=record.timeout_ticks,
                )
            )
            first += len(record)
        self.rows = [found for own in rows.values() if len(found := np.concatenate(own))]
        self.target = torch.from_numpy(np.concatenate(targets))


def _fit(
    frames: _Frames, config: FitConfig, run: int, progress: Callable[[float], None]
) -> tuple[ValueFunction, float]:
    if not frames.rows:
        raise NothingToFit("no judged episode has a picture")
    generator = np.random.default_rng([config.seed, run])
    torch.manual_seed(int(generator.integers(2**62)))
    value = ValueFunction(frames.shape)
    value.normalizer.fit(*state_statistics(frames.states))
    optimiser = torch.optim.AdamW(
        value.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
    value.train()
    losses = []
    for step in range(config.steps):
        if step % 20 == 0:
            progress((run + step / config.steps) / (config.folds + 1))
        tasks = generator.integers(len(frames.rows), size=config.batch_size)
        share = generator.random(config.batch_size)
        rows = np.array(
            [
                frames.rows[t][int(u * len(frames.rows[t]))]
                for t, u in zip(tasks.tolist(), share.tolist(), strict=True)
            ]
        )
        loss = value.loss(frames.buffer.gather(rows, generator), frames.target[rows]).mean()
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return value.eval(), float(np.mean(losses[-max(1, config.steps // 10) :]))
