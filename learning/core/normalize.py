"""Normalisation of the proprioceptive state: constants of the data, buffers of the policy."""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

# A component that hardly moves in the data must not blow up when it does move, in the state's unit.
MIN_STD = 0.02
# Normalised values beyond this say nothing more.
LIMIT = 8.0


def state_statistics(states: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 mean and standard deviation (s,) over all steps of float32 (t, s) arrays.

    Raises:
        ValueError: There is no step at all.
    """
    arrays = [np.asarray(array, np.float64) for array in states]
    if not arrays:
        raise ValueError("no states to take statistics of")
    together = np.concatenate(arrays)  # (all t, s)
    std = np.maximum(together.std(axis=0), MIN_STD)
    return together.mean(axis=0).astype(np.float32), std.astype(np.float32)


class Normalizer(nn.Module):
    """Scale a state to about unit variance; the identity until `fit` is called."""

    mean: Tensor
    std: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))

    def fit(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Take over the constants of `state_statistics`."""
        self.mean.copy_(torch.from_numpy(mean))
        self.std.copy_(torch.from_numpy(std))

    def forward(self, state: Float[Tensor, "b s"]) -> Float[Tensor, "b s"]:
        """Return the normalised state, dimensionless, within ±`LIMIT`."""
        return ((state - self.mean) / self.std).clamp(-LIMIT, LIMIT)
