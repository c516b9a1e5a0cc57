import numpy as np
import pytest

from learning.core.learners.base import build_learner
from tests.core.making import CONFIG, Store, TinyPolicy
from tests.core.test_trainer import trainer_of

POLICY, HUMAN, TRANSITION, NOBODY = range(4)


def learner(**config):
    return build_learner("filtered_bc", TinyPolicy(CONFIG), config)


def test_autonomous_successes_and_demonstrations_are_imitated_and_nothing_else():
    store, filtered = Store(), learner()
    alone = (POLICY,) * 20
    kept = {
        "demonstration": store.make(modes=(HUMAN,) * 20, purpose="demonstration", seed=1),
        "success": store.make(modes=alone, seed=2),
    }
    dropped = {
        "failure": store.make(modes=alone, outcome="failure", seed=3),
        "timeout": store.make(modes=alone, outcome="timeout", seed=4),
        "abort": store.make(modes=alone, outcome="abort", seed=5),
        "rescued": store.make(modes=alone + (TRANSITION,) * 6 + (HUMAN,) * 9, seed=6),
        "fumbled": store.make(modes=(HUMAN,) * 9, purpose="demonstration", outcome="abort", seed=7),
    }
    assert {name: filtered.targets(record).all() for name, record in kept.items()} == {
        "demonstration": True,
        "success": True,
    }
    assert not any(filtered.targets(record).any() for record in dropped.values())
    held = store.make(modes=(POLICY, NOBODY, POLICY), flagged=(2,), seed=8)
    assert filtered.targets(held).tolist() == [True, False, False]


def test_only_the_fastest_successes_of_each_task_are_kept_when_asked():
    store, filtered = Store(), learner(fastest=0.25)
    lengths = (20, 30, 19, 40, 12, 25)
    records = [
        store.make(modes=(POLICY,) * steps, task="a", seed=i) for i, steps in enumerate(lengths)
    ]
    kept = [bool(filtered.targets(record).any()) for record in records]
    assert kept == [True, False, True, False, True, False]
    # Asked again, or for where samples start, the answer is the same; another task is another rank.
    assert filtered.samples(records[4]).all()
    assert filtered.targets(store.make(modes=(POLICY,) * 99, task="b", seed=9)).all()


@pytest.mark.parametrize("fastest", [0.0, 1.5])
def test_a_share_outside_its_range_is_refused(fastest):
    with pytest.raises(ValueError, match="fastest"):
        learner(fastest=fastest)


def test_it_trains_and_resumes_through_the_real_trainer_like_any_learner():
    store = Store()
    records = [
        store.make(modes=(HUMAN,) * 24, purpose="demonstration", seed=1, closed_seq=1),
        store.make(modes=(POLICY,) * 24, seed=2, closed_seq=2),
        store.make(modes=(POLICY,) * 24, outcome="failure", seed=3, closed_seq=3),
    ]
    whole = trainer_of(records, store, CONFIG, algorithm="filtered_bc")
    assert len(whole.buffer) == 48
    for _ in range(3):
        assert whole.step().applied
    again = trainer_of(records, store, CONFIG, algorithm="filtered_bc", seed=7)
    again.restore(whole.checkpoint())
    assert again.step().loss == whole.step().loss
    assert np.isfinite(again.step().loss)
