import numpy as np
import pytest

from learning.experiments.doubt import Watched, area, by_outcome, by_takeover, report


def watched(doubt, before, *, success=True):
    return Watched("a", 1, success, int(any(before)), tuple(doubt), tuple(before))


def test_the_area_is_the_share_of_pairs_in_the_right_order_with_ties_half():
    assert area(np.array([2.0, 3.0]), np.array([1.0])) == 1.0
    assert area(np.array([1.0, 3.0]), np.array([2.0, 2.0])) == 0.5
    assert area(np.array([2.0]), np.array([2.0, 1.0])) == 0.75
    with pytest.raises(ValueError, match="both kinds"):
        area(np.array([]), np.array([1.0]))


def test_inferences_are_split_by_takeover_and_episodes_by_outcome():
    episodes = [
        watched((1.0, 5.0), (False, True), success=False),
        watched((2.0, 2.0, 2.0), (False,) * 3),
    ]
    before, rest = by_takeover(episodes)
    assert (before.tolist(), rest.tolist()) == ([5.0], [1.0, 2.0, 2.0, 2.0])
    failed, succeeded = by_outcome(episodes)
    assert (failed.tolist(), succeeded.tolist()) == ([3.0], [2.0])


def test_the_interval_is_over_episodes_and_one_kind_alone_is_refused():
    rng = np.random.default_rng(0)
    episodes = [
        watched(rng.normal(loc=not success, size=10), (False,) * 10, success=success)
        for success in (True, False) * 10
    ]
    found = report(episodes, by_outcome, resamples=50)
    assert found["low"] <= found["auc"] <= found["high"]
    assert found["auc"] > 0.9
    assert (found["n"], found["n_other"], found["episodes"]) == (10, 10, 20)
    with pytest.raises(ValueError, match="both kinds"):
        report(episodes[::2], by_outcome)
