import numpy as np
import pytest

from learning.core.advantages import (
    FINE_TUNING,
    PRETRAINING,
    Shares,
    forced_positive,
    indicators,
    n_step_advantages,
    penalty_share,
    returns,
    rewards,
    spearman,
    threshold,
    thresholds,
)
from learning.core.types import Indicator
from tests.core.making import Store

POLICY, HUMAN, TRANSITION, NOBODY = range(4)
NEGATIVE, POSITIVE = int(Indicator.NEGATIVE), int(Indicator.POSITIVE)


@pytest.mark.parametrize(
    ("failure", "step", "expected"),
    [(False, 0, -0.2475), (False, 99, 0.0), (True, 0, -0.7475), (True, 99, -0.5)],
)
def test_returns_are_recaps_normalised_by_task(failure, step, expected):
    target = returns(100, failure=failure, t_max=200, c_fail=200)
    assert target[step] == pytest.approx(expected)


@pytest.mark.parametrize("failure", [False, True])
def test_a_return_is_the_sum_of_the_rewards_to_come(failure):
    reward = rewards(37, failure=failure, t_max=50)
    summed = np.cumsum(reward[::-1])[::-1]
    np.testing.assert_allclose(returns(37, failure=failure, t_max=50), summed, atol=1e-6)


def test_a_return_beyond_the_tasks_limit_is_clipped():
    assert returns(1000, failure=True, t_max=200)[0] == -1.0


def test_a_step_costs_one_over_the_longest_failure():
    reward = rewards(3, failure=False, t_max=200, c_fail=200)
    assert reward.tolist() == pytest.approx([-1 / 400, -1 / 400, 0.0])
    assert rewards(3, failure=True, t_max=200, c_fail=200)[-1] == pytest.approx(-0.5)


def test_the_advantage_looks_n_steps_ahead_and_no_further():
    reward = np.array([-0.1, -0.2, -0.3, 0.0], np.float32)
    value = np.array([-0.9, -0.5, -0.4, -0.2], np.float32)
    got = n_step_advantages(reward, value, horizon=2)
    # The last two windows pass the end and bootstrap with 0.
    expected = [-0.3 - 0.4 + 0.9, -0.5 - 0.2 + 0.5, -0.3 + 0.4, 0.0 + 0.2]
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("failure", [False, True])
def test_a_perfect_value_function_leaves_no_advantage(failure):
    reward = rewards(120, failure=failure, t_max=200)
    value = returns(120, failure=failure, t_max=200)
    for horizon in (1, 20, 50, 500):
        np.testing.assert_allclose(
            n_step_advantages(reward, value, horizon=horizon), 0.0, atol=1e-6
        )


def test_a_step_that_saves_time_has_the_time_it_saved_as_its_advantage():
    # Expected to take 100 steps more than it took.
    reward = rewards(50, failure=False, t_max=200)
    value = returns(50, failure=False, t_max=200) - np.float32(100 / 400)
    advantage = n_step_advantages(reward, value, horizon=200)
    np.testing.assert_allclose(advantage, 100 / 400, atol=1e-6)


@pytest.mark.parametrize(
    ("shares", "task", "share"),
    [
        (PRETRAINING, "reach", 0.3),
        (FINE_TUNING, "reach", 0.4),
        (Shares(easy_tasks=("reach",)), "reach", 0.1),
        (Shares(easy_tasks=("reach",)), "push", 0.3),
    ],
)
def test_a_threshold_leaves_its_share_of_a_tasks_steps_positive(shares, task, share):
    advantage = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    epsilon = threshold(advantage, positive=shares.of(task))
    assert (advantage > epsilon).mean() == pytest.approx(share)


def test_each_task_has_a_threshold_of_its_own_over_what_is_not_forced():
    rng = np.random.default_rng(0)
    low, high = (rng.normal(loc, size=1000).astype(np.float32) for loc in (0.0, 5.0))
    forced = np.zeros(1000, bool)
    corrected = np.arange(1000) < 500
    shown = np.ones(1000, bool)
    epsilons = thresholds(
        {"reach": [low[:400], low[400:]], "push": [high], "shown": [low]},
        {"reach": [forced[:400], forced[400:]], "push": [corrected], "shown": [shown]},
        PRETRAINING,
    )
    assert (low > epsilons["reach"]).mean() == pytest.approx(0.3)
    assert (high[500:] > epsilons["push"]).mean() == pytest.approx(0.3)
    # Demonstrations alone: over all of them.
    assert epsilons["shown"] == epsilons["reach"]


def test_no_advantages_have_no_threshold():
    with pytest.raises(ValueError, match="no advantages"):
        threshold(np.zeros(0, np.float32), positive=0.3)


def test_corrections_and_demonstrations_are_positive_and_handovers_are_not():
    modes = (POLICY,) * 2 + (TRANSITION,) * 2 + (HUMAN,) * 2 + (NOBODY,)
    record = Store().make(modes=modes)
    forced = forced_positive(record.purpose, record.control_mode)
    assert forced.tolist() == [False] * 4 + [True] * 2 + [False]
    got = indicators(np.full(7, -1.0, np.float32), epsilon=0.0, forced=forced)
    assert got.tolist() == [NEGATIVE] * 4 + [POSITIVE] * 2 + [NEGATIVE]
    shown = Store().make(modes=(HUMAN,) * 3, purpose="demonstration")
    assert forced_positive(shown.purpose, shown.control_mode).all()


def test_an_indicator_is_positive_only_above_the_threshold():
    advantage = np.array([-0.1, 0.0, 0.1], np.float32)
    got = indicators(advantage, epsilon=0.0, forced=np.zeros(3, bool))
    assert got.tolist() == [NEGATIVE, NEGATIVE, POSITIVE]


@pytest.mark.parametrize(
    ("outcome", "share"),
    [
        ("success", 0),
        ("partial", 0.5),
        ("failure", 1),
        ("timeout", 1),
        ("abort", None),
        ("", None),
    ],
)
def test_a_timeout_is_a_failure_and_an_abort_is_no_judgement(outcome, share):
    assert penalty_share(outcome) == share


def test_a_partial_success_lies_between_a_success_and_a_failure():
    success, partial, failure = (returns(40, failure=f, t_max=50) for f in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(partial, (success + failure) / 2, atol=1e-6)
    assert rewards(40, failure=0.5, t_max=50)[-1] == pytest.approx(-0.25)


def test_rank_correlation_counts_ties_by_their_mean_rank():
    # By hand: ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4.
    assert spearman(np.array([1.0, 2, 2, 3]), np.array([10.0, 20, 30, 40])) == pytest.approx(
        4.5 / np.sqrt(4.5 * 5.0)
    )
    assert spearman(np.arange(9.0), np.arange(9.0) ** 3) == pytest.approx(1.0)
    assert spearman(np.arange(9.0), -np.arange(9.0)) == pytest.approx(-1.0)
    assert np.isnan(spearman(np.zeros(4), np.arange(4.0)))
