"""What policies share that regress an action chunk from features of what the robot senses."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from learning.core.policies.base import Policy, PolicyConfig
from learning.core.policies.doubt_heads import doubt_heads
from learning.core.policies.prompt import IndicatorPrompt, guided
from learning.core.types import Batch, Observation

# Where smooth-L1 turns from quadratic to linear, in the action's unit.
BETA = 0.1


def chunk_loss(chunk: Tensor, batch: Batch) -> Tensor:
    """Return smooth-L1 of each sample, [b]: the mean over the action steps its mask marks."""
    error = functional.smooth_l1_loss(chunk, batch.action, beta=BETA, reduction="none")  # (b, h, a)
    mask = batch.mask.to(error.dtype)
    return (error.mean(2) * mask).sum(1) / mask.sum(1).clamp_min(1)


class ChunkPolicy(Policy):
    """Regresses the chunk; a subclass says what the head reads.

    A chunk, and executing part of it before looking again: ACT (Zhao et al. 2023,
    arXiv:2304.13705), without its latent and its temporal ensemble.
    """

    low: Tensor
    high: Tensor

    def _end_with(self, head: nn.Sequential, *, reads: int, config: PolicyConfig) -> None:
        """Add the head, which reads `reads` features, and what goes with it. Called last."""
        self.head = head
        self.prompt = IndicatorPrompt(head) if config.indicator else None
        # Made last: with and without it the rest starts from the same draws.
        self.doubt = doubt_heads(reads, config)
        low = torch.tensor(config.action_low or (-math.inf,) * config.action_dim)
        high = torch.tensor(config.action_high or (math.inf,) * config.action_dim)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)

    def _sensed(self, observation: Observation) -> Tensor:
        """Return the features of one observation, [1, f]."""
        raise NotImplementedError

    def _sampled(self, batch: Batch) -> Tensor:
        """Return the features of a batch, [b, f]."""
        raise NotImplementedError

    def chunk(self, features: Tensor, indicator: Tensor | None) -> Tensor:
        """Return the chunk [b, h, a], not yet clipped; `indicator`, int64 [b], as it is told."""
        if self.prompt is None or indicator is None:
            out = self.head(features)
        else:
            out = self.prompt(self.head, features, indicator)
        return out.reshape(-1, self.config.horizon, self.config.action_dim)

    @torch.inference_mode()
    def act(self, observation: Observation) -> tuple[Tensor, float]:
        """Return the clipped chunk [h, a] on the CPU, and the ensemble's doubt if there is one.

        Raises:
            BadImage: A camera of the configuration is missing, or its image is too small.
        """
        features = self._sensed(observation)
        if self.prompt is None:
            chunk = self.chunk(features, None)[0]
        else:
            chunk = guided(
                lambda told: self.chunk(features.expand(len(told), -1), told), self.beta, self.told
            )
        chunk = chunk.clamp(self.low, self.high).cpu()
        if self.doubt is None:
            return chunk, math.nan
        return chunk, self.doubt.doubt(features, self.low, self.high, execute=self.config.execute)

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of each sample [b]; in training mode inputs are augmented."""
        features = self._sampled(batch)
        loss = chunk_loss(self.chunk(features, batch.indicator), batch)
        if self.doubt is None:
            return loss
        return self.doubt.add_loss(loss, features, batch, beta=BETA)
