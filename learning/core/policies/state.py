"""A policy without cameras, for fast tests and studies of many seeds. Never the shipped one."""

import math

import torch
from torch import Tensor, nn

from learning.core.normalize import Normalizer
from learning.core.policies.base import Policy, PolicyConfig, register
from learning.core.policies.encoders import TEXT_DIM, TextEncoder
from learning.core.policies.image import chunk_loss
from learning.core.text import tokenize
from learning.core.types import Batch, Observation


@register("state")
class StatePolicy(Policy):
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
        self.head = nn.Sequential(*layers, nn.Linear(size, config.horizon * config.action_dim))
        low = torch.tensor(config.action_low or (-math.inf,) * config.action_dim)
        high = torch.tensor(config.action_high or (math.inf,) * config.action_dim)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)

    def forward(self, state: Tensor, tokens: Tensor) -> Tensor:
        """Return the chunk [b, h, a], not yet clipped."""
        out = self.head(torch.cat((self.normalizer(state), self.text(tokens)), dim=1))
        return out.reshape(-1, self.config.horizon, self.config.action_dim)

    @torch.inference_mode()
    def act(self, observation: Observation) -> tuple[Tensor, float]:
        """Return the clipped chunk [h, a]; this policy computes no doubt."""
        tokens = tokenize(observation.instruction, buckets=self.config.text_buckets)
        chunk = self(torch.from_numpy(observation.state)[None], torch.tensor(tokens)[None])[0]
        return chunk.clamp(self.low, self.high), math.nan

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of each sample [b]; in training mode words are augmented."""
        return chunk_loss(self(batch.state, batch.tokens), batch)
