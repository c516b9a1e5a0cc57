"""One learner, one buffer, one sampler: a step draws, gathers, updates and reports.

Nothing here knows of databases, rounds or robots. Bit for bit on the CPU: N steps give the same
weights as k steps, a checkpoint, a restore into a buffer of the same episodes, and N - k steps.
"""

import time
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import torch

from learning.core.buffer import ReplayBuffer
from learning.core.checkpoint import (
    BadCheckpoint,
    Checkpoint,
    CheckpointMeta,
    decode_checkpoint,
    encode_checkpoint,
    generator_from,
    generator_state,
)
from learning.core.compute import Compute
from learning.core.learners.base import Learner, LearnerState, UpdateResult
from learning.core.ranks import Leader
from learning.core.sampler import Sampler, TaskMixture
from learning.core.types import Batch


class NothingToLearn(Exception):
    """The buffer holds no sample yet."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step did."""

    # Number of this step, from 1.
    step: int
    # Mean over the batch, and by (task, online) of those drawn.
    loss: float
    losses: dict[tuple[str, bool], float]
    # False when the learner skipped the step because something was not finite.
    applied: bool
    # How each task was split when the batch was drawn.
    mixtures: list[TaskMixture]
    # uids of the episodes that this step was the first to use.
    first_used: list[str]
    # Seconds spent getting the batch and computing the update.
    gather_s: float
    update_s: float
    scalars: dict[str, float]


class Trainer:
    """Steps a learner and can be stopped and resumed between any two steps."""

    def __init__(
        self,
        learner: Learner,
        buffer: ReplayBuffer,
        sampler: Sampler,
        *,
        seed: int,
        batch_size: int = 60,
        compute: Compute | None = None,
        leader: Leader | None = None,
    ) -> None:
        """Train `learner`, whose rules the buffer was built with, on draws from `seed`.

        Args:
            learner: Its policy is already where `compute` places it.
            buffer: Of the episodes to learn from.
            sampler: Mixes the batches.
            seed: Of draws and of augmentation.
            batch_size: Samples a step; with several ranks a multiple of their number.
            compute: Device and precision of the updates; None is float32 on the CPU.
            leader: Of the other ranks that compute each step with this process.
        """
        self.learner = learner
        self.buffer = buffer
        self.sampler = sampler
        self.batch_size = batch_size
        self.step_number = 0
        draws, noise = np.random.SeedSequence(seed).spawn(2)
        self._generator = np.random.Generator(np.random.PCG64(draws))
        # The learner draws from torch's global generator; a state of its own keeps whatever else
        # runs in this process (evaluation, the gate) from changing what it learns.
        own = torch.Generator().manual_seed(int(noise.generate_state(1, np.uint64)[0] >> 1))
        self._noise = own.get_state()
        self._used = np.zeros(0, bool)
        self._compute = compute or Compute()
        self._leader = leader
        if leader is not None:
            leader.build(learner, self._compute)

    def step(self) -> StepReport:
        """Take one step.

        Raises:
            NothingToLearn: The buffer holds no sample.
        """
        if not len(self.buffer):
            raise NothingToLearn("the buffer holds no sample")
        started = time.perf_counter()
        mixtures = self.sampler.mixtures(self.buffer)
        tasks, online = self.sampler.draw(self.buffer, self.batch_size, self._generator)
        rows = self.buffer.draw(tasks, online, self._generator)
        batch = self.buffer.gather(rows, self._generator)
        gathered = time.perf_counter()
        result, self._noise = self._update(batch)
        updated = time.perf_counter()
        self.step_number += 1
        loss = result.loss.double().cpu().numpy()
        losses = {}
        if result.applied:
            losses = self._losses(loss, tasks, online, batch.mask.any(1).numpy())
            for (task, side), mean in losses.items():
                self.sampler.observe(task, online=side, loss=mean)
        return StepReport(
            step=self.step_number,
            loss=float(loss.mean()),
            losses=losses,
            applied=result.applied,
            mixtures=mixtures,
            first_used=self._first_used(rows),
            gather_s=gathered - started,
            update_s=updated - gathered,
            scalars=result.scalars,
        )

    def _update(self, batch: Batch) -> tuple[UpdateResult, torch.Tensor]:
        if self._leader is None:
            return self._compute.update(self.learner, batch, self._noise)
        return self._leader.update(self.learner, batch, self._noise, self._compute)

    def _losses(
        self, loss: np.ndarray, tasks: np.ndarray, online: np.ndarray, learned: np.ndarray
    ) -> dict[tuple[str, bool], float]:
        """Return the mean loss by (task, online) over the samples that were learned from."""
        means = {}
        for task in np.unique(tasks).tolist():
            for side in (False, True):
                of_stratum = loss[(tasks == task) & (online == side) & learned]
                if len(of_stratum):
                    means[self.buffer.tasks[task], side] = float(of_stratum.mean())
        return means

    def _first_used(self, rows: np.ndarray) -> list[str]:
        episodes = np.unique(self.buffer.episodes_of(rows))
        if episodes[-1] >= len(self._used):
            more = np.zeros(int(episodes[-1]) * 5 // 4 + 64 - len(self._used), bool)
            self._used = np.concatenate([self._used, more])
        fresh = episodes[~self._used[episodes]]
        self._used[fresh] = True
        return [self.buffer.uid(episode) for episode in fresh.tolist()]

    def checkpoint(self) -> bytes:
        """Return everything it takes to go on from here, but the episodes."""
        state = self.learner.state()
        used = [UUID(self.buffer.uid(i)).bytes for i in np.flatnonzero(self._used).tolist()]
        tensors = {f"learner.{name}": tensor for name, tensor in state.tensors.items()}
        tensors["noise"] = self._noise
        tensors["used"] = torch.from_numpy(np.frombuffer(b"".join(used), np.uint8).copy())
        meta = CheckpointMeta(
            learner=self.learner.name,
            policy=self.learner.policy.config,
            step=self.step_number,
            counters=state.counters,
            sampler=self.sampler.state(),
            generator=generator_state(self._generator),
            cursor=self.buffer.cursor,
        )
        return encode_checkpoint(Checkpoint(meta, tensors))

    def restore(self, data: bytes) -> CheckpointMeta:
        """Go on from a checkpoint. Index the episodes up to its cursor first.

        Raises:
            BadCheckpoint: Rubbish, or of another learner, policy or sampler; nothing has changed
                then but possibly the learner's weights, so build the trainer anew.
        """
        checkpoint = decode_checkpoint(data)
        meta, tensors = checkpoint.meta, dict(checkpoint.tensors)
        if (meta.learner, meta.policy) != (self.learner.name, self.learner.policy.config):
            raise BadCheckpoint(f"of a {meta.learner} learner with another policy")
        generator = generator_from(meta.generator)
        try:
            noise, used = tensors.pop("noise"), tensors.pop("used")
            torch.Generator().set_state(noise)  # refuses what is no state
            own = {name.removeprefix("learner."): tensor for name, tensor in tensors.items()}
            self.sampler.load_state(meta.sampler)
            self.learner.load_state(LearnerState(own, meta.counters))
        except (KeyError, ValueError, RuntimeError, TypeError) as error:
            raise BadCheckpoint(f"does not fit: {error}") from None
        if self._leader is not None:
            self._leader.load(self.learner.state())
        self.step_number = meta.step
        self._generator = generator
        self._noise = noise
        self._used = np.zeros(self.buffer.stats().episodes, bool)
        for uid in used.numpy().reshape(-1, 16):
            episode = self.buffer.episode(str(UUID(bytes=uid.tobytes())))
            if episode is not None:
                self._used[episode] = True
        return meta
