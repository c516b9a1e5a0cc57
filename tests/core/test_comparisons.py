import itertools
import math
import random
from fractions import Fraction

import pytest

from learning.core.comparisons import (
    Paired,
    anytime_interval,
    decide_pair,
    decide_rate,
    evidence_against_equal,
    evidence_against_rate,
    fisher,
    forgotten,
    mcnemar,
    pair_up,
    paired_difference,
    unpaired_difference,
)
from learning.core.statistics import Score

RUNS = 2000


def test_outcomes_are_counted_by_pair():
    first, second = [True, True, False, False, True], [True, False, True, False, True]
    assert pair_up(first, second) == Paired(both=2, first_only=1, second_only=1, neither=1)


def test_outcomes_of_different_length_cannot_be_paired():
    with pytest.raises(ValueError):
        pair_up([True], [True, False])


def test_a_pair_knows_both_scores_and_their_difference():
    paired = Paired(both=4, first_only=1, second_only=3, neither=2)
    assert (paired.first, paired.second) == (Score(5, 10), Score(7, 10))
    assert paired.difference == pytest.approx(0.2)


def test_negative_counts_are_refused():
    with pytest.raises(ValueError):
        Paired(0, -1, 0, 0)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (0, 6), (1, 9), (3, 4), (5, 5), (2, 11)])
def test_mcnemar_is_the_share_of_sign_patterns_at_least_as_extreme(b, c):
    # Every way the discordant pairs could have fallen, counted one by one.
    extreme = abs(b - c)
    patterns = list(itertools.product((1, -1), repeat=b + c))
    share = Fraction(sum(abs(sum(p)) >= extreme for p in patterns), len(patterns))
    assert mcnemar(Paired(7, b, c, 2)) == pytest.approx(float(share))


def test_mcnemar_of_nine_against_one_is_the_textbook_value():
    assert mcnemar(Paired(0, 1, 9, 0)) == pytest.approx(22 / 1024)


def test_pairs_that_agree_say_nothing():
    assert mcnemar(Paired(1000, 0, 0, 1000)) == 1.0


def test_the_paired_interval_is_the_published_one():
    # Newcombe 1998 (paired), table of examples: 36, 12, 2, 0 by method 10.
    assert paired_difference(Paired(36, 2, 12, 0)) == pytest.approx((0.0569, 0.3404), abs=5e-5)


@pytest.mark.parametrize(
    ("second", "first", "interval"),
    # Newcombe 1998 (independent), table of examples by method 10.
    [
        (Score(56, 70), Score(48, 80), (0.0524, 0.3339)),
        (Score(9, 10), Score(3, 10), (0.1705, 0.8090)),
        (Score(5, 56), Score(0, 29), (-0.0381, 0.1926)),
    ],
)
def test_the_unpaired_interval_is_the_published_one(second, first, interval):
    assert unpaired_difference(first, second) == pytest.approx(interval, abs=5e-5)


def test_without_trials_a_difference_may_be_anything():
    assert paired_difference(Paired(0, 0, 0, 0)) == (-1.0, 1.0)
    assert unpaired_difference(Score(0, 0), Score(1, 2)) == (-1.0, 1.0)


@pytest.mark.parametrize("counts", [(20, 0, 0, 0), (0, 0, 20, 0), (0, 0, 0, 3), (1, 0, 0, 0)])
def test_intervals_of_extreme_pairs_hold_the_difference_and_stay_in_range(counts):
    paired = Paired(*counts)
    low, high = paired_difference(paired)
    assert -1 <= low <= paired.difference <= high <= 1


def test_the_paired_interval_covers_the_difference_as_often_as_it_says():
    n, both, first, second = 24, 0.45, 0.1, 0.25
    covered = 0.0
    for a in range(n + 1):
        for b in range(n + 1 - a):
            for c in range(n + 1 - a - b):
                d = n - a - b - c
                ways = math.factorial(n) / math.prod(map(math.factorial, (a, b, c, d)))
                chance = ways * both**a * first**b * second**c * (1 - both - first - second) ** d
                low, high = paired_difference(Paired(a, b, c, d))
                covered += chance * (low <= second - first <= high)
    assert covered == pytest.approx(0.95, abs=0.025)


