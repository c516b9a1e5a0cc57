"""The shipped policy: two cameras, proprioception and an instruction in; an action chunk out.

It is never given the goal's position, an object's position or a task's name: only what a real
robot of this kind would have.
"""

import torch
from torch import Tensor, nn

from learning.core.decode import stack_images
from learning.core.normalize import Normalizer
from learning.core.policies.base import PolicyConfig, register
from learning.core.policies.chunked import ChunkPolicy
from learning.core.policies.encoders import TEXT_DIM, ImageEncoder, TextEncoder, random_shift
from learning.core.text import tokenize
from learning.core.types import Batch, Observation

SHIFT_PX = 4


@register("image")
class ImagePolicy(ChunkPolicy):
    """One encoder for all cameras, told by FiLM which one it looks through."""

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
        head = nn.Sequential(
            nn.Linear(size, config.width),
            nn.LayerNorm(config.width),
            nn.SiLU(),
            nn.Linear(config.width, config.width),
            nn.SiLU(),
            nn.Linear(config.width, config.horizon * config.action_dim),
        )
        self.camera: Tensor
        self.register_buffer("camera", torch.eye(k), persistent=False)  # (k, k)
        self._end_with(head, reads=size, config=config)

    def forward(
        self, images: Tensor, state: Tensor, tokens: Tensor, indicator: Tensor | None = None
    ) -> Tensor:
        """Return the chunk [b, h, a], not yet clipped, for uint8 images [b, k, c, ih, iw].

        `indicator`, int64 [b], is what each sample is told of its advantage.
        """
        return self.chunk(self.features(images, state, tokens), indicator)

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

    def _sensed(self, observation: Observation) -> Tensor:
        images = stack_images(observation.images, self.config.cameras, self.config.image_px)
        tokens = tokenize(observation.instruction, buckets=self.config.text_buckets)
        return self.features(
            torch.from_numpy(images)[None].to(self.device),
            torch.from_numpy(observation.state)[None].to(self.device),
            torch.tensor(tokens)[None].to(self.device),
        )

    def _sampled(self, batch: Batch) -> Tensor:
        return self.features(batch.images, batch.state, batch.tokens)
