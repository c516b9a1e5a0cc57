"""Is one version better than another, and when is there enough to say so.

Fixed numbers of trials are compared exactly: McNemar on the same seeds, Fisher on different ones.
Running trials are stopped by a betting argument that may be looked at after every block: a
non-negative martingale under the hypothesis exceeds 1/α with a probability of at most α, ever
(Ville 1939). Pure functions over counts; nothing here is asymptotic but `paired_difference`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from learning.core.statistics import Z95, Score, wilson

# Wrong decisions at most, per comparison.
ALPHA = 0.05
# Beta(½, ½): the mixture that loses least against every rate (Jeffreys, Krichevsky-Trofimov).
_PRIOR = 0.5

RateDecision = Literal["above", "below"]
PairDecision = Literal["first", "second"]


@dataclass(frozen=True, slots=True)
class Paired:
    """Outcomes of two versions on the same tasks and seeds, counted by pair."""

    both: int
    first_only: int
    second_only: int
    neither: int

    def __post_init__(self) -> None:
        if min(self.both, self.first_only, self.second_only, self.neither) < 0:
            raise ValueError(f"negative counts: {self}")

    @property
    def pairs(self) -> int:
        """Number of pairs."""
        return self.both + self.first_only + self.second_only + self.neither

    @property
    def first(self) -> Score:
        """The first version's score."""
        return Score(self.both + self.first_only, self.pairs)

    @property
    def second(self) -> Score:
        """The second version's score."""
        return Score(self.both + self.second_only, self.pairs)

    @property
    def difference(self) -> float:
        """Second rate minus first rate; NaN without pairs."""
        return (self.second_only - self.first_only) / self.pairs if self.pairs else math.nan


def pair_up(first: Sequence[bool], second: Sequence[bool]) -> Paired:
    """Return the counts of two aligned sequences of outcomes. Raises ValueError for lengths."""
    pairs = list(zip(first, second, strict=True))
    return Paired(
        both=sum(a and b for a, b in pairs),
        first_only=sum(a and not b for a, b in pairs),
        second_only=sum(b and not a for a, b in pairs),
        neither=sum(not a and not b for a, b in pairs),
    )


def mcnemar(paired: Paired) -> float:
    """Return the two-sided p-value that the two versions succeed equally often.

    Exact: given their number, discordant pairs are fair coins under the hypothesis, and
    p = min(1, 2 Σ_{k≤min} C(n, k) / 2ⁿ). Without discordant pairs it is 1.

    Source:
        McNemar (1947), in the binomial form. Valid for a number of trials fixed beforehand; for a
        comparison that was stopped early use `evidence_against_equal`.
    """
    discordant = paired.first_only + paired.second_only
    fewer = min(paired.first_only, paired.second_only)
    tail = sum(math.comb(discordant, k) for k in range(fewer + 1))
    return float(min(1.0, 2 * tail / 2**discordant))


def paired_difference(paired: Paired, *, z: float = Z95) -> tuple[float, float]:
    """Return an interval of the second rate minus the first, on the same seeds.

    Newcombe's square-and-add of two Wilson intervals, with the correlation of the pairs. (-1, 1)
    without pairs.

    Source:
        R. G. Newcombe (1998), Improved confidence intervals for the difference between binomial
        proportions based on paired data, method 10 (φ with his continuity correction).
    """
    n = paired.pairs
    if n == 0:
        return -1.0, 1.0
    first, second = paired.first, paired.second
    low_1, high_1 = wilson(first.successes, n, z=z)
    low_2, high_2 = wilson(second.successes, n, z=z)
    phi = _correlation(paired)
    d_low, d_high = second.rate - low_2, high_2 - second.rate
    e_low, e_high = first.rate - low_1, high_1 - first.rate
    difference = second.rate - first.rate
    below = math.sqrt(max(0.0, d_low**2 - 2 * phi * d_low * e_high + e_high**2))
    above = math.sqrt(max(0.0, d_high**2 - 2 * phi * d_high * e_low + e_low**2))
    return max(-1.0, difference - below), min(1.0, difference + above)


def _correlation(paired: Paired) -> float:
    n = paired.pairs
    won_1, won_2 = paired.first.successes, paired.second.successes
    margins = won_1 * (n - won_1) * won_2 * (n - won_2)
    if margins == 0:
        return 0.0
    product = float(paired.both * paired.neither - paired.first_only * paired.second_only)
    if product > 0:
        product = max(0.0, product - n / 2)
    return product / math.sqrt(margins)


def unpaired_difference(first: Score, second: Score, *, z: float = Z95) -> tuple[float, float]:
    """Return an interval of the second rate minus the first, on different seeds.

    Source:
        R. G. Newcombe (1998), Interval estimation for the difference between independent
        proportions, method 10. 48 of 80 against 56 of 70 gives .0524 to .3339.
    """
    if not first.trials or not second.trials:
        return -1.0, 1.0
    low_1, high_1 = wilson(first.successes, first.trials, z=z)
    low_2, high_2 = wilson(second.successes, second.trials, z=z)
    difference = second.rate - first.rate
    below = math.hypot(second.rate - low_2, high_1 - first.rate)
    above = math.hypot(high_2 - second.rate, first.rate - low_1)
    return max(-1.0, difference - below), min(1.0, difference + above)


