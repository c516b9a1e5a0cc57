"""Doubt: how much several proposals for the same observation differ, and when that is too much.

Source:
    HG-DAgger (Kelly et al. 2019, arXiv:1810.02890), eq. for d(o) and the threshold tau.
    Departure: the proposals may be samples of one stochastic policy in place of an ensemble's.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from learning.core.types import typechecked


@typechecked
def doubt_of(actions: Float[Tensor, "n a"]) -> float:
    """Return d(o) = ||diag(C)||_2, C the covariance of `n` proposals, in the action's unit squared.

    Raises:
        ValueError: Fewer than two proposals have no covariance.
    """
    if len(actions) < 2:
        raise ValueError("doubt needs at least two proposals")
    return float(actions.double().var(dim=0, correction=1).norm())


def doubt_threshold(at_takeovers: Sequence[float]) -> float:
    """Return tau: the mean of the last quarter of the doubts logged at takeovers, at least one.

    Raises:
        ValueError: There was no takeover yet.
    """
    if not at_takeovers:
        raise ValueError("no takeover was logged")
    last = max(1, len(at_takeovers) // 4)
    return float(np.mean(at_takeovers[-last:]))
