"""The shipped policy: two cameras, proprioception and an instruction in; an action chunk out.

It is never given the goal's position, an object's position or a task's name: only what a real
robot of this kind would have.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from learning.core.decode import stack_images
from learning.core.normalize import Normalizer
from learning.core.policies.base import Policy, PolicyConfig, register
from learning.core.policies.doubt_heads import doubt_heads
from learning.core.policies.encoders import TEXT_DIM, ImageEncoder, TextEncoder, random_shift
from learning.core.policies.prompt import IndicatorPrompt, guided
from learning.core.text import tokenize
from learning.core.types import Batch, Observation

# Where smooth-L1 turns from quadratic to linear, in the action's unit.
BETA = 0.1
SHIFT_PX = 4


def chunk_loss(chunk: Tensor, batch: Batch) -> Tensor:
    """Return smooth-L1 of each sample, [b]: the mean over the action steps its mask marks."""
    error = functional.smooth_l1_loss(chunk, batch.action, beta=BETA, reduction="none").mean(
        2
    )  # (b, h)
    mask = batch.mask.to(error.dtype)
    return (error * mask).sum(1) / mask.sum(1).clamp_min(1)


@register("image")
class ImagePolicy(Policy):
    """Regresses the chunk; one encoder for all cameras, told by FiLM which one it looks through.

    A chunk, and executing part of it before looking again: ACT (Zhao et al. 2023,
    arXiv:2304.13705), without its latent and its temporal ensemble.
    """

    low: Tensor
    high: Tensor

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        k = len(config.cameras)
        self.normalizer = Normalizer(config.state_dim)
        self.text = TextEncoder(config.text_buckets)
        self.encoder = ImageEncoder(config.image_px, TEXT_DIM + k)
        # Pictures move fastest on CPU with their channels last.
        self.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        size = k * self.encoder.out_dim + config.state_dim + TEXT_DIM
        self.head = nn.Sequential(
            nn.Linear(size, config.width),
            nn.LayerNorm(config.width),
            nn.SiLU(),
            nn.Linear(config.width, config.width),
            nn.SiLU(),
            nn.Linear(config.width, config.horizon * config.action_dim),
        )
        self.prompt = IndicatorPrompt(self.head) if config.indicator else None
        # Made last: with and without it the rest starts from the same draws.
        self.doubt = doubt_heads(size, config)
        self.camera: Tensor
        self.register_buffer("camera", torch.eye(k), persistent=False)  # (k, k)
        low = torch.tensor(config.action_low or (-math.inf,) * config.action_dim)
        high = torch.tensor(config.action_high or (math.inf,) * config.action_dim)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)

    def forward(
        self, images: Tensor, state: Tensor, tokens: Tensor, indicator: Tensor | None = None
    ) -> Tensor:
        """Return the chunk [b, h, a], not yet clipped, for uint8 images [b, k, c, ih, iw].

        `indicator`, int64 [b], is what each sample is told of its advantage.
        """
        return self._chunk(self.features(images, state, tokens), indicator)

    def _chunk(self, features: Tensor, indicator: Tensor | None) -> Tensor:
        if self.prompt is None or indicator is None:
            out = self.head(features)
        else:
            out = self.prompt(self.head, features, indicator)
        return out.reshape(-1, self.config.horizon, self.config.action_dim)

    def features(self, images: Tensor, state: Tensor, tokens: Tensor) -> Tensor:
        """Return what the head reads, [b, f], for uint8 images [b, k, c, ih, iw]."""
        b, k = images.shape[:2]
        pixels = images.flatten(0, 1)
        if self.training and torch.is_grad_enabled():
            pixels = random_shift(pixels, SHIFT_PX)
        # Reordered while still bytes, and scaled in place: a third of the time.
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        x = pixels.float().mul_(1 / 127.5).sub_(1.0)  # (b k, c, ih, iw)
        text = self.text(tokens)  # (b, d)
        condition = torch.cat(
            (text.repeat_interleave(k, 0), self.camera.repeat(b, 1)), dim=1
        )  # (b k, d + k)
        features = self.encoder(x, condition).reshape(b, -1)
        return torch.cat((features, self.normalizer(state), text), dim=1)  # (b, f)

    @torch.inference_mode()
    def act(self, observation: Observation) -> tuple[Tensor, float]:
        """Return the clipped chunk [h, a] on the CPU, and the ensemble's doubt if there is one.

        Raises:
            BadImage: A camera of the configuration is missing, or its image is too small.
        """
        images = stack_images(observation.images, self.config.cameras, self.config.image_px)
        tokens = tokenize(observation.instruction, buckets=self.config.text_buckets)
        features = self.features(
            torch.from_numpy(images)[None].to(self.device),
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
        """Return the loss of each sample [b]; in training mode pictures and words are augmented."""
        features = self.features(batch.images, batch.state, batch.tokens)
        loss = chunk_loss(self._chunk(features, batch.indicator), batch)
        if self.doubt is None:
            return loss
        return self.doubt.add_loss(loss, features, batch, beta=BETA)
