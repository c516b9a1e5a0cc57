"""RECAP's value function: how far from the end of a successful episode a moment looks.

A distribution over 201 values between -1 (the longest failure) and 0 (done), trained as a
classifier on two-hot targets and read as its mean; conditioned on the task by the words of its
instruction. It sees what the policy sees.

Source:
    RECAP (pi*0.6, arXiv:2511.14759): categorical value function of 201 bins, cross-entropy.
    Departure: a small network of its own, of the policy's encoders, in place of a language model.
"""

from typing import Annotated

import msgspec
import torch
from jaxtyping import Float
from msgspec import Meta
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.nn import functional

from learning.core.decode import stack_images
from learning.core.normalize import Normalizer
from learning.core.policies.base import PolicyConfig, in_order
from learning.core.policies.encoders import TEXT_DIM, ImageEncoder, TextEncoder, random_shift
from learning.core.text import tokenize
from learning.core.types import Batch, Observation, typechecked

BINS = 201
SHIFT_PX = 4
# Of the artifact: another number means that values are read in another way. Absent is 1.
FORMAT = "1"
MAX_VALUE_BYTES = 256 * 1024**2


class BadValueFunction(ValueError):
    """Bytes that are not a value function this code can run."""


class ValueConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything needed to rebuild the network."""

    state_dim: Annotated[int, Meta(ge=1, le=256)]
    cameras: tuple[str, ...] = ()
    image_px: Annotated[int, Meta(ge=16, le=512)] = 64
    width: Annotated[int, Meta(ge=8, le=4096)] = 128
    text_buckets: Annotated[int, Meta(ge=16, le=65536)] = 512


def value_config(policy: PolicyConfig, *, width: int = 128) -> ValueConfig:
    """Return the configuration of a value function that sees what a policy sees."""
    return ValueConfig(
        state_dim=policy.state_dim,
        cameras=policy.cameras,
        image_px=policy.image_px,
        width=width,
        text_buckets=policy.text_buckets,
    )


@typechecked
def bin_centres(bins: int = BINS) -> Float[Tensor, " n"]:
    """Return the value of each bin: evenly from -1 to 0, both included."""
    return torch.linspace(-1.0, 0.0, bins)


@typechecked
def two_hot(target: Float[Tensor, " b"], *, bins: int = BINS) -> Float[Tensor, "b n"]:
    """Return targets as distributions over the two nearest bins, whose mean is the target.

    Args:
        target: Values in [-1, 0]; what lies outside is clipped.
        bins: How many.
    """
    at = (target.clamp(-1.0, 0.0) + 1.0) * (bins - 1)  # in bins
    below = at.floor().clamp(max=bins - 2).long()
    share = (at - below).unsqueeze(1)  # (b, 1), of the upper bin
    hot = torch.zeros(len(target), bins, device=target.device)
    hot.scatter_(1, below.unsqueeze(1), 1.0 - share)
    return hot.scatter_(1, below.unsqueeze(1) + 1, share)


class ValueFunction(nn.Module):
    """Pictures, state and words in; logits over the bins out."""

    centres: Tensor
    camera: Tensor

    def __init__(self, config: ValueConfig) -> None:
        super().__init__()
        self.config = config
        k = len(config.cameras)
        self.normalizer = Normalizer(config.state_dim)
        self.text = TextEncoder(config.text_buckets)
        size = config.state_dim + TEXT_DIM
        self.encoder = None
        if k:
            self.encoder = ImageEncoder(config.image_px, TEXT_DIM + k)
            self.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            size += k * self.encoder.out_dim
        self.head = nn.Sequential(
            nn.Linear(size, config.width),
            nn.LayerNorm(config.width),
            nn.SiLU(),
            nn.Linear(config.width, config.width),
            nn.LayerNorm(config.width),
            nn.SiLU(),
            nn.Linear(config.width, BINS),
        )
        self.register_buffer("camera", torch.eye(k), persistent=False)  # (k, k)
        self.register_buffer("centres", bin_centres(), persistent=False)

    def forward(self, images: Tensor, state: Tensor, tokens: Tensor) -> Tensor:
        """Return logits [b, n] for uint8 images [b, k, c, ih, iw], k = 0 without cameras."""
        text = self.text(tokens)  # (b, d)
        parts = [self.normalizer(state), text]
        if self.encoder is not None:
            b, k = images.shape[:2]
            pixels = images.flatten(0, 1)
            if self.training and torch.is_grad_enabled():
                pixels = random_shift(pixels, SHIFT_PX)
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            x = pixels.sub(127.5).mul_(1 / 127.5)  # (b k, c, ih, iw)
            told = torch.cat((text.repeat_interleave(k, 0), self.camera.repeat(b, 1)), dim=1)
            parts.append(self.encoder(x, told).reshape(b, -1))
        return self.head(torch.cat(parts, dim=1))  # type: ignore[no-any-return]

    @torch.inference_mode()
    def value(self, batch: Batch) -> Tensor:
        """Return V(o) of each sample, float32 [b] in [-1, 0]."""
        logits = self(batch.images, batch.state, batch.tokens)
        return torch.as_tensor(logits.softmax(dim=1) @ self.centres)

    @torch.inference_mode()
    def value_at(self, observation: Observation) -> float:
        """Return V(o) of one observation, in [-1, 0]; NaN from broken weights.

        Raises:
            BadImage: A camera of the configuration is missing, or its image is too small.
        """
        config = self.config
        images = stack_images(observation.images, config.cameras, config.image_px)  # (k, c, ih, iw)
        tokens = tokenize(observation.instruction, buckets=config.text_buckets)
        logits = self(
            torch.from_numpy(images)[None],
            torch.from_numpy(observation.state)[None],
            torch.tensor(tokens)[None],
        )
        return float((logits.softmax(dim=1) @ self.centres).clamp(-1.0, 0.0)[0])

    def loss(self, batch: Batch, target: Tensor) -> Tensor:
        """Return the cross-entropy of each sample [b] against returns [b]."""
        logits = self(batch.images, batch.state, batch.tokens)
        return functional.cross_entropy(logits, two_hot(target), reduction="none")


def save_value(value: ValueFunction) -> bytes:
    """Return a value function as safetensors, with its configuration in the metadata."""
    tensors = {k: v.detach().contiguous().cpu() for k, v in value.state_dict().items()}
    metadata = {"value": msgspec.json.encode(value.config).decode(), "format": FORMAT}
    return in_order(save_tensors(tensors, metadata))


def load_value(data: bytes) -> ValueFunction:
    """Rebuild a value function, in eval mode.

    Raises:
        BadValueFunction: Not safetensors, no or wrong configuration, tensors that do not fit it,
            values that are not finite, or a format of another version of this code.
    """
    try:
        size = int.from_bytes(data[:8], "little")
        header = msgspec.json.decode(data[8 : 8 + size], type=dict)
        metadata = header["__metadata__"]
        if (found := metadata.get("format", FORMAT)) != FORMAT:
            raise BadValueFunction(f"its format is {found}, this code reads {FORMAT}")
        config = msgspec.json.decode(metadata["value"], type=ValueConfig)
        value = ValueFunction(config)
        tensors = load_tensors(data)
        value.load_state_dict(tensors)
    except BadValueFunction:
        raise
    except Exception as error:  # safetensors, msgspec and torch each raise their own kinds
        raise BadValueFunction(f"not a value function: {error}") from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise BadValueFunction(f"weights of {name} are not finite")
    return value.eval()
