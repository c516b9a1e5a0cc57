"""From a policy that proposes chunks to one action a tick."""

import numpy as np

from fleet.agent.drivers.base import Reading
from learning.core.policies.base import Policy
from learning.core.types import Observation


class ChunkController:
    """Executes the first actions of each chunk, then infers again from a fresh image.

    Used by the agent and by offline rollouts, so that an evaluation acts exactly as a robot does.
    """

    def __init__(self, policy: Policy, *, execute: int | None = None) -> None:
        self._policy = policy
        self._execute = min(execute or policy.config.execute, policy.config.horizon)
        self.reset()

    def guide(self, *, evaluation: bool) -> None:
        """Choose the policy's guidance for what the next episode is for."""
        self._policy.guide(evaluation=evaluation)

    def reset(self) -> None:
        """Drop the pending chunk; the next proposal is inferred anew."""
        self._chunk: np.ndarray | None = None  # (h, a)
        self._doubt = float("nan")
        self._next = 0

    @property
    def wants_image(self) -> bool:
        """Whether the next `propose` infers, and so needs the images of its tick."""
        infers = self._chunk is None or self._next >= self._execute
        return infers and bool(self._policy.config.cameras)

    @property
    def pending(self) -> np.ndarray | None:
        """What follows the last proposal in its chunk, float32 (h, a); None before the first."""
        return None if self._chunk is None else self._chunk[self._next :]

    def propose(self, reading: Reading, instruction: str) -> tuple[np.ndarray, float, int]:
        """Return (float32 (a,) action, doubt, its index in the chunk) for this tick."""
        if self._chunk is None or self._next >= self._execute:
            chunk, self._doubt = self._policy.act(
                Observation(images=reading.images, state=reading.state, instruction=instruction)
            )
            self._chunk = chunk.detach().numpy()
            self._next = 0
        index = self._next
        self._next += 1
        return np.array(self._chunk[index], np.float32), self._doubt, index
