"""A policy without cameras, for fast tests and studies of many seeds. Never the shipped one."""

import torch
from torch import Tensor, nn

from learning.core.normalize import Normalizer
from learning.core.policies.base import PolicyConfig, register
from learning.core.policies.chunked import ChunkPolicy
from learning.core.policies.encoders import TEXT_DIM, TextEncoder
from learning.core.text import tokenize
from learning.core.types import Batch, Observation


@register("state")
class StatePolicy(ChunkPolicy):
    """Three layers over the (privileged) state and the instruction."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.normalizer = Normalizer(config.state_dim)
        self.text = TextEncoder(config.text_buckets)
        layers: list[nn.Module] = []
        size = config.state_dim + TEXT_DIM
        for _ in range(3):
            layers += [nn.Linear(size, config.width), nn.LayerNorm(config.width), nn.SiLU()]
            size = config.width
        head = nn.Sequential(*layers, nn.Linear(size, config.horizon * config.action_dim))
        self._end_with(head, reads=config.state_dim + TEXT_DIM, config=config)

    def forward(self, state: Tensor, tokens: Tensor, indicator: Tensor | None = None) -> Tensor:
        """Return the chunk [b, h, a], not yet clipped; `indicator`, int64 [b], as it is told."""
        return self.chunk(self.features(state, tokens), indicator)

    def features(self, state: Tensor, tokens: Tensor) -> Tensor:
        """Return what the head reads, [b, f]."""
        return torch.cat((self.normalizer(state), self.text(tokens)), dim=1)  # (b, f)

    def _sensed(self, observation: Observation) -> Tensor:
        tokens = tokenize(observation.instruction, buckets=self.config.text_buckets)
        return self.features(
            torch.from_numpy(observation.state)[None].to(self.device),
            torch.tensor(tokens)[None].to(self.device),
        )

    def _sampled(self, batch: Batch) -> Tensor:
        return self.features(batch.state, batch.tokens)
