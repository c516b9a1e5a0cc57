"""How well two labellers agree beyond chance: Cohen's kappa with its interval. Without torch.

Sources:
    Cohen 1960, A coefficient of agreement for nominal scales. The standard error is the
    large-sample one of Fleiss, Cohen and Everitt 1969, Large sample standard errors of kappa and
    weighted kappa, for a kappa that is not assumed to be 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Two-sided 95 %.
_Z = 1.959964


@dataclass(frozen=True, slots=True)
class Agreement:
    """Kappa of `n` episodes judged twice; None where it is not defined."""

    n: int
    # Share of episodes judged the same.
    observed: float | None = None
    kappa: float | None = None
    # 95 % interval, within [-1, 1].
    low: float | None = None
    high: float | None = None


def cohens_kappa(pairs: Sequence[tuple[str, str]]) -> Agreement:
    """Return the agreement of two judgements an episode.

    kappa = (p_o - p_e) / (1 - p_e). It is not defined where both labellers only ever said one and
    the same thing: chance alone explains that.
    """
    n = len(pairs)
    if not n:
        return Agreement(0)
    names = sorted({name for pair in pairs for name in pair})
    p = np.zeros((len(names), len(names)))
    for first, second in pairs:
        p[names.index(first), names.index(second)] += 1
    p /= n
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    observed, expected = float(np.trace(p)), float(rows @ columns)
    if expected > 1.0 - 1e-12:
        return Agreement(n, observed)
    kappa = (observed - expected) / (1.0 - expected)
    own = np.diag(p) * (1.0 - (rows + columns) * (1.0 - kappa)) ** 2
    # p_ij meets the share of i among the second and of j among the first labeller's words.
    crossed = p * (columns[:, None] + rows[None, :]) ** 2
    off = crossed.sum() - np.trace(crossed)
    last = (kappa - expected * (1.0 - kappa)) ** 2
    variance = (own.sum() + (1.0 - kappa) ** 2 * off - last) / (n * (1.0 - expected) ** 2)
    margin = _Z * math.sqrt(max(0.0, float(variance)))
    return Agreement(n, observed, kappa, max(-1.0, kappa - margin), min(1.0, kappa + margin))
