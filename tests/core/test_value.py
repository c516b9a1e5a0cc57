import msgspec
import numpy as np
import pytest
import torch

from learning.core.annotate import values_of
from learning.core.types import Observation
from learning.core.value import (
    BadValueFunction,
    ValueConfig,
    ValueFunction,
    bin_centres,
    load_value,
    save_value,
    two_hot,
)
from learning.core.value_training import FitConfig, NothingToFit, fit_value, split_episodes
from tests.core.making import BLIND, CONFIG, Store

IMAGE = msgspec.structs.replace(CONFIG, image_px=32)
SMALL = FitConfig(steps=120, batch_size=64, width=32, folds=2, learning_rate=3e-3)


def skilled(store, *, count=12):
    """Episodes of one length, whose remaining steps can be read off their state: step i is i."""
    return [
        store.make(
            modes=(0,) * 60,
            outcome="success" if number % 3 else "timeout",
            seed=number,
            closed_seq=number + 1,
        )
        for number in range(count)
    ]


def test_there_are_201_bins_from_minus_one_to_zero():
    centres = bin_centres()
    assert (len(centres), centres[0], centres[-1]) == (201, -1.0, 0.0)


@pytest.mark.parametrize("target", [-1.0, -0.9975, -0.5, -0.2475, -0.0001, 0.0])
def test_the_mean_of_a_two_hot_target_is_the_target(target):
    hot = two_hot(torch.tensor([target]))[0]
    assert hot.sum() == pytest.approx(1.0)
    assert (hot > 0).sum() <= 2
    assert float(hot @ bin_centres()) == pytest.approx(target, abs=1e-6)


def test_a_target_on_a_bin_is_that_bin_alone():
    hot = two_hot(torch.tensor([-0.5, 0.0]))
    assert hot.argmax(1).tolist() == [100, 200]
    assert hot.amax(1).tolist() == pytest.approx([1.0, 1.0])


def test_targets_outside_the_range_are_clipped():
    hot = two_hot(torch.tensor([-3.0, 1.0]))
    assert hot.argmax(1).tolist() == [0, 200]


@pytest.mark.parametrize("policy", [BLIND, IMAGE], ids=["state", "image"])
def test_held_out_episodes_are_ranked_well_when_the_state_tells_the_return(policy):
    store = Store()
    # Nothing foretells the outcome: here only progress matters.
    records = [r for r in skilled(store) if r.outcome == "success"]
    fit = fit_value(records, store.open_part, policy, SMALL)
    assert fit.episodes == len(records)
    assert set(fit.values) == {record.uid for record in records}
    assert fit.correlation > 0.7
    assert min(v.min() for v in fit.values.values()) >= -1.0
    assert max(v.max() for v in fit.values.values()) <= 0.0


def test_no_network_values_an_episode_it_was_fitted_to():
    store = Store()
    rng = np.random.default_rng(1)
    # Only the words tell episodes apart, and no word says anything of another episode.
    records = [
        store.make(
            modes=(0,) * 20,
            instruction=f"cube {number}",
            outcome="success" if won else "timeout",
            seed=number,
        )
        for number, won in enumerate(rng.permutation([True, False] * 8))
    ]
    fold = split_episodes(records, 4, np.random.default_rng(0))
    assert np.bincount(fold).tolist() == [4, 4, 4, 4]
    fit = fit_value(records, store.open_part, BLIND, msgspec.structs.replace(SMALL, steps=300))
    known = {r.uid: values_of(fit.value, r, store.open_part, action_dim=4) for r in records}

    def told_apart(values):
        won, lost = (
            np.mean([values[r.uid].mean() for r in records if (r.outcome == "success") is side])
            for side in (True, False)
        )
        return won - lost

    assert told_apart(known) > 0.3
    assert told_apart(fit.values) < 0.15


