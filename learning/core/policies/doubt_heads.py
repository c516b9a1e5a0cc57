"""An ensemble of small heads beside the one that acts: they disagree where data was thin.

The members never act and never move the trunk: they read its features without a gradient. What
makes them differ is the cheap standard: each starts from its own weights and learns from its own
half of the data.

Source:
    HG-DAgger (arXiv:1810.02890) takes doubt from an ensemble of policies; heads on a shared trunk
    with bootstrap masks are Bootstrapped DQN's (Osband et al. 2016, arXiv:1602.04621).
    Departures: the mask falls on blocks of consecutive steps, and the trunk gets no gradient.
"""

import msgspec
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from learning.core.doubt import doubt_of
from learning.core.policies.base import Policy, PolicyConfig, build_policy
from learning.core.types import Batch

# A member has or lacks this many consecutive steps (as a power of two) of the buffer together.
# Neighbouring steps are alike: masked one by one, every member would know about the same.
BLOCK_BITS = 6


def bootstrap_mask(row: Int[Tensor, " b"], members: int) -> Bool[Tensor, "b m"]:
    """Say which members learn from which samples: about half each, the same at every draw.

    Hashed from the row, so that it needs no memory and no random generator.
    """
    block = row >> BLOCK_BITS
    key = block[:, None] * members + torch.arange(members, device=row.device)  # (b, m)
    for _ in range(2):
        key = ((key ^ (key >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    return ((key ^ (key >> 16)) & 1).bool()


def doubt_heads(size: int, config: PolicyConfig) -> "DoubtHeads | None":
    """Return the ensemble over `size` features that a configuration asks for, None for none."""
    if not config.doubt_heads:
        return None
    return DoubtHeads(
        size,
        members=config.doubt_heads,
        width=config.doubt_width,
        horizon=config.horizon,
        actions=config.action_dim,
    )


class DoubtHeads(nn.Module):
    """`members` networks of one hidden layer, computed together."""

    def __init__(self, size: int, *, members: int, width: int, horizon: int, actions: int) -> None:
        super().__init__()
        self._shape = (members, horizon, actions)
        self.inner = nn.Linear(size, members * width)
        self.outer = nn.Parameter(torch.randn(members, width, horizon * actions) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(members, 1, horizon * actions))

    def forward(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b m h a"]:
        """Return each member's chunk; the trunk that made the features gets no gradient."""
        members, horizon, actions = self._shape
        # The trunk's features have any scale, and it moves as the trunk trains.
        x = functional.layer_norm(features.detach(), features.shape[1:])
        hidden = functional.silu(self.inner(x)).reshape(len(x), members, -1)  # (b, m, w)
        out = torch.baddbmm(self.bias, hidden.transpose(0, 1), self.outer)  # (m, b, h a)
        return out.transpose(0, 1).reshape(-1, members, horizon, actions)

    def add_loss(
        self,
        loss: Float[Tensor, " b"],
        features: Float[Tensor, "b f"],
        batch: Batch,
        *,
        beta: float,
    ) -> Float[Tensor, " b"]:
        """Return `loss` with its value unchanged and the members' gradient in it.

        Smooth-L1 with the transition at `beta`, as the head that acts has it; each member counts
        the samples of its own bootstrap.
        """
        target = batch.action[:, None].expand(-1, self._shape[0], -1, -1)
        error = functional.smooth_l1_loss(self(features), target, beta=beta, reduction="none")
        mask = batch.mask.to(error.dtype)  # (b, h)
        chosen = bootstrap_mask(batch.row, self._shape[0])  # (b, m)
        each = (error.mean(3) * mask[:, None]).sum(2) / mask.sum(1).clamp_min(1)[:, None]  # (b, m)
        own = (each * chosen).sum(1)
        # What the sampler and the curves see is the policy's own loss.
        return loss + (own - own.detach())

    def doubt(
        self, features: Float[Tensor, "1 f"], low: Tensor, high: Tensor, *, execute: int
    ) -> float:
        """Return d(o) over the members' actions that would be executed, clipped to the limits."""
        chunks = self(features)[0].clamp(low, high)  # (m, h, a)
        return doubt_of(chunks[:, :execute].flatten(1).cpu().numpy())


def with_doubt(policy: Policy, members: int, *, seed: int) -> Policy:
    """Return `policy` with an untrained ensemble of `members` beside its head.

    It acts as before, to the bit, and trains what it trained, and the ensemble. A policy that has
    that many already, and 0, change nothing.

    Args:
        policy: Of a kind whose network builds `doubt_heads`.
        members: How many.
        seed: Of the members' first weights; the global generator is left alone.

    Raises:
        ValueError: This kind of policy computes no doubt.
    """
    if members in (0, policy.config.doubt_heads):
        return policy
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        grown = build_policy(msgspec.structs.replace(policy.config, doubt_heads=members))
    own = {k: v for k, v in policy.state_dict().items() if not k.startswith("doubt.")}
    missing, _ = grown.load_state_dict(own, strict=False)
    if not missing or any(not name.startswith("doubt.") for name in missing):
        raise ValueError(f"a policy of kind {policy.config.kind!r} computes no doubt")
    for name, parameter in policy.named_parameters():
        if name in own:
            grown.get_parameter(name).requires_grad_(parameter.requires_grad)
    return grown.to(policy.device).train(policy.training)
