import math

import pytest

from learning.experiments.virtual.summary import (
    Estimate,
    as_result,
    at_time,
    by_task,
    completions,
    curve_of,
    paired,
    ratio,
    speedup,
    spread,
    success,
    throughput,
    time_to,
)


def rows(won, tried, *, ticks_won=100, ticks_lost=200, task="reach"):
    return [(task, i, i < won, ticks_won if i < won else ticks_lost) for i in range(tried)]


def rising(slope, *, trials=100, until_s=600, every_s=60):
    """Evaluations of a run whose success rises by `slope` a second from .4 to at most .95."""
    return [
        (float(t), 10 * t, rows(round(trials * min(0.95, 0.4 + slope * t)), trials))
        for t in range(every_s, until_s + 1, every_s)
    ]


def test_a_seeds_spread_is_students_interval():
    estimate = spread([0.9, 0.92, 0.94])
    assert estimate.value == pytest.approx(0.92)
    assert estimate.high - estimate.value == pytest.approx(4.303 * 0.02 / math.sqrt(3))


def test_the_interval_of_success_holds_both_seeds_and_trials():
    alike = success([rows(90, 100), rows(90, 100), rows(90, 100)])
    assert (alike.value, alike.low) == (0.9, pytest.approx(0.8609, abs=1e-3))
    apart = success([rows(80, 100), rows(90, 100), rows(100, 100)])
    assert apart.low < alike.low - 0.1
    assert apart.high == 1.0


def test_one_seed_has_the_interval_of_its_trials():
    assert success([rows(188, 200)]).low == pytest.approx(0.898, abs=1e-3)


def test_throughput_counts_episodes_that_end_and_completions_successes_with_resets():
    done = rows(1, 2)
    assert throughput(done) == pytest.approx(2 * 3600 / 15)
    assert completions(done, reset_s=5.0) == pytest.approx(3600 / 25)


def test_a_ratio_of_figures_has_its_bootstrap_interval():
    estimate = ratio(throughput, [rows(40, 100)], [rows(95, 100), rows(95, 100)], resamples=200)
    assert estimate.value == pytest.approx(160 / 105)
    assert 1.3 < estimate.low < estimate.value < estimate.high < 1.8


def test_time_to_the_target_is_where_the_mean_of_the_seeds_crosses_it():
    curve = curve_of(rows(40, 100), [rising(0.001), rising(0.001)], bandwidth_s=0.0)
    when = time_to(curve, resamples=50)
    assert when.value == pytest.approx(400, abs=1)
    assert when.low == pytest.approx(when.high, abs=1)


def test_a_target_that_is_never_reached_is_a_value():
    curve = curve_of(rows(40, 100), [rising(0.0001)], bandwidth_s=30.0)
    when = time_to(curve, resamples=20)
    assert math.isnan(when.value)
    assert when.high == math.inf
    assert str(when) == "not reached"


def test_speedup_is_the_ratio_of_times_and_its_interval_comes_from_the_seeds():
    one = curve_of(rows(40, 100), [rising(0.0008), rising(0.0012)], bandwidth_s=0.0)
    four = curve_of(rows(40, 100), [rising(0.004), rising(0.004)], bandwidth_s=0.0)
    faster = speedup(one, four, resamples=100)
    assert faster.value == pytest.approx(4.0, rel=0.05)
    assert faster.low == pytest.approx(3.33, rel=0.05)
    assert faster.high == pytest.approx(5.0, rel=0.05)


def test_arms_are_paired_by_run_task_and_layout():
    first = [[("a", 1, True, 9), ("a", 2, False, 9)], [("b", 1, False, 9)]]
    second = [[("a", 2, True, 9), ("a", 1, True, 9)], [("b", 1, False, 9)]]
    pairs = paired(first, second)
    assert (pairs.both, pairs.first_only, pairs.second_only, pairs.neither) == (1, 0, 1, 1)


def test_success_by_task_keeps_the_order_of_the_tasks():
    assert list(by_task(rows(1, 2, task="b") + rows(2, 2, task="a"))) == ["b", "a"]


def test_a_tally_between_two_moments_is_interpolated():
    run = [{"t_s": 100.0, "episodes": 10}, {"t_s": 200.0, "episodes": 30}]
    assert at_time([run, run], 150.0, "episodes") == 20
    assert at_time([run], 50.0, "episodes") == 5
    assert math.isnan(at_time([run], math.nan, "episodes"))


def test_each_key_of_the_last_line_has_its_interval():
    assert as_result({"speedup_2": Estimate(1.98764, 1.5, 2.5)}) == {
        "speedup_2": 1.9876,
        "speedup_2_low": 1.5,
        "speedup_2_high": 2.5,
    }