def test_the_same_seed_gives_the_same_value_function_and_leaves_the_generator_alone():
    store = Store()
    records = skilled(store, count=6)
    before = torch.get_rng_state()
    first, second = (fit_value(records, store.open_part, BLIND, SMALL) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert save_value(first.value) == save_value(second.value)


def test_the_words_tell_tasks_apart_that_look_alike():
    store = Store()
    near = [
        store.make(modes=(0,) * 20, task="near", instruction="reach the cube", seed=i)
        for i in range(6)
    ]
    far = [
        store.make(
            modes=(0,) * 20, task="far", instruction="open a drawer", outcome="timeout", seed=9 + i
        )
        for i in range(6)
    ]
    fit = fit_value([*near, *far], store.open_part, BLIND, SMALL)
    easy = np.mean([fit.values[r.uid].mean() for r in near])
    hard = np.mean([fit.values[r.uid].mean() for r in far])
    assert easy - hard > 0.3


def test_unjudged_and_held_out_episodes_are_not_fitted_to():
    store = Store()
    records = [
        store.make(outcome="abort", seed=1),
        store.make(purpose="eval", seed=2),
        store.make(complete=False, seed=3),
        store.make(seed=4),
    ]
    with pytest.raises(NothingToFit, match="1 judged"):
        fit_value(records, store.open_part, BLIND, SMALL)


def test_progress_grows_to_the_end_and_may_give_up():
    store = Store()
    records = skilled(store, count=4)
    seen = []
    fit_value(records, store.open_part, BLIND, SMALL, progress=seen.append)
    assert seen == sorted(seen)
    assert 0.9 < seen[-1] <= 1.0

    class Cancelled(Exception):
        pass

    def cancel(share):
        if share > 0.4:
            raise Cancelled

    with pytest.raises(Cancelled):
        fit_value(records, store.open_part, BLIND, SMALL, progress=cancel)


def test_a_step_without_a_picture_has_the_value_of_the_last_that_had_one():
    store = Store()
    record = store.make(modes=(0,) * 10, images=[i % 2 == 0 for i in range(10)])
    torch.manual_seed(0)
    value = ValueFunction(ValueConfig(state_dim=4, cameras=("corner", "wrist"), image_px=32)).eval()
    values = values_of(value, record, store.open_part, action_dim=4)
    assert len(values) == 10
    assert (values[1::2] == values[::2]).all()
    assert len(np.unique(values)) == 5


def test_a_value_function_survives_its_bytes_and_rubbish_does_not_load():
    torch.manual_seed(0)
    value = ValueFunction(ValueConfig(state_dim=4, width=16)).eval()
    again = load_value(save_value(value))
    for name, tensor in value.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    with pytest.raises(BadValueFunction):
        load_value(b"rubbish")
    with torch.no_grad():
        value.head[0].weight[0, 0] = float("nan")
    with pytest.raises(BadValueFunction, match="not finite"):
        load_value(save_value(value))


def test_one_observation_has_the_value_it_has_in_a_recorded_episode():
    store = Store()
    record = store.make(modes=(0,) * 4)
    value = ValueFunction(ValueConfig(state_dim=4)).eval()
    recorded = values_of(value, record, store.open_part, action_dim=4)
    states = store.open_part(record.parts[0].sha256).array("state")
    (instruction,) = record.instructions
    for state, expected in zip(states, recorded, strict=True):
        seen = Observation(images={}, state=state.copy(), instruction=instruction)
        assert value.value_at(seen) == pytest.approx(float(expected), abs=1e-6)


def test_a_value_function_of_a_later_format_is_refused_by_name():
    data = save_value(ValueFunction(ValueConfig(state_dim=4, width=16)).eval())
    later = data.replace(b'"format":"1"', b'"format":"9"')
    assert later != data
    with pytest.raises(BadValueFunction, match="its format is 9, this code reads 1"):
        load_value(later)
    earlier = data.replace(b'"format":"1"', b'"former":"1"')
    assert load_value(earlier).config == load_value(data).config
