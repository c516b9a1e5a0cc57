"""Axis letters and the values that pass between buffer, sampler, policy and learner.

Axes: `b` batch, `t` time in steps, `h` action-chunk horizon, `a` action dimension, `s` state
dimension, `k` cameras, `c ih iw` image channels, height, width, `l` words of an instruction,
`n` value bins, `*` leading axes. Images are uint8 CHW here, float32 only inside a network.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from learning.core.checked import typechecked
from learning.core.records import Indicator

__all__ = ["Batch", "Indicator", "Observation", "typechecked"]


@dataclass(frozen=True, slots=True)
class Observation:
    """What a policy acts on: uint8 HWC images by camera, float32 (s,) state, and words."""

    images: dict[str, np.ndarray]
    state: np.ndarray
    instruction: str


@dataclass(slots=True)
class Batch:
    """Training samples. `mask` marks the steps of the action chunk that are targets."""

    # uint8 [b, k, c, ih, iw]; k = 0 for a state policy.
    images: UInt8[Tensor, "b k c ih iw"]
    state: Float[Tensor, "b s"]
    # Hashed words of the instruction, 0 pads.
    tokens: Int[Tensor, "b l"]
    # Executed actions of the chunk, in the action's unit.
    action: Float[Tensor, "b h a"]
    mask: Bool[Tensor, "b h"]
    # Index of the task in the buffer's list of tasks, and where the sample came from.
    task: Int[Tensor, " b"]
    online: Bool[Tensor, " b"]
    # Row of the sample in the frame index, for lineage and metrics.
    row: Int[Tensor, " b"]
    # `Indicator` of the step the sample starts at; None where nobody derived any.
    indicator: Int[Tensor, " b"] | None = None
    # Who acted at the sample's first step (`ControlLabel`); None where nobody recorded it.
    label: Int[Tensor, " b"] | None = None
    # What people marked it as (`SpanMark`); None where nobody recorded it.
    mark: Int[Tensor, " b"] | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Return the fields that are there, by name."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {name: tensor for name, tensor in fields.items() if tensor is not None}

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on `device`."""
        return Batch(**{name: tensor.to(device) for name, tensor in self.tensors().items()})
