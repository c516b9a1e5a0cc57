"""A learner's resumable state as one safetensors file: tensors, and JSON in its metadata.

Never pickle: a checkpoint crosses processes and the object store. It holds no samples: those are
in the database and the store, and `cursor` says up to where they were indexed.
"""

from dataclasses import dataclass

import msgspec
import numpy as np
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from learning.core.policies.base import PolicyConfig
from learning.core.sampler import SamplerState

FORMAT_VERSION = 1


class BadCheckpoint(ValueError):
    """Bytes that are not a checkpoint, or one of another learner."""


class CheckpointMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What is not a tensor."""

    format_version: int = FORMAT_VERSION
    learner: str
    policy: PolicyConfig
    # Steps of the trainer so far.
    step: int
    # The learner's own counters.
    counters: dict[str, int]
    sampler: SamplerState
    # State of the generator of draws, see `generator_state`.
    generator: dict[str, str]
    # The highest `closed_seq` in the buffer; index the episodes up to it before resuming.
    cursor: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A decoded checkpoint; names of tensors are the trainer's and the learner's affair."""

    meta: CheckpointMeta
    tensors: dict[str, Tensor]


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Return a checkpoint as bytes."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in checkpoint.tensors.items()}
    meta = msgspec.json.encode(checkpoint.meta).decode()
    return bytes(save_tensors(tensors, {"checkpoint": meta}))


def decode_checkpoint(data: bytes) -> Checkpoint:
    """Return the checkpoint in `data`.

    Raises:
        BadCheckpoint: Not safetensors, cut short, or without the metadata of a checkpoint.
    """
    try:
        size = int.from_bytes(data[:8], "little")
        header = msgspec.json.decode(data[8 : 8 + size], type=dict)
        meta = msgspec.json.decode(header["__metadata__"]["checkpoint"], type=CheckpointMeta)
        tensors = load_tensors(data)
    except Exception as error:  # safetensors and msgspec each raise their own kinds
        raise BadCheckpoint(f"not a checkpoint: {error}") from None
    if meta.format_version != FORMAT_VERSION:
        raise BadCheckpoint(f"format {meta.format_version}, this code reads {FORMAT_VERSION}")
    return Checkpoint(meta, tensors)


def generator_state(generator: np.random.Generator) -> dict[str, str]:
    """Return the state of a PCG64 generator; as text, because its integers have 128 bits."""
    state = generator.bit_generator.state
    return {
        "state": str(state["state"]["state"]),
        "inc": str(state["state"]["inc"]),
        "has_uint32": str(state["has_uint32"]),
        "uinteger": str(state["uinteger"]),
    }


def generator_from(state: dict[str, str]) -> np.random.Generator:
    """Return a generator in `state`. Raises BadCheckpoint."""
    generator = np.random.Generator(np.random.PCG64())
    try:
        numbers = {name: int(value) for name, value in state.items()}
        generator.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": numbers["state"], "inc": numbers["inc"]},
            "has_uint32": numbers["has_uint32"],
            "uinteger": numbers["uinteger"],
        }
    except (KeyError, ValueError, OverflowError) as error:
        raise BadCheckpoint(f"not the state of a generator: {error}") from None
    return generator
