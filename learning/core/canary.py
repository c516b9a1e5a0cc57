"""The verdict on a candidate that runs on a few robots while the incumbent runs on the others.

Two measures: success without a person's help, and episodes with a takeover. Harm and improvement
are shown by evidence that holds at every look (`streams.py`); at a number of episodes declared
beforehand a candidate that is not worse beyond a margin is taken. Pure functions over outcomes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

from learning.core.comparisons import unpaired_difference
from learning.core.statistics import Score
from learning.core.streams import Evidence, evidence_of_difference


class Verdict(StrEnum):
    """Why a canary ends; the first two promote the candidate."""

    BETTER = "better"
    NOT_WORSE = "not_worse"
    FEWER_SUCCESSES = "fewer_successes"
    MORE_TAKEOVERS = "more_takeovers"
    NOT_SHOWN = "not_shown"
    TIMED_OUT = "timed_out"

    @property
    def promotes(self) -> bool:
        """Whether the candidate becomes the fleet's version."""
        return self in (Verdict.BETTER, Verdict.NOT_WORSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is declared before the first episode."""

    # Wrong claims of harm at most, over both measures and all looks; the same of improvement.
    alpha: float = 0.05
    # How much worse still counts as "not worse", as a share of episodes.
    margin: float = 0.15
    # Episodes of each arm at which it is decided at the latest.
    episodes: int = 100
    # Episodes of incumbent and candidate that are compared as one block.
    block: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True)
class Arm:
    """What was seen of one version, oldest first."""

    # Success without a takeover, of every episode that counts.
    succeeded: tuple[bool, ...]
    # Whether a person drove, of those in which a person could have.
    taken_over: tuple[bool, ...]

    @property
    def success(self) -> Score:
        """Episodes that succeeded."""
        return Score(sum(self.succeeded), len(self.succeeded))

    @property
    def takeovers(self) -> Score:
        """Episodes with a takeover."""
        return Score(sum(self.taken_over), len(self.taken_over))


@dataclass(frozen=True, slots=True)
class Standing:
    """How a canary stands: both arms, the evidence, and the verdict if there is one."""

    incumbent: Arm
    candidate: Arm
    success: Evidence
    takeovers: Evidence
    # What either piece of evidence must reach.
    decisive: float
    verdict: Verdict | None


def stand(incumbent: Arm, candidate: Arm, terms: Terms, *, time_is_up: bool = False) -> Standing:
    """Compare two arms; the verdict is None while the canary is to go on.

    Each of the two measures is tested at α/2. Called again with more episodes it may say more, and
    never takes a verdict on harm back: evidence counts by the most that it ever was.

    Args:
        incumbent: The arm it is compared with.
        candidate: The arm that is judged.
        terms: What was declared.
        time_is_up: The time limit has passed: there is a verdict, whatever there is to see.
    """
    success = _evidence(incumbent.succeeded, candidate.succeeded, terms)
    takeovers = _evidence(incumbent.taken_over, candidate.taken_over, terms)
    decisive = 2 / terms.alpha
    verdict: Verdict | None = None
    if success.lower >= decisive:
        verdict = Verdict.FEWER_SUCCESSES
    elif takeovers.higher >= decisive:
        verdict = Verdict.MORE_TAKEOVERS
    elif max(success.higher, takeovers.lower) >= decisive and _not_worse(
        incumbent, candidate, terms
    ):
        verdict = Verdict.BETTER
    elif min(len(incumbent.succeeded), len(candidate.succeeded)) >= terms.episodes:
        verdict = (
            Verdict.NOT_WORSE if _not_worse(incumbent, candidate, terms) else Verdict.NOT_SHOWN
        )
    elif time_is_up:
        verdict = Verdict.TIMED_OUT
    return Standing(incumbent, candidate, success, takeovers, decisive, verdict)


def _evidence(incumbent: Sequence[bool], candidate: Sequence[bool], terms: Terms) -> Evidence:
    return evidence_of_difference(incumbent, candidate, block=terms.block)


def _not_worse(incumbent: Arm, candidate: Arm, terms: Terms) -> bool:
    # One-sided at α each: to be called worse in neither, both must be refuted.
    z = NormalDist().inv_cdf(1 - terms.alpha)
    lowest, _ = unpaired_difference(incumbent.success, candidate.success, z=z)
    _, highest = unpaired_difference(incumbent.takeovers, candidate.takeovers, z=z)
    if not candidate.taken_over and not incumbent.taken_over:
        # Every episode was held out: nobody could have taken over.
        highest = 0.0
    return lowest > -terms.margin and highest < terms.margin


def blocks_for(
    incumbent_robots: int, candidate_robots: int, *, largest: int = 8
) -> tuple[int, int]:
    """Return the block that fits how many robots each arm has: both ends of it at least 1."""
    if candidate_robots <= incumbent_robots:
        return min(largest, max(1, round(incumbent_robots / max(1, candidate_robots)))), 1
    return 1, min(largest, max(1, round(candidate_robots / max(1, incumbent_robots))))
