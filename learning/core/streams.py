"""Two streams of outcomes that go on side by side: which has the lower rate, at any moment.

The unpaired companion of `comparisons.evidence_against_equal`: one version's episodes against
another's, from different robots and seeds. Evidence is a product of bets that were fixed before
their outcomes, so it may be looked at after every episode (Ville 1939). Pure functions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Beta(½, ½) behind each stream's estimate, as in `comparisons.py`.
_PRIOR = 0.5


@dataclass(frozen=True, slots=True)
class Evidence:
    """How much was ever won by betting on either direction; ≥ 1/α refutes its hypothesis."""

    # Against "the second stream's rate is at least the first's": it is lower.
    lower: float
    # Against "the second stream's rate is at most the first's": it is higher.
    higher: float
    # Blocks that were bet on.
    blocks: int


def block_evidence(
    first: Sequence[bool],
    second: Sequence[bool],
    *,
    first_rate: float,
    second_rate: float,
) -> float:
    """Return the e-variable of one block: how much better two rates explain it than one.

    With n₁ and n₂ outcomes and θ₀ = (n₁θ₁ + n₂θ₂)/(n₁ + n₂) it is
    Π p(y; θ₁)/p(y; θ₀) over the first times Π p(y; θ₂)/p(y; θ₀) over the second. When both streams
    have one rate, whichever, its expectation is at most 1. If θ₂ < θ₁ that also holds wherever the
    second stream's rate is at least the first's: each factor's expectation is linear in its
    stream's rate, rising with the first and falling with the second. (the latter step is ours)

    Raises:
        ValueError: A rate outside the open interval (0, 1), or no outcome at all.

    Source:
        Turner, Ly and Grünwald, Generic E-variables for exact sequential k-sample tests
        (arXiv 2106.02693), for two Bernoulli streams.
    """
    if not (0 < first_rate < 1 and 0 < second_rate < 1):
        raise ValueError(f"{first_rate} and {second_rate} are no rates to bet on")
    n = len(first) + len(second)
    pooled = (len(first) * first_rate + len(second) * second_rate) / n if n else math.nan
    if math.isnan(pooled):
        raise ValueError("a block has outcomes")
    return math.exp(_log_bet(first, first_rate, pooled) + _log_bet(second, second_rate, pooled))


def _log_bet(outcomes: Sequence[bool], rate: float, pooled: float) -> float:
    won = sum(outcomes)
    lost = len(outcomes) - won
    return won * math.log(rate / pooled) + lost * math.log((1 - rate) / (1 - pooled))


def evidence_of_difference(
    first: Sequence[bool], second: Sequence[bool], *, block: tuple[int, int] = (1, 1)
) -> Evidence:
    """Return the most evidence that there ever was for either direction.

    Outcomes are taken in their order, in blocks of `block[0]` of the first stream and `block[1]`
    of the second; what does not fill a block waits. Each block is bet on with the rates estimated
    from the blocks before it, and not at all while they point the other way. If the second rate
    is not lower, `lower` ever reaches 1/α with a probability of at most α, however often one
    looks; the same for `higher`.

    Args:
        first: Outcomes of the first stream, oldest first.
        second: Outcomes of the second.
        block: Sizes, fixed beforehand; near to how much faster one stream is than the other.

    Raises:
        ValueError: A block size below 1.

    Source:
        As `block_evidence`; the estimates are the posterior means of a Beta(½, ½).
    """
    a, b = block
    if min(block) < 1:
        raise ValueError(f"blocks of {block}")
    blocks = min(len(first) // a, len(second) // b)
    # Logarithms of the running products, and the largest each has been.
    product = {"lower": 0.0, "higher": 0.0}
    most = dict(product)
    won_1 = won_2 = 0
    for i in range(blocks):
        ys, zs = first[i * a : (i + 1) * a], second[i * b : (i + 1) * b]
        rate_1 = (won_1 + _PRIOR) / (i * a + 2 * _PRIOR)
        rate_2 = (won_2 + _PRIOR) / (i * b + 2 * _PRIOR)
        if rate_1 != rate_2:
            way = "lower" if rate_2 < rate_1 else "higher"
            bet = block_evidence(ys, zs, first_rate=rate_1, second_rate=rate_2)
            product[way] += math.log(bet)
            most[way] = max(most[way], product[way])
        won_1 += sum(ys)
        won_2 += sum(zs)
    return Evidence(
        lower=math.exp(min(700.0, most["lower"])),
        higher=math.exp(min(700.0, most["higher"])),
        blocks=blocks,
    )
