"""From an episode and a value function to the value of each of its steps.

What is made of them, without a network, is in `learning.core.sidecar`.
"""

import dataclasses

import numpy as np

from learning.core.buffer import DECODED_BYTES, ReplayBuffer
from learning.core.payload import OpenPart
from learning.core.policies.base import PolicyConfig
from learning.core.records import EpisodeRecord
from learning.core.value import ValueConfig, ValueFunction

# Frames valued at once.
_CHUNK = 256


class FrameRules:
    """Rules of a buffer whose every frame with pictures can be drawn: for value functions."""

    def targets(self, record: EpisodeRecord) -> np.ndarray:
        """Return all steps."""
        return np.ones(len(record), bool)

    def samples(self, record: EpisodeRecord) -> np.ndarray:
        """Return all steps."""
        return np.ones(len(record), bool)


def frames_buffer(
    config: ValueConfig,
    open_part: OpenPart,
    *,
    action_dim: int,
    cache_bytes: int = DECODED_BYTES,
) -> ReplayBuffer:
    """Return an empty buffer of frames for a value function of `config`."""
    shape = PolicyConfig(
        kind="value",
        state_dim=config.state_dim,
        action_dim=action_dim,
        cameras=config.cameras,
        image_px=config.image_px,
        text_buckets=config.text_buckets,
        horizon=1,
    )
    return ReplayBuffer(shape, FrameRules(), open_part, cache_bytes=cache_bytes)


def values_of(
    value: ValueFunction, record: EpisodeRecord, open_part: OpenPart, *, action_dim: int
) -> np.ndarray:
    """Return V at each step of an episode, float32 (t,).

    A step without a picture has the value of the last one with a picture.

    Raises:
        BadEpisode: As `open_part` raises it.
    """
    # Only the words and the parts matter here, not why the episode was run.
    record = dataclasses.replace(record, purpose="train", complete=True)
    # Each frame is read once: what is kept would only cost.
    buffer = frames_buffer(value.config, open_part, action_dim=action_dim, cache_bytes=1)
    buffer.add(record)
    seen = record.has_image if value.config.cameras else np.ones(len(record), bool)
    rows = np.flatnonzero(seen)
    if not len(rows):
        return np.full(len(record), -0.5, np.float32)
    generator = np.random.default_rng(0)  # which wording is read: always the same
    found = [
        value.value(buffer.gather(rows[i : i + _CHUNK], generator)).numpy()
        for i in range(0, len(rows), _CHUNK)
    ]
    latest = np.maximum(np.cumsum(seen) - 1, 0)
    filled: np.ndarray = np.concatenate(found)[latest]
    return np.asarray(filled, np.float32)