@pytest.mark.parametrize(
    ("worse", "better"),
    [(Score(1, 12), Score(9, 12)), (Score(2, 5), Score(3, 4)), (Score(3, 3), Score(3, 3))],
)
def test_fisher_is_the_share_of_ways_to_deal_the_successes(worse, better):
    won, total = worse.successes + better.successes, worse.trials + better.trials
    # Which trials succeeded, every way; the first ones are the worse version's.
    ways = list(itertools.combinations(range(total), won)) if total <= 10 else None
    if ways is None:
        # Of the study table (1, 9; 11, 3), in every textbook.
        assert fisher(worse, better) == pytest.approx(0.001379728, abs=1e-9)
    else:
        few = sum(sum(i < worse.trials for i in way) <= worse.successes for way in ways)
        assert fisher(worse, better) == pytest.approx(few / len(ways))


# ---- stopping when decided


def test_evidence_is_the_integral_of_the_likelihood_ratio_over_all_rates():
    # Jeffreys' density is singular at its ends: with p = sin²φ the integral is plain.
    score, rate, steps = Score(7, 10), 0.5, 20_000
    total = 0.0
    for i in range(steps):
        p = math.sin((i + 0.5) / steps * math.pi / 2) ** 2
        total += (p / rate) ** score.successes * ((1 - p) / (1 - rate)) ** 3
    assert evidence_against_rate(score, rate) == pytest.approx(total / steps, rel=1e-6)


def test_evidence_expects_one_under_the_hypothesis():
    # A martingale: the mean over all outcomes of n trials is exactly 1.
    n, p = 12, 0.3
    mean = sum(
        math.comb(n, k) * p**k * (1 - p) ** (n - k) * evidence_against_rate(Score(k, n), p)
        for k in range(n + 1)
    )
    assert mean == pytest.approx(1)


def test_seven_wins_in_a_row_decide_between_two_versions_and_six_do_not():
    assert decide_pair(Paired(0, 0, 6, 0)) is None
    assert decide_pair(Paired(0, 0, 7, 0)) == "second"
    assert decide_pair(Paired(0, 7, 0, 0)) == "first"


def test_pairs_that_agree_add_no_evidence():
    assert evidence_against_equal(Paired(50, 3, 4, 50)) == evidence_against_equal(
        Paired(0, 3, 4, 0)
    )


def test_impossible_rates_are_refuted_at_once():
    assert evidence_against_rate(Score(1, 1), 0.0) > 1e100
    assert evidence_against_rate(Score(0, 1), 1.0) > 1e100
    with pytest.raises(ValueError):
        evidence_against_rate(Score(0, 1), 1.5)


@pytest.mark.parametrize("score", [Score(94, 100), Score(0, 20), Score(20, 20), Score(1, 2)])
def test_the_anytime_interval_is_wider_than_wilsons_and_ends_where_evidence_begins(score):
    low, high = anytime_interval(score)
    wilson_low, wilson_high = score.interval
    assert low <= wilson_low
    assert high >= wilson_high
    for end in (low, high):
        if 0 < end < 1:
            assert evidence_against_rate(score, end) == pytest.approx(20, rel=1e-3)


def test_the_anytime_interval_without_trials_is_everything():
    assert anytime_interval(Score(0, 0)) == (0.0, 1.0)


def test_a_rate_is_not_decided_without_trials():
    assert decide_rate(Score(0, 0), target=0.8) is None


