"""The sanity gate: what a policy must pass before robots are told to run it.

It catches weights that are broken, not weights that are bad: those show in evaluation. The learner
runs it before publishing on held-out observations, through `act`, which is what robots run.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from learning.core.policies.base import Policy
from learning.core.types import Observation

# A proposal may leave the limits by this share of their range; the robot clips it.
LIMIT_MARGIN = 0.1
# Proposals on different observations that differ by less than this share of the range are constant.
LEAST_SPREAD = 1e-4

# Exploded weights pin nearly every clipped proposal to a limit; experts do so with some.
MOST_PINNED = 0.95


@dataclass(frozen=True, slots=True)
class GateResult:
    """Whether a policy may be published, and why not; `low` and `high` are over all proposals."""

    passed: bool
    reason: str = ""
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


def sanity_gate(
    policy: Policy, held_out: Sequence[Observation], last_loss: float | None = None
) -> GateResult:
    """Check that losses and weights are finite and that the proposals make sense.

    Args:
        policy: In eval mode.
        held_out: Observations no learner trains on, of several moments; none skips what needs them.
        last_loss: Loss of the last step; None where there is none.

    Returns:
        The first reason to refuse, or a pass. Proposals must be finite, stay within the limits
        widened by LIMIT_MARGIN, not all lie on a limit, and differ between observations.
    """
    if last_loss is not None and not math.isfinite(last_loss):
        return GateResult(False, f"the last loss is {last_loss}")
    for name, tensor in policy.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return GateResult(False, f"weights of {name} are not finite")
    if not held_out:
        return GateResult(True)
    chunks = [policy.act(observation)[0].numpy() for observation in held_out]
    proposals = np.stack(chunks).astype(np.float64)  # (n, h, a)
    if not np.isfinite(proposals).all():
        return GateResult(False, "a proposed action is not finite")
    config = policy.config
    floor = np.asarray(config.action_low or np.full(config.action_dim, -1.0))
    ceiling = np.asarray(config.action_high or np.full(config.action_dim, 1.0))
    low, high = proposals.min((0, 1)), proposals.max((0, 1))
    spread = np.ptp(proposals, axis=0) / (ceiling - floor)  # (h, a)
    margin = LIMIT_MARGIN * (ceiling - floor)
    outside = np.flatnonzero((low < floor - margin) | (high > ceiling + margin)).tolist()
    pinned = ((proposals <= floor) | (proposals >= ceiling)).mean()
    reason = ""
    if outside:
        reason = f"proposals leave the limits of action components {outside}"
    elif len(held_out) > 1 and spread.max() < LEAST_SPREAD:
        reason = "proposals do not depend on the observation"
    elif pinned > MOST_PINNED:
        reason = f"{pinned:.0%} of the proposals lie on a limit"
    return GateResult(not reason, reason, tuple(low.tolist()), tuple(high.tolist()))
