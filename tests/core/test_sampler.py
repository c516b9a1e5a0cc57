import math

import msgspec
import numpy as np
import pytest

from learning.core.sampler import (
    AdaptiveSampler,
    FixedMixture,
    FrameUniform,
    SamplerState,
    adaptive_omega,
    build_sampler,
    split_evenly,
)


class Sizes:
    """Strata of given sizes: task to (offline, online)."""

    def __init__(self, **sizes):
        self.tasks = list(sizes)
        self._sizes = list(sizes.values())

    def size(self, task, *, online):
        return self._sizes[task][online]


def only(sampler, strata):
    (mixture,) = sampler.mixtures(strata)
    return mixture


def fed(sampler, online, offline, task="a"):
    for loss in online:
        sampler.observe(task, online=True, loss=loss)
    for loss in offline:
        sampler.observe(task, online=False, loss=loss)
    return sampler


VECTORS = [
    (1.5, 0.05, 0.03, 0.511, 0.511),
    (2.0, 0.5, 0.3, 0.668, 0.668),
    (2.0, 1.0, 1.0, 0.731, 0.731),
    (2.0, 2.0, 1.0, 0.953, 0.800),
    (1.5, 1.2, 0.4, 0.802, 0.800),
]


@pytest.mark.parametrize(("alpha", "online", "offline", "raw", "clipped"), VECTORS)
def test_vectors_of_the_formula(alpha, online, offline, raw, clipped):
    assert adaptive_omega(online, offline, alpha=alpha) == pytest.approx((raw, clipped), abs=5e-4)
    sampler = fed(AdaptiveSampler(alpha=alpha), [online] * 3, [offline] * 5)
    mixture = only(sampler, Sizes(a=(9, 9)))
    assert (mixture.raw, mixture.omega) == pytest.approx((raw, clipped), abs=5e-4)


def test_the_share_is_clipped_from_below_as_well():
    assert adaptive_omega(0.0, 3.0) == pytest.approx((1 / (1 + math.exp(3)), 0.2))


@pytest.mark.parametrize("loss", [1e3, 1e6, 1e300])
def test_huge_losses_do_not_overflow(loss):
    assert adaptive_omega(loss, 0.0) == (1.0, 0.8)
    assert adaptive_omega(0.0, loss) == (0.0, 0.2)


def test_an_empty_side_is_never_drawn_and_the_other_gets_everything():
    generator = np.random.default_rng(0)
    for sampler in (AdaptiveSampler(), FixedMixture(0.5)):
        fed(sampler, [1.0], [1.0])
        assert only(sampler, Sizes(a=(9, 0))).omega == 0.0
        assert only(sampler, Sizes(a=(0, 9))).omega == 1.0
        assert not sampler.draw(Sizes(a=(9, 0)), 500, generator)[1].any()
        assert sampler.draw(Sizes(a=(0, 9)), 500, generator)[1].all()


def test_the_share_is_a_half_until_both_losses_are_known():
    sampler = AdaptiveSampler()
    strata = Sizes(a=(9, 9))
    assert (only(sampler, strata).raw, only(sampler, strata).omega) == (None, 0.5)
    fed(sampler, [3.0], [])
    assert (only(sampler, strata).raw, only(sampler, strata).omega) == (None, 0.5)
    fed(sampler, [], [1.0])
    assert only(sampler, strata).raw == pytest.approx(0.993, abs=1e-3)


def test_means_are_over_the_last_w_losses_of_that_side():
    sampler = fed(AdaptiveSampler(window=3), [100.0, 1.0, 2.0, 3.0], [0.5, 0.7])
    mixture = only(sampler, Sizes(a=(9, 9)))
    assert (mixture.online_loss, mixture.offline_loss) == pytest.approx((2.0, 0.6))
    assert (mixture.online_losses, mixture.offline_losses) == (3, 2)
    by_default = fed(AdaptiveSampler(), [float(i) for i in range(300)], [1.0])
    assert only(by_default, Sizes(a=(9, 9))).online_loss == pytest.approx(
        sum(range(100, 300)) / 200
    )


def test_a_loss_that_is_not_finite_is_left_out():
    sampler = fed(AdaptiveSampler(), [1.0, math.nan, math.inf], [1.0])
    assert only(sampler, Sizes(a=(9, 9))).online_losses == 1


def test_tasks_keep_their_own_windows():
    sampler = fed(fed(AdaptiveSampler(), [2.0], [1.0], "a"), [1.0], [2.0], "b")
    a, b = sampler.mixtures(Sizes(a=(1, 1), b=(1, 1)))
    assert (a.task, b.task) == ("a", "b")
    assert (a.omega, b.omega) == (0.8, 0.5)