def fisher(worse: Score, better: Score) -> float:
    """Return the one-sided p-value that `worse` succeeds as often as `better` on other seeds.

    Exact: the probability of at most as many successes of `worse`, given all margins.

    Source:
        R. A. Fisher (1935), The Design of Experiments; the hypergeometric tail.
    """
    total = worse.trials + better.trials
    won = worse.successes + better.successes
    fewest = max(0, won - better.trials)
    tail = sum(
        math.comb(worse.trials, k) * math.comb(better.trials, won - k)
        for k in range(fewest, worse.successes + 1)
    )
    return float(tail / math.comb(total, won))


# ---- stopping when decided -----------------------------------------------------------------------


def evidence_against_rate(score: Score, rate: float) -> float:
    """Return how much better a learned rate bets on these trials than `rate`; ≥ 1/α refutes it.

    The mixture likelihood ratio ∫ Π q^x(1-q)^(1-x) dBeta(½,½) / Π rate^x(1-rate)^(1-x).

    Under "the success rate is `rate`" its expectation is at most 1 at every look, so
    P(it ever reaches 1/α) ≤ α, however often one looks. That also holds where tasks differ and
    `rate` is their mean, if one looks only when every task has had the same seeds: over such a
    block the expectation is Π_m f(p_m) ≤ f(mean p)^M = 1 for an f linear in p.

    Source:
        Ville (1939); Robbins (1970), Statistical methods related to the law of the iterated
        logarithm. The blocks are ours (inequality of arithmetic and geometric means).
    """
    return math.exp(min(700.0, _log_evidence(score.successes, score.trials, rate)))


def _log_evidence(won: int, tried: int, rate: float) -> float:
    if not 0 <= rate <= 1:
        raise ValueError(f"{rate} is no rate")
    lost = tried - won
    if (rate == 0 and won) or (rate == 1 and lost):
        return math.inf
    under = (won * math.log(rate) if won else 0.0) + (lost * math.log1p(-rate) if lost else 0.0)
    return _log_beta(_PRIOR + won, _PRIOR + lost) - _log_beta(_PRIOR, _PRIOR) - under


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def anytime_interval(score: Score, *, alpha: float = ALPHA) -> tuple[float, float]:
    """Return an interval of the rate that holds at every look together, with 1 - `alpha`.

    A confidence sequence: all rates that `evidence_against_rate` has not refuted. Wider than
    Wilson's, which holds at one look fixed beforehand.
    """
    if score.trials == 0:
        return 0.0, 1.0
    limit = -math.log(alpha)

    def edge(inside: float, outside: float) -> float:
        # The evidence is convex in the rate, with its least at the observed one.
        if _log_evidence(score.successes, score.trials, outside) < limit:
            return outside
        for _ in range(60):
            middle = (inside + outside) / 2
            if _log_evidence(score.successes, score.trials, middle) < limit:
                inside = middle
            else:
                outside = middle
        return inside

    return edge(score.rate, 0.0), edge(score.rate, 1.0)


def decide_rate(score: Score, *, target: float, alpha: float = ALPHA) -> RateDecision | None:
    """Say whether success is above or below `target`, or None while it is not decided.

    At most a share `alpha` of comparisons at which success *is* the target is ever decided, and at
    most that share of the others is decided the wrong way, whatever the number of looks.
    """
    if score.trials == 0 or evidence_against_rate(score, target) < 1 / alpha:
        return None
    return "above" if score.rate > target else "below"


def evidence_against_equal(paired: Paired) -> float:
    """Return the evidence that one version succeeds more often on the same seeds; ≥ 1/α decides.

    Of each discordant pair either version is the winner with probability ½ when they are equal, so
    this is `evidence_against_rate` of those pairs at ½.
    """
    discordant = paired.first_only + paired.second_only
    return evidence_against_rate(Score(paired.second_only, discordant), 0.5)


def decide_pair(paired: Paired, *, alpha: float = ALPHA) -> PairDecision | None:
    """Say which version is better, or None while it is not decided.

    Of versions that are equal at most a share `alpha` is ever decided, whatever the number of
    looks; of versions that differ at most that share is decided the wrong way.
    """
    if evidence_against_equal(paired) < 1 / alpha:
        return None
    return "second" if paired.second_only > paired.first_only else "first"


# ---- forgetting ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Forgetting:
    """A task that the current version does worse than an earlier one, beyond chance."""

    # Position of the earlier version in what was compared, and its score.
    best: int
    earlier: Score
    current: Score
    # One-sided, after the correction for having compared with several versions; at most alpha.
    p_value: float


def forgotten(
    current: Score, earlier: Sequence[Score], *, alpha: float = ALPHA
) -> Forgetting | None:
    """Say whether a task's success fell below its best earlier version's, beyond chance.

    The current score is tested against every earlier one (`fisher`, one-sided); the smallest
    p-value times their number is compared with `alpha`. The correction is what makes "the best of
    many" fair: the best of ten equal versions looks good by luck alone. If no version was ever
    better, an alarm is raised with a probability of at most `alpha`.

    Source:
        Bonferroni over Fisher's exact test. (ours)
    """
    tried = [i for i, score in enumerate(earlier) if score.trials]
    if not tried or not current.trials:
        return None
    p_values = {i: fisher(current, earlier[i]) for i in tried}
    best = min(tried, key=lambda i: (p_values[i], -earlier[i].rate))
    p_value = min(1.0, p_values[best] * len(tried))
    if p_value > alpha or current.rate >= earlier[best].rate:
        return None
    return Forgetting(best, earlier[best], current, p_value)
