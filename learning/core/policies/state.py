"""A policy without cameras, for fast tests and studies of many seeds. Never the shipped one."""

import math

import torch
from torch import Tensor, nn

from learning.core.normalize import Normalizer
from learning.core.policies.base import Policy, PolicyConfig, register
from learning.core.policies.doubt_heads import doubt_heads
from learning.core.policies.encoders import TEXT_DIM, TextEncoder
from learning.core.policies.image import BETA, chunk_loss
from learning.core.policies.prompt import IndicatorPrompt, guided
from learning.core.text import tokenize
from learning.core.types import Batch, Observation


@register("state")
class StatePolicy(Policy):
    """Three layers over the (privileged) state and the instruction."""

    low: Tensor
    high: Tensor

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
        self.prompt = IndicatorPrompt(self.head) if config.indicator else None
        # Made last: with and without it the rest starts from the same draws.
        self.doubt = doubt_heads(config.state_dim + TEXT_DIM, config)
        low = torch.tensor(config.action_low or (-math.inf,) * config.action_dim)
        high = torch.tensor(config.action_high or (math.inf,) * config.action_dim)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)

    def forward(self, state: Tensor, tokens: Tensor, indicator: Tensor | None = None) -> Tensor:
        """Return the chunk [b, h, a], not yet clipped; `indicator`, int64 [b], as it is told."""
        return self._chunk(self.features(state, tokens), indicator)

    def features(self, state: Tensor, tokens: Tensor) -> Tensor:
        """Return what the head reads, [b, f]."""
        return torch.cat((self.normalizer(state), self.text(tokens)), dim=1)  # (b, f)

    def _chunk(self, features: Tensor, indicator: Tensor | None) -> Tensor:
        if self.prompt is None or indicator is None:
            out = self.head(features)
        else:
            out = self.prompt(self.head, features, indicator)
        return out.reshape(-1, self.config.horizon, self.config.action_dim)

    @torch.inference_mode()
    def act(self, observation: Observation) -> tuple[Tensor, float]:
        """Return the clipped chunk [h, a] on the CPU, and the ensemble's doubt if there is one."""
        tokens = tokenize(observation.instruction, buckets=self.config.text_buckets)
        features = self.features(
            torch.from_numpy(observation.state)[None].to(self.device),
            torch.tensor(tokens)[None].to(self.device),
        )
        if self.prompt is None:
            chunk = self._chunk(features, None)[0]
        else:
            chunk = guided(
                lambda told: self._chunk(features.expand(len(told), -1), told), self.beta, self.told
            )
        chunk = chunk.clamp(self.low, self.high).cpu()
        if self.doubt is None:
            return chunk, math.nan
        return chunk, self.doubt.doubt(features, self.low, self.high, execute=self.config.execute)

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of each sample [b]; in training mode words are augmented."""
        features = self.features(batch.state, batch.tokens)
        loss = chunk_loss(self._chunk(features, batch.indicator), batch)
        if self.doubt is None:
            return loss
        return self.doubt.add_loss(loss, features, batch, beta=BETA)
