import math
import random

import pytest

from learning.core.statistics import (
    Score,
    episodes_per_hour,
    pooled,
    smoothed,
    successes_per_hour,
    time_to_target,
    wilson,
)


@pytest.mark.parametrize(
    ("won", "tried", "low", "high"),
    [(188, 200, 0.898, 0.965), (0, 0, 0.0, 1.0), (0, 20, 0.0, 0.161), (20, 20, 0.839, 1.0)],
)
def test_wilson_gives_the_published_intervals(won, tried, low, high):
    assert wilson(won, tried) == pytest.approx((low, high), abs=5e-4)


@pytest.mark.parametrize(("won", "tried"), [(3, 10), (94, 100), (1, 40)])
def test_the_ends_of_wilsons_interval_are_where_the_score_test_just_rejects(won, tried):
    # The interval's definition, independent of its closed form.
    for end in wilson(won, tried, z=1.96):
        z = (won / tried - end) / math.sqrt(end * (1 - end) / tried)
        assert abs(z) == pytest.approx(1.96)


def test_more_successes_than_trials_are_refused():
    with pytest.raises(ValueError):
        Score(3, 2)


def test_a_score_without_trials_has_no_rate_and_the_whole_interval():
    assert math.isnan(Score(0, 0).rate)
    assert Score(0, 0).interval == (0.0, 1.0)


def test_pooled_score_adds_the_trials_of_every_task():
    assert pooled({"a": Score(3, 4), "b": Score(1, 4)}) == Score(4, 8)


def test_throughput_counts_every_ended_episode_over_the_time_the_policy_acted():
    assert episodes_per_hour(terminated=45, execution_s=1800) == pytest.approx(90)


def test_completions_count_successes_over_the_wall_clock():
    assert successes_per_hour(successes=30, wall_s=3600) == pytest.approx(30)


@pytest.mark.parametrize("seconds", [0, 0.0])
def test_without_time_there_is_no_throughput(seconds):
    assert math.isnan(episodes_per_hour(terminated=3, execution_s=seconds))
    assert math.isnan(successes_per_hour(successes=3, wall_s=seconds))


@pytest.mark.parametrize(("count", "seconds"), [(-1, 3.0), (1, -3.0)])
def test_negative_counts_and_times_are_refused(count, seconds):
    with pytest.raises(ValueError):
        episodes_per_hour(terminated=count, execution_s=seconds)


def test_time_to_target_is_interpolated_between_two_points():
    assert time_to_target([0, 10, 20], [0.4, 0.7, 0.9]) == pytest.approx(15)


def test_a_target_that_is_not_reached_is_none():
    assert time_to_target([0, 10], [0.4, 0.79]) is None
    assert time_to_target([], []) is None


def test_a_curve_that_begins_at_the_target_gives_its_first_time():
    assert time_to_target([3, 10], [0.8, 0.2]) == 3


def test_a_target_reached_exactly_counts():
    assert time_to_target([0, 8], [0.0, 0.8]) == pytest.approx(8)


def test_only_the_first_crossing_counts():
    assert time_to_target([0, 10, 20, 30], [0.7, 0.9, 0.1, 1.0]) == pytest.approx(5)


def test_points_without_a_rate_are_skipped():
    assert time_to_target([0, 5, 10], [0.6, math.nan, 1.0]) == pytest.approx(5)


@pytest.mark.parametrize(("times", "rates"), [([0, 1], [0.1]), ([1, 0], [0.1, 0.2])])
def test_a_curve_that_is_none_is_refused(times, rates):
    with pytest.raises(ValueError):
        time_to_target(times, rates)


def test_a_bandwidth_of_zero_smooths_nothing():
    assert smoothed([0, 1], [Score(1, 4), Score(3, 4)], bandwidth=0) == [0.25, 0.75]


def test_a_wide_bandwidth_gives_the_pooled_rate_everywhere():
    scores = [Score(0, 10), Score(30, 30)]
    assert smoothed([0, 1], scores, bandwidth=1e6) == pytest.approx([0.75, 0.75])


def test_smoothing_weighs_points_by_their_trials_and_distance():
    # By hand: the neighbour at one bandwidth weighs e^-½ = .6065.
    scores = [Score(0, 1), Score(2, 2)]
    weight = math.exp(-0.5)
    expected = [2 * weight / (1 + 2 * weight), 2 / (weight + 2)]
    assert smoothed([0, 5], scores, bandwidth=5) == pytest.approx(expected)


def test_points_without_trials_do_not_count_in_smoothing():
    scores = [Score(0, 0), Score(1, 1)]
    assert smoothed([0, 1], scores, bandwidth=1) == pytest.approx([1.0, 1.0])


def test_smoothing_finds_the_crossing_of_a_noisy_rise():
    rng = random.Random(0)
    times = list(range(0, 200, 5))
    scores = [Score(sum(rng.random() < t / 200 for _ in range(40)), 40) for t in times]
    found = time_to_target(times, smoothed(times, scores, bandwidth=15))
    assert found == pytest.approx(160, abs=12)


def test_smoothing_refuses_what_does_not_fit():
    with pytest.raises(ValueError):
        smoothed([0], [], bandwidth=1)
    with pytest.raises(ValueError):
        smoothed([0], [Score(1, 1)], bandwidth=-1)
