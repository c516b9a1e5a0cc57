import copy
import sys

import numpy as np
import pytest
import torch

from learning.core import learners
from learning.core.learners import base
from learning.core.learners.base import UnknownLearner, build_learner
from learning.core.learners.hg_dagger import HgDagger, HgDaggerConfig, sirius_weights
from learning.core.records import ReviewedSpan, SpanMark, with_spans
from tests.core.making import CONFIG, Store, TinyPolicy, buffer_of

POLICY, HUMAN, TRANSITION, NOBODY = range(4)
# A takeover as the agent records it: policy, the 0.3 s of taking hold, the person, and back.
TAKEOVER = (POLICY,) * 20 + (TRANSITION,) * 6 + (HUMAN,) * 30 + (POLICY,) * 14
MISTAKE = range(5, 20)


def learner(seed=0, **config):
    torch.manual_seed(seed)
    return HgDagger(TinyPolicy(CONFIG), HgDaggerConfig(**config))


def batch_of(store=None, **kwargs):
    store = store or Store()
    record = store.make(modes=(HUMAN,) * 30, **kwargs)
    return buffer_of(store, [record]).gather(np.arange(20), np.random.default_rng(0))


def weights_of(policy):
    return {name: tensor.clone() for name, tensor in policy.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_exactly_the_steps_under_human_control_of_a_takeover_are_imitated():
    record = Store().make(modes=TAKEOVER, flagged=MISTAKE)
    expected = [False] * 26 + [True] * 30 + [False] * 14
    assert learner().targets(record).tolist() == expected
    assert learner().samples(record).tolist() == expected


def test_the_mask_of_every_chunk_of_a_takeover_ends_where_the_person_lets_go():
    store, hg_dagger = Store(), learner()
    record = store.make(modes=TAKEOVER, flagged=MISTAKE)
    buffer = buffer_of(store, [record], rules=hg_dagger)
    assert len(buffer) == 30
    batch = buffer.gather(np.arange(26, 56), np.random.default_rng(0))
    assert batch.mask.sum(1).tolist() == [8] * 23 + [7, 6, 5, 4, 3, 2, 1]


def drawn_from(buffer, draws=2000):
    rows = buffer.draw(np.zeros(draws, int), np.ones(draws, bool), np.random.default_rng(0))
    return set(rows.tolist())


def test_what_people_left_out_of_a_correction_is_drawn_no_more_and_the_rest_as_before():
    store, hg_dagger = Store(), learner()
    kept = store.make(modes=(HUMAN,) * 30, seed=1)
    record = store.make(modes=TAKEOVER, flagged=MISTAKE, seed=2)
    other = store.make(modes=TAKEOVER, flagged=MISTAKE, seed=3)
    buffer = buffer_of(store, [kept, record, other], rules=hg_dagger)
    own, rest = set(range(56, 86)), set(range(30)) | set(range(126, 156))
    assert drawn_from(buffer) == own | rest
    for spans, left in (
        # Ten steps cut off the beginning, six of them the handover, and three off the end.
        ([ReviewedSpan(20, 56, 30, 53)], set(range(60, 83))),
        ([ReviewedSpan(20, 56, 56, 56)], set()),
        ([ReviewedSpan(20, 56, 20, 56, SpanMark.RECOVERY)], own),
    ):
        reviewed = with_spans(record, spans)
        buffer.revise(reviewed)
        assert drawn_from(buffer) == left | rest
        assert len(buffer) == buffer.size(0, online=True) == len(left | rest)
        # As if it had been so from the start: a restarted learner draws the same.
        anew = buffer_of(store, [kept, reviewed, other], rules=hg_dagger)
        rows = [b.draw(np.zeros(50, int), np.ones(50, bool), np.random.default_rng(1))
                for b in (buffer, anew)]  # fmt: skip
        assert np.array_equal(*rows)
        batch = buffer.gather(np.arange(56, 86), np.random.default_rng(0))
        chosen = np.isin(np.arange(56, 86)[:, None] + np.arange(8), list(left))
        assert np.array_equal(batch.mask.numpy(), np.logical_and.accumulate(chosen, axis=1))
    assert batch.mark.tolist() == [SpanMark.RECOVERY] * 30
    # A learner that would take every step is not given them either.
    taken = buffer_of(store, [with_spans(record, [ReviewedSpan(20, 56, 30, 53)])])
    assert drawn_from(taken) == set(range(20)) | set(range(30, 53)) | set(range(56, 70))
    with pytest.raises(KeyError):
        buffer.revise(store.make(seed=9))


def test_recoveries_are_imitated_unless_the_recipe_leaves_them_out():
    record = with_spans(
        Store().make(modes=(HUMAN,) * 8),
        [ReviewedSpan(0, 4, 0, 4, SpanMark.RECOVERY), ReviewedSpan(4, 8, 4, 8)],
    )
    assert learner().targets(record).all()
    assert learner(recoveries=False).targets(record).tolist() == [False] * 4 + [True] * 4


def test_a_discarded_takeover_does_not_make_its_success_the_policys_own():
    record = Store().make(modes=TAKEOVER, flagged=MISTAKE)
    record = with_spans(record, [ReviewedSpan(20, 56, 56, 56)])
    assert len(buffer_of(Store(), [record], rules=learner(autonomous_successes=True))) == 0


def test_a_second_takeover_right_after_the_first_keeps_its_mistake_out():
    modes = (HUMAN,) * 10 + (POLICY,) * 5 + (TRANSITION,) * 6 + (HUMAN,) * 4
    # Sirius' window reaches back over the hand-back into the first intervention.
    record = Store().make(modes=modes, flagged=range(15))
    assert learner().targets(record).tolist() == [False] * 21 + [True] * 4


def test_steps_that_nobody_controls_are_never_imitated():
    record = Store().make(modes=(HUMAN, NOBODY, HUMAN, NOBODY))
    assert learner().targets(record).tolist() == [True, False, True, False]


@pytest.mark.parametrize("outcome", ["success", "failure", "timeout"])
def test_corrections_count_however_the_episode_ends(outcome):
    record = Store().make(modes=TAKEOVER, outcome=outcome)
    assert learner().targets(record).sum() == 30


def test_an_aborted_episode_teaches_nothing():
    assert not learner().targets(Store().make(modes=TAKEOVER, outcome="abort")).any()


def test_a_demonstration_is_imitated_whole():
    record = Store().make(modes=(HUMAN,) * 20, purpose="demonstration")
    assert learner().targets(record).all()


def test_autonomous_successes_are_imitated_only_when_asked_for():
    success = Store().make(modes=(POLICY,) * 20)
    failure = Store().make(modes=(POLICY,) * 20, outcome="failure")
    timeout = Store().make(modes=(POLICY,) * 20, outcome="timeout")
    assert not learner().targets(success).any()
    asked = learner(autonomous_successes=True)
    assert asked.targets(success).all()
    assert not asked.targets(failure).any()
    assert not asked.targets(timeout).any()
    flagged = Store().make(modes=(POLICY,) * 20, flagged=range(15, 20))
    assert asked.targets(flagged).sum() == 15
    rescued = Store().make(modes=TAKEOVER, flagged=MISTAKE)
    assert (asked.targets(rescued) == learner().targets(rescued)).all()


def test_one_batch_can_be_learned_by_heart():
    store = Store()
    actions = np.sin(np.arange(30)[:, None] / 8 + np.arange(4)).astype(np.float32)
    batch = batch_of(store, actions=actions)
    hg_dagger = learner(learning_rate=2e-2)
    first = float(hg_dagger.update(batch).loss.mean())
    for _ in range(200):
        last = float(hg_dagger.update(batch).loss.mean())
    assert first > 10 * last
    assert float(hg_dagger.policy.loss(batch).mean()) < first / 10


@pytest.mark.parametrize("poison", ["action", "state"])
def test_a_batch_with_a_nan_changes_no_weight(poison):
    batch = batch_of()
    hg_dagger = learner()
    hg_dagger.update(batch)
    live, average = weights_of(hg_dagger._policy), weights_of(hg_dagger.policy)
    bad = copy.deepcopy(batch)
    getattr(bad, poison)[3] = float("nan")
    result = hg_dagger.update(bad)
    assert not result.applied
    assert result.scalars["skipped"] == 1
    assert same(live, weights_of(hg_dagger._policy))
    assert same(average, weights_of(hg_dagger.policy))
    result = hg_dagger.update(batch)
    assert result.applied
    assert not same(live, weights_of(hg_dagger._policy))


def test_a_gradient_that_overflows_is_skipped_though_the_loss_is_finite():
    hg_dagger = learner()
    before = weights_of(hg_dagger._policy)
    weight = next(hg_dagger._policy.trunk.parameters())
    handle = weight.register_hook(lambda gradient: gradient * float("inf"))
    result = hg_dagger.update(batch_of())
    handle.remove()
    assert torch.isfinite(result.loss).all()
    assert not result.applied
    assert same(before, weights_of(hg_dagger._policy))


def test_what_is_published_is_the_running_average_of_the_weights():
    hg_dagger = learner(ema_decay=0.9)
    expected = weights_of(hg_dagger.policy)
    for _ in range(5):
        hg_dagger.update(batch_of())
        live = weights_of(hg_dagger._policy)
        expected = {name: 0.9 * expected[name] + 0.1 * live[name] for name in live}
    for name, tensor in weights_of(hg_dagger.policy).items():
        torch.testing.assert_close(tensor, expected[name])
    assert not hg_dagger.policy.training


def test_the_step_size_is_constant_after_a_warm_up():
    batch = batch_of()
    warm, plain = learner(warmup_steps=4), learner()
    rates = [warm.update(batch).scalars["learning_rate"] for _ in range(6)]
    assert rates == pytest.approx([1e-4, 2e-4, 3e-4, 4e-4, 4e-4, 4e-4])
    assert plain.update(batch).scalars["learning_rate"] == 4e-4


def test_a_learner_is_built_by_name_from_plain_values():
    built = build_learner("hg_dagger", TinyPolicy(CONFIG), {"learning_rate": 0.01})
    assert built.name == "hg_dagger"
    assert built.config.learning_rate == 0.01


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("base", {}),
        ("nothing", {}),
        ("../hg_dagger", {}),
        ("hg_dagger", {"learning_rte": 1e-3}),
        ("hg_dagger", {"learning_rate": -1.0}),
        ("hg_dagger", {"ema_decay": "high"}),
    ],
)
def test_unknown_learners_and_options_are_refused(name, config):
    with pytest.raises(UnknownLearner):
        build_learner(name, TinyPolicy(CONFIG), config)


