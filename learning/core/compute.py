"""Where and in which precision a learner computes: options that are used when they are there."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from learning.core.learners.base import Learner, UpdateResult
from learning.core.policies.base import Policy
from learning.core.types import Batch

log = logging.getLogger(__name__)

# What torch.compile compiles with.
_BACKEND = "inductor"


@dataclass(frozen=True, slots=True)
class Compute:
    """How updates are computed. The defaults are plain float32 on the CPU."""

    # "cuda" computes on the CPU where there is no GPU, and says so once.
    device: Literal["cpu", "cuda"] = "cpu"
    # Forward pass in bfloat16 where that is safe; weights, optimiser and averages stay float32.
    bf16: bool = False
    # Compile the policy's parts; the first steps take a minute. Needs a C++ compiler on the CPU.
    compile: bool = False

    @property
    def torch_device(self) -> torch.device:
        """The device that is used."""
        there = self.device != "cuda" or torch.cuda.is_available()
        return torch.device(self.device if there else "cpu")

    def place(self, policy: Policy) -> Policy:
        """Return `policy` on the device, compiled if asked for. Call it before a learner has it."""
        device = self.torch_device
        if device.type != self.device:
            log.warning("there is no GPU here: learning on the CPU")
        if self.compile and device.type == "cpu" and shutil.which("c++") is None:
            log.warning("there is no C++ compiler here: learning without torch.compile")
        elif self.compile:
            # In place and by part: names of weights stay, copies are not compiled, and what
            # augments pictures on the CPU stays out of the graphs.
            for part in policy.children():
                part.compile(backend=_BACKEND)
        return policy.to(device) if device.type != "cpu" else policy

    def update(self, learner: Learner, batch: Batch, noise: Tensor) -> tuple[UpdateResult, Tensor]:
        """Take one step of `learner` with torch's generator in state `noise`.

        Returns:
            The result, and the generator's state after it. The global generator is left alone.
        """
        device = self.torch_device
        with torch.random.fork_rng(devices=[]), self._precision(device):
            torch.set_rng_state(noise)
            result = learner.update(batch if device.type == "cpu" else batch.to(device))
            return result, torch.get_rng_state()

    @contextmanager
    def _precision(self, device: torch.device) -> Iterator[None]:
        if not self.bf16:
            yield
            return
        # No cache of cast weights: it would outlive an optimiser's step inside one update.
        with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
            yield
