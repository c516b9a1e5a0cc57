"""Two streams compared at every look, and the verdict on a canary."""

import random

import pytest

from learning.core.canary import Arm, Terms, Verdict, blocks_for, stand
from learning.core.streams import block_evidence, evidence_of_difference

TERMS = Terms(alpha=0.05, margin=0.15, episodes=100)


def stream(rng: random.Random, rate: float, n: int) -> list[bool]:
    return [rng.random() < rate for _ in range(n)]


@pytest.mark.parametrize(
    ("first", "second", "rates", "value"),
    [
        # θ0 = (0.8 + 0.4) / 2 = 0.6: (0.8 / 0.6) (0.6 / 0.4) = 2.
        ([True], [False], (0.8, 0.4), 2.0),
        # (0.2 / 0.4) (0.4 / 0.6) = 1/3.
        ([False], [True], (0.8, 0.4), 1 / 3),
        # Two of the first, one of the second: θ0 = (2 · 0.8 + 0.2) / 3 = 0.6;
        # (0.8 / 0.6)² (0.8 / 0.4) = 32/9.
        ([True, True], [False], (0.8, 0.2), 32 / 9),
        ([True], [False], (0.5, 0.5), 1.0),
    ],
)
def test_a_block_has_the_evidence_worked_out_by_hand(first, second, rates, value):
    found = block_evidence(first, second, first_rate=rates[0], second_rate=rates[1])
    assert found == pytest.approx(value)


def test_the_first_block_is_no_bet_and_the_second_is_made_with_what_the_first_showed():
    # After one success against one failure the estimates are 3/4 and 1/4, pooled 1/2; the second
    # block (success, failure) then pays (3/4 / 1/2)² = 9/4, and the other direction nothing.
    found = evidence_of_difference([True, True], [False, False])
    assert (found.lower, found.higher, found.blocks) == (pytest.approx(9 / 4), 1.0, 2)
    turned = evidence_of_difference([False, False], [True, True])
    assert (turned.lower, turned.higher) == (1.0, pytest.approx(9 / 4))
    # What fills no block waits.
    assert evidence_of_difference([True, True, True], [False] * 2) == found
    assert evidence_of_difference([True] * 5, [False], block=(2, 2)).blocks == 0


@pytest.mark.parametrize("rates", [(0.0, 0.5), (0.5, 1.0), (1.5, 0.5)])
def test_rates_that_cannot_be_bet_on_are_refused(rates):
    with pytest.raises(ValueError, match="no rates"):
        block_evidence([True], [True], first_rate=rates[0], second_rate=rates[1])
    with pytest.raises(ValueError, match="blocks of"):
        evidence_of_difference([True], [True], block=(0, 1))


@pytest.mark.parametrize("rates", [(0.5, 0.5), (0.9, 0.9), (0.4, 0.6)])
@pytest.mark.parametrize("block", [(1, 1), (4, 1)])
def test_a_stream_that_is_not_lower_is_called_lower_at_most_once_in_twenty(rates, block):
    rng = random.Random(20260102)
    tried = 400
    wrong = 0
    for _ in range(tried):
        first = stream(rng, rates[0], 200 * block[0])
        second = stream(rng, rates[1], 200 * block[1])
        wrong += evidence_of_difference(first, second, block=block).lower >= 20
    # The bound is 0.05; 400 tries of a rate of 0.05 stay below 0.085 in 999 of 1000.
    assert wrong / tried <= 0.05 if rates[0] == rates[1] else wrong == 0


def test_a_stream_that_is_much_lower_is_found_out_and_soon():
    rng = random.Random(7)
    found = [
        evidence_of_difference(stream(rng, 0.8, 60), stream(rng, 0.3, 60)).lower >= 40
        for _ in range(100)
    ]
    assert sum(found) >= 90


def arm(won: int, n: int, taken: int = 0) -> Arm:
    """Successes and takeovers spread evenly, as a steady version has them."""
    spread = [(i + 1) * won // n > i * won // n for i in range(n)] if n else []
    driven = [(i + 1) * taken // n > i * taken // n for i in range(n)] if n else []
    return Arm(tuple(spread), tuple(driven))


@pytest.mark.parametrize(
    ("incumbent", "candidate", "time_is_up", "verdict"),
    [
        (arm(0, 0), arm(0, 0), False, None),
        (arm(8, 10), arm(7, 10), False, None),
        (arm(8, 10), arm(7, 10), True, Verdict.TIMED_OUT),
        (arm(48, 60), arm(6, 60), False, Verdict.FEWER_SUCCESSES),
        # Harm counts before anything else, also before the time.
        (arm(48, 60), arm(6, 60), True, Verdict.FEWER_SUCCESSES),
        (arm(48, 60, 3), arm(48, 60, 45), False, Verdict.MORE_TAKEOVERS),
        (arm(6, 60), arm(48, 60), False, Verdict.BETTER),
        (arm(48, 60, 45), arm(48, 60, 3), False, Verdict.BETTER),
        (arm(80, 100), arm(80, 100), False, Verdict.NOT_WORSE),
        (arm(80, 100), arm(71, 100), False, Verdict.NOT_SHOWN),
        # The incumbent alone does not make the number.
        (arm(80, 100), arm(71, 99), False, None),
    ],
)
def test_the_verdict_follows_from_what_was_declared(incumbent, candidate, time_is_up, verdict):
    found = stand(incumbent, candidate, TERMS, time_is_up=time_is_up)
    assert found.verdict == verdict
    assert verdict is None or verdict.promotes == (verdict in (Verdict.BETTER, Verdict.NOT_WORSE))


def test_better_at_one_thing_does_not_excuse_what_is_not_shown_at_the_other():
    # More successes beyond doubt, but takeovers went from 5 to 15 of 60: not shown to be harmless.
    found = stand(arm(6, 60, 5), arm(48, 60, 15), TERMS)
    assert found.success.higher >= found.decisive
    assert found.verdict is None


@pytest.mark.parametrize(
    ("robots", "block"),
    [((4, 1), (4, 1)), ((3, 3), (1, 1)), ((1, 3), (1, 3)), ((100, 1), (8, 1)), ((1, 1), (1, 1))],
)
def test_blocks_fit_the_robots_of_each_arm(robots, block):
    assert blocks_for(*robots) == block