def test_a_rate_at_its_target_is_rarely_ever_decided_though_one_looks_at_every_trial():
    rng = random.Random(1)
    wrong = 0
    for _ in range(RUNS):
        won = 0
        for n in range(1, 121):
            won += rng.random() < 0.8
            if decide_rate(Score(won, n), target=0.8) is not None:
                wrong += 1
                break
    # α = .05 for any number of looks: within four standard errors of what 2,000 runs can show.
    assert wrong / RUNS <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / RUNS)
    assert wrong > 0


def test_a_mean_over_unequal_tasks_keeps_the_guarantee_when_one_looks_after_whole_blocks():
    rng = random.Random(2)
    tasks = [0.2, 1.0, 1.0, 1.0, 0.9, 0.7]
    target = sum(tasks) / len(tasks)
    wrong = 0
    for _ in range(RUNS):
        won = n = 0
        for _ in range(40):
            won += sum(rng.random() < p for p in tasks)
            n += len(tasks)
            if decide_rate(Score(won, n), target=target) is not None:
                wrong += 1
                break
    assert wrong / RUNS <= 0.05


def test_a_rate_far_from_its_target_is_decided_early_and_the_right_way():
    rng = random.Random(3)
    lengths, decisions = [], []
    for _ in range(300):
        won, n, decision = 0, 0, None
        while decision is None and n < 400:
            won, n = won + (rng.random() < 0.95), n + 1
            decision = decide_rate(Score(won, n), target=0.7)
        lengths.append(n)
        decisions.append(decision)
    assert decisions.count("above") >= 0.97 * 300
    assert sorted(lengths)[150] < 60


def test_equal_versions_are_rarely_ever_told_apart_though_one_looks_at_every_pair():
    rng = random.Random(4)
    wrong = 0
    for _ in range(RUNS):
        first_only = second_only = 0
        for _ in range(120):
            if rng.random() < 0.3:
                if rng.random() < 0.5:
                    first_only += 1
                else:
                    second_only += 1
                if decide_pair(Paired(0, first_only, second_only, 0)) is not None:
                    wrong += 1
                    break
    assert wrong / RUNS <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / RUNS)
    assert wrong > 0


def test_a_better_version_is_found_and_the_worse_one_hardly_ever():
    rng = random.Random(5)
    decisions = []
    for _ in range(400):
        first_only = second_only = 0
        decision = None
        for _ in range(200):
            draw = rng.random()
            first_only += draw < 0.05
            second_only += 0.05 <= draw < 0.3
            decision = decide_pair(Paired(0, first_only, second_only, 0))
            if decision is not None:
                break
        decisions.append(decision)
    assert decisions.count("second") >= 0.95 * 400
    assert decisions.count("first") <= 0.01 * 400


# ---- forgetting


def test_a_clear_fall_is_forgetting_and_names_the_version_it_fell_from():
    found = forgotten(Score(4, 20), [Score(10, 20), Score(19, 20), Score(0, 0)])
    assert found is not None
    assert (found.best, found.earlier, found.current) == (1, Score(19, 20), Score(4, 20))
    assert found.p_value == pytest.approx(2 * fisher(Score(4, 20), Score(19, 20)))


def test_a_fall_that_chance_explains_is_none():
    assert forgotten(Score(15, 20), [Score(18, 20)]) is None


def test_nothing_is_forgotten_without_trials_or_without_an_earlier_version():
    assert forgotten(Score(0, 0), [Score(20, 20)]) is None
    assert forgotten(Score(0, 20), [Score(0, 0)]) is None
    assert forgotten(Score(0, 20), []) is None


def test_a_rise_is_never_forgetting():
    assert forgotten(Score(20, 20), [Score(1, 20), Score(2, 20)]) is None


def test_the_best_of_many_equal_versions_rarely_raises_an_alarm():
    rng = random.Random(6)
    alarms = sum(
        forgotten(
            Score(sum(rng.random() < 0.8 for _ in range(20)), 20),
            [Score(sum(rng.random() < 0.8 for _ in range(20)), 20) for _ in range(10)],
        )
        is not None
        for _ in range(RUNS)
    )
    assert alarms / RUNS <= 0.05
