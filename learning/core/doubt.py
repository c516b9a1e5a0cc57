"""Doubt: how much several proposals for the same observation differ, and when that is too much.

Numpy only, so that a web process may show the threshold without loading torch.

Source:
    HG-DAgger (Kelly et al. 2019, arXiv:1810.02890), eq. for d(o) and the threshold tau.
    Departure: the proposals are those of an ensemble of small heads on one shared trunk
    (learning/core/policies/doubt_heads.py) in place of whole networks.
"""

from collections.abc import Sequence

import numpy as np


def doubt_of(actions: np.ndarray) -> float:
    """Return d(o) = ||diag(C)||_2, C the covariance of `n` proposals, in the action's unit squared.

    Args:
        actions: float (n, a), one proposal a row.

    Raises:
        ValueError: Fewer than two proposals have no covariance.
    """
    if len(actions) < 2:
        raise ValueError("doubt needs at least two proposals")
    return float(np.linalg.norm(np.var(actions, axis=0, dtype=np.float64, ddof=1)))


def doubt_threshold(at_takeovers: Sequence[float]) -> float:
    """Return tau: the mean of the last quarter of the doubts logged at takeovers, at least one.

    Args:
        at_takeovers: Oldest first, in the action's unit squared.

    Raises:
        ValueError: There was no takeover yet.
    """
    if not at_takeovers:
        raise ValueError("no takeover was logged")
    last = max(1, len(at_takeovers) // 4)
    return float(np.mean(at_takeovers[-last:]))