def test_another_algorithm_needs_only_a_file_of_its_own(tmp_path, monkeypatch):
    source = "\n".join(
        (
            "from learning.core.learners.base import register",
            "from learning.core.learners.hg_dagger import HgDagger",
            "",
            "@register('imitate_all')",
            "class ImitateAll(HgDagger):",
            "    def targets(self, record):",
            "        return record.control_mode < 3",
        )
    )
    (tmp_path / "imitate_all.py").write_text(source)
    monkeypatch.setattr(learners, "__path__", [*learners.__path__, str(tmp_path)])
    monkeypatch.setattr(base, "_registry", dict(base._registry))
    try:
        built = build_learner("imitate_all", TinyPolicy(CONFIG))
    finally:
        sys.modules.pop("learning.core.learners.imitate_all", None)
    store = Store()
    buffer = buffer_of(store, [store.make(modes=(POLICY,) * 20)], rules=built)
    assert built.update(buffer.gather(np.arange(20), np.random.default_rng(0))).applied


@pytest.mark.parametrize(
    ("counts", "weights"),
    [
        # (demonstration, correction, policy): half the weight is the corrections', the
        # demonstrations keep their share, the policy's own steps get what is left.
        ((2, 2, 6), (1.0, 2.5, 0.5)),
        ((4, 5, 1), (1.0, 1.0, 1.0)),
        # Nothing of the policy's own: corrections 0.5, demonstrations 0.2, scaled to 1.
        ((2, 8, 0), (1 / 0.7, 0.5 / 0.8 / 0.7, None)),
        # Demonstrations over half leave nothing for the policy's own steps.
        ((6, 2, 2), (1 / 1.1, 2.5 / 1.1, 0.0)),
        ((10, 0, 0), (1.0, None, None)),
    ],
)
def test_sirius_weights_are_the_wanted_over_the_actual_share_of_each_kind(counts, weights):
    kind = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    found = sirius_weights(kind > 0, kind == 1)
    assert float(found.mean()) == pytest.approx(1.0)
    for one, expected in enumerate(weights):
        assert found[kind == one].tolist() == pytest.approx([expected] * counts[one])


def test_sirius_weights_change_the_gradient_and_not_the_losses_reported():
    store = Store()
    records = [
        store.make(modes=(HUMAN,) * 30, purpose="demonstration", seed=1),
        store.make(modes=(TRANSITION,) * 6 + (HUMAN,) * 10, seed=2),
        store.make(modes=(POLICY,) * 30, seed=3),
    ]
    learned = []
    for weighted in (False, True):
        hg_dagger = learner(autonomous_successes=True, sirius_weights=weighted)
        buffer = buffer_of(store, records, rules=hg_dagger)
        # All samples: the demonstration, the correction without its handover, the success.
        rows = np.concatenate([np.arange(30), np.arange(36, 76)])
        batch = buffer.gather(rows, np.random.default_rng(0))
        assert batch.label.tolist() == [1] * 40 + [0] * 30
        torch.manual_seed(4)
        learned.append((hg_dagger.update(batch).loss, weights_of(hg_dagger._policy)))
    (plain, first), (weighted, second) = learned
    assert torch.equal(plain, weighted)
    assert not same(first, second)