def test_normalised_means_ignore_the_scale_of_the_loss():
    small = fed(AdaptiveSampler(normalise=True), [0.05], [0.03])
    large = fed(AdaptiveSampler(normalise=True), [50.0], [30.0])
    strata = Sizes(a=(9, 9))
    # Mean 0.04: 2 * 1.25 - 0.75 = 1.75.
    assert only(small, strata).raw == pytest.approx(1 / (1 + math.exp(-1.75)))
    assert only(large, strata).raw == pytest.approx(only(small, strata).raw)
    assert only(fed(AdaptiveSampler(), [0.05], [0.03]), strata).raw == pytest.approx(
        0.517, abs=1e-3
    )
    equal = fed(AdaptiveSampler(normalise=True), [0.01], [0.01])
    assert only(equal, strata).raw == pytest.approx(0.731, abs=5e-4)
    zero = fed(AdaptiveSampler(normalise=True), [0.0], [0.0])
    assert only(zero, strata).raw == 0.5


def test_tasks_get_equal_draws_and_what_is_left_over_goes_round():
    turn, total = 0, np.zeros(7, int)
    for _ in range(7):
        tasks, turn = split_evenly(range(7), 60, turn)
        counts = np.bincount(tasks, minlength=7)
        assert set(counts) <= {8, 9}
        total += counts
    assert total.tolist() == [60] * 7


def test_a_task_without_samples_gets_no_draws():
    generator = np.random.default_rng(0)
    tasks, _ = AdaptiveSampler().draw(Sizes(a=(5, 0), b=(0, 0), c=(0, 5)), 60, generator)
    assert np.bincount(tasks, minlength=3).tolist() == [30, 0, 30]


def test_over_many_draws_the_mixture_is_the_one_the_formula_gives():
    sampler = fed(AdaptiveSampler(), [0.5], [0.3], "a")  # 0.668
    fed(sampler, [2.0], [1.0], "b")  # 0.8
    strata = Sizes(a=(100, 3), b=(7, 900), c=(5, 0))
    generator = np.random.default_rng(5)
    counts = np.zeros((3, 2))
    for _ in range(1000):
        tasks, online = sampler.draw(strata, 61, generator)
        np.add.at(counts, (tasks, online.astype(int)), 1)
    assert counts.sum(1) == pytest.approx([61_000 / 3] * 3, abs=2)
    share = counts[:, 1] / counts.sum(1)
    error = 4 * math.sqrt(0.25 / 20_000)
    assert share == pytest.approx([0.668, 0.8, 0.0], abs=error)


def test_the_same_seed_gives_the_same_draws():
    def run():
        sampler, generator = AdaptiveSampler(), np.random.default_rng(3)
        strata = Sizes(a=(5, 5), b=(5, 5), c=(5, 5))
        draws = [sampler.draw(strata, 10, generator) for _ in range(20)]
        return np.concatenate([np.stack(draw) for draw in draws], axis=1)

    assert (run() == run()).all()


def test_a_fixed_mixture_ignores_losses():
    sampler = fed(FixedMixture(0.5), [9.0], [0.1])
    mixture = only(sampler, Sizes(a=(9, 9)))
    assert (mixture.raw, mixture.omega, mixture.online_loss) == (0.5, 0.5, 9.0)
    generator = np.random.default_rng(1)
    assert sampler.draw(Sizes(a=(9, 9)), 10_000, generator)[1].mean() == pytest.approx(
        0.5, abs=0.02
    )


def test_the_state_goes_through_json_and_back():
    strata = Sizes(a=(5, 5), b=(5, 5), c=(5, 5))
    sampler = fed(AdaptiveSampler(window=4), [0.1, 0.2, 1 / 3], [0.7], "b")
    sampler.draw(strata, 10, np.random.default_rng(0))
    data = msgspec.json.encode(sampler.state())
    other = AdaptiveSampler(window=4)
    other.load_state(msgspec.json.decode(data, type=SamplerState))
    assert other.state() == sampler.state()
    assert other.mixtures(strata) == sampler.mixtures(strata)
    generators = np.random.default_rng(1), np.random.default_rng(1)
    for ours, theirs in zip(
        sampler.draw(strata, 10, generators[0]), other.draw(strata, 10, generators[1]), strict=True
    ):
        assert (ours == theirs).all()


def test_the_state_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="fixed"):
        AdaptiveSampler().load_state(FixedMixture().state())


def test_every_frame_is_as_likely_as_every_other_whatever_its_task_and_side():
    strata = Sizes(a=(600, 100), b=(0, 300), c=(0, 0))
    tasks, online = FrameUniform().draw(strata, 100_000, np.random.default_rng(0))
    share = {
        (task, side): np.mean((tasks == task) & (online == side))
        for task in range(3)
        for side in (False, True)
    }
    assert share[0, False] == pytest.approx(0.6, abs=0.01)
    assert share[0, True] == pytest.approx(0.1, abs=0.01)
    assert share[1, True] == pytest.approx(0.3, abs=0.01)
    assert share[1, False] == share[2, False] == share[2, True] == 0
    assert [round(m.omega, 2) for m in FrameUniform().mixtures(strata)] == [0.14, 1.0]


def test_a_sampler_is_built_by_its_kind():
    assert isinstance(build_sampler("adaptive", normalise=True), AdaptiveSampler)
    assert only(build_sampler("fixed", share=0.3), Sizes(a=(1, 1))).omega == 0.3
    assert build_sampler("frames").state().kind == "frames"
    with pytest.raises(ValueError, match="no sampler"):
        build_sampler("loss")
