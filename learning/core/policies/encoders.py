"""The parts image and state policies are built of: words, pictures, and how they are augmented."""

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from learning.core.parallel import whole_draw

TEXT_DIM = 32
# Share of an instruction's words hidden at random in training, so that no single word is needed.
WORD_DROPOUT = 0.1


class TextEncoder(nn.Module):
    """Hashed words → their mean → a small residual network."""

    def __init__(self, buckets: int, *, dim: int = TEXT_DIM) -> None:
        super().__init__()
        self.words = nn.Embedding(buckets, dim, padding_idx=0)
        # Small, so that words never trained on hardly move the mean of those that were.
        nn.init.normal_(self.words.weight, std=0.1)
        with torch.no_grad():
            self.words.weight[0] = 0
        self.mix = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Int[Tensor, "b l"]) -> Float[Tensor, "b d"]:
        """Return the text vector of each row of tokens; 0 pads, an empty row is the zero mean."""
        if self.training and torch.is_grad_enabled():
            # Drawn on the CPU, whose generator a checkpoint keeps.
            chance = whole_draw(lambda n: torch.rand(n, tokens.shape[1]), len(tokens))
            tokens = tokens * (chance >= WORD_DROPOUT).to(tokens.device)
        count = (tokens > 0).sum(1, keepdim=True).clamp_min(1)
        mean = self.words(tokens).sum(1) / count  # (b, d)
        return self.norm(mean + self.mix(mean))


def random_shift(images: UInt8[Tensor, "n c ih iw"], pad: int) -> UInt8[Tensor, "n c ih iw"]:
    """Move each picture by up to `pad` pixels either way, repeating its border.

    Draws from torch's global generator, so that a restored generator repeats it exactly. The
    result lies in memory with its channels last, as the encoder wants it.

    Source:
        DrQ (Kostrikov et al. 2020, arXiv:2004.13649), random shift.
    """
    n, c, height, width = images.shape
    corners = whole_draw(lambda rows: torch.randint(0, 2 * pad + 1, (rows, 2)), n)
    if images.device.type != "cpu":
        return _shifted(images, corners.to(images.device) - pad)
    source = images.numpy()
    padded = np.empty((n, height + 2 * pad, width + 2 * pad, c), np.uint8)
    for channel in range(c):
        padded[:, pad:-pad, pad:-pad, channel] = source[:, channel]
    padded[:, :pad, pad:-pad] = padded[:, pad : pad + 1, pad:-pad]
    padded[:, -pad:, pad:-pad] = padded[:, -pad - 1 : -pad, pad:-pad]
    padded[:, :, :pad] = padded[:, :, pad : pad + 1]
    padded[:, :, -pad:] = padded[:, :, -pad - 1 : -pad]
    out = np.empty((n, height, width, c), np.uint8)
    # One slice a picture: several times faster than one gather over all pixels.
    for i, (top, left) in enumerate(corners.tolist()):
        out[i] = padded[i, top : top + height, left : left + width]
    return torch.from_numpy(out).permute(0, 3, 1, 2)


def _shifted(
    images: UInt8[Tensor, "n c ih iw"], by: Int[Tensor, "n 2"]
) -> UInt8[Tensor, "n c ih iw"]:
    """Return each picture moved by its own (down, right), as one gather: for an accelerator."""
    n, _, height, width = images.shape
    row, column = (torch.arange(size, device=images.device) for size in (height, width))
    rows = (row + by[:, :1]).clamp(0, height - 1)  # (n, ih)
    columns = (column + by[:, 1:]).clamp(0, width - 1)  # (n, iw)
    picture = torch.arange(n, device=images.device)[:, None, None]
    out = images[picture, :, rows[:, :, None], columns[:, None, :]]  # (n, ih, iw, c)
    return out.permute(0, 3, 1, 2)


class ImageEncoder(nn.Module):
    """A small convolutional network whose later stages are modulated (FiLM) by a condition.

    The first stage is left plain: on a CPU its norm and modulation would cost as much as the
    convolutions, for edges and colours that are the same whatever the words say.
    Returns both where its feature maps are active (soft-argmax, good at positions) and the maps
    themselves (good at what is where).

    Source:
        FiLM (Perez et al. 2017, arXiv:1709.07871); spatial soft-argmax (Levine et al. 2015,
        arXiv:1504.00702).
    """

    def __init__(self, px: int, condition_dim: int) -> None:
        super().__init__()
        stages = ((32, 48, 3, 2), (48, 64, 3, 2))
        self.stem = nn.Conv2d(3, 32, 6, 4)
        # No bias: a norm follows.
        self.convs = nn.ModuleList(nn.Conv2d(i, o, k, s, bias=False) for i, o, k, s in stages)
        self.norms = nn.ModuleList(nn.GroupNorm(4, o) for _, o, _, _ in stages)
        films = [nn.Linear(condition_dim, 2 * o) for _, o, _, _ in stages]
        self.films = nn.ModuleList(films)
        for film in films:
            # FiLM starts as the identity.
            nn.init.zeros_(film.weight)
            nn.init.zeros_(film.bias)
        self.maps = nn.Conv2d(64, 16, 1)
        side = (px - 6) // 4 + 1
        for _, _, kernel, stride in stages:
            side = (side - kernel) // stride + 1
        at = torch.linspace(-1.0, 1.0, side)
        self.register_buffer("grid", torch.cartesian_prod(at, at), persistent=False)  # (side², 2)
        self.out_dim = 16 * side * side + 32

    def forward(
        self, images: Float[Tensor, "n c ih iw"], condition: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n f"]:
        """Return the features of each picture; values in [-1, 1] go in."""
        x = functional.relu(self.stem(images))
        for conv, norm, film in zip(self.convs, self.norms, self.films, strict=True):
            scale, shift = film(condition)[:, :, None, None].chunk(2, dim=1)
            x = functional.silu(norm(conv(x)) * (1 + scale) + shift)
        maps = self.maps(x).flatten(2)  # (n, 16, side²)
        where = maps.softmax(dim=2) @ self.grid  # (n, 16, 2)
        return torch.cat((maps.flatten(1), where.flatten(1)), dim=1)
