import dataclasses

import msgspec
import numpy as np
import pytest
import torch

from learning.core.advantages import PRETRAINING, Shares
from learning.core.learners.base import build_learner
from learning.core.learners.recap import Recap, RecapConfig, action_gap
from learning.core.policies.base import PolicyConfig, build_policy, load_policy, save_policy
from learning.core.policies.prompt import PROMPTS, guided, with_indicator
from learning.core.sampler import FixedMixture
from learning.core.sidecar import (
    BadSidecar,
    annotate,
    decode_annotation,
    encode_annotation,
    epsilons_of,
    with_annotation,
)
from learning.core.text import tokenize
from learning.core.trainer import Trainer
from learning.core.types import Indicator, Observation
from tests.core.making import Store, buffer_of

POLICY, HUMAN, TRANSITION, NOBODY = range(4)
NONE, NEGATIVE, POSITIVE = (int(i) for i in Indicator)
STATE = PolicyConfig(
    kind="state",
    state_dim=4,
    action_dim=4,
    width=32,
    action_low=(-1.0,) * 4,
    action_high=(1.0,) * 4,
)
IMAGE = msgspec.structs.replace(STATE, kind="image", cameras=("corner", "wrist"), image_px=32)


def policy_of(config=STATE, seed=0):
    torch.manual_seed(seed)
    return build_policy(config).eval()


def recap(config=STATE, **options):
    return Recap(policy_of(config), RecapConfig(**options))


def observation(value=0.0):
    images = {c: np.full((32, 32, 3), 90, np.uint8) for c in IMAGE.cameras}
    return Observation(images, np.full(4, value, np.float32), "reach the red cube")


def told(store, indicator, **kwargs):
    record = store.make(modes=(POLICY,) * len(indicator), **kwargs)
    return dataclasses.replace(record, indicator=np.asarray(indicator, np.int8))


def two_skills(store):
    """The same states, acted on in one of two ways; the indicator says which was better."""
    good = np.full((40, 4), 0.6, np.float32)
    bad = np.full((40, 4), -0.2, np.float32)
    return [
        told(store, [POSITIVE] * 40, actions=good, seed=1, closed_seq=1),
        told(store, [NEGATIVE] * 40, actions=bad, seed=2, closed_seq=2),
    ]


# ---- the indicator in the policy -----------------------------------------------------------


@pytest.mark.parametrize("config", [STATE, IMAGE], ids=["state", "image"])
def test_words_a_policy_never_saw_change_nothing_at_all(config):
    base = policy_of(config)
    wider = with_indicator(base)
    before, _ = base.act(observation())
    for indicator in Indicator:
        wider.told = indicator
        for beta in (0.0, 1.0, 2.0):
            wider.guidance = beta
            torch.testing.assert_close(wider.act(observation())[0], before, rtol=0, atol=1e-6)
    # Unconditioned it is the same to the bit.
    wider.guidance = 0.0
    assert torch.equal(wider.act(observation())[0], before)


def test_a_policy_without_an_indicator_has_no_weights_for_one():
    base = policy_of()
    assert not any("prompt" in name for name in base.state_dict())
    assert load_policy(save_policy(base)).prompt is None


def test_an_artifact_from_before_the_indicator_still_loads():
    artifact = save_policy(policy_of())
    # What the configuration held then.
    config = msgspec.to_builtins(STATE)
    for new in ("indicator", "guidance", "evaluation_guidance"):
        del config[new]
    old = msgspec.json.decode(msgspec.json.encode(config), type=PolicyConfig)
    assert old == STATE
    assert load_policy(artifact).config == STATE


@pytest.mark.parametrize("config", [STATE, IMAGE], ids=["state", "image"])
def test_a_conditioned_policy_survives_its_artifact(config):
    learner = recap(config)
    store = Store()
    trained(learner, two_skills(store), store, steps=5)
    again = load_policy(save_policy(learner.policy))
    assert again.config.indicator
    assert torch.equal(again.act(observation())[0], learner.policy.act(observation())[0])


def test_guidance_goes_from_unconditioned_through_conditioned_and_beyond():
    chunks = {NONE: torch.tensor([[1.0]]), POSITIVE: torch.tensor([[3.0]])}

    def run(indicator):
        return torch.stack([chunks[i] for i in indicator.tolist()])

    for beta, expected in ((0.0, 1.0), (1.0, 3.0), (1.5, 4.0), (2.5, 6.0)):
        assert guided(run, beta).item() == pytest.approx(expected)


def test_rollouts_and_evaluations_are_guided_by_their_own_beta():
    policy = with_indicator(policy_of(), guidance=1.0, evaluation_guidance=2.0)
    assert policy.beta == 1.0
    policy.guide(evaluation=True)
    assert policy.beta == 2.0
    policy.guide(evaluation=False)
    assert policy.beta == 1.0


def test_the_prompt_is_the_papers():
    assert PROMPTS[Indicator.POSITIVE] == "Advantage: positive"
    assert PROMPTS[Indicator.NEGATIVE] == "Advantage: negative"
    assert tokenize(PROMPTS[Indicator.NONE]).sum() == 0


# ---- the learner -----------------------------------------------------------------------------


def trained(learner, records, store, *, steps=300, batch_size=32, **kwargs):
    buffer = buffer_of(store, records, config=learner.policy.config, rules=learner)
    trainer = Trainer(learner, buffer, FixedMixture(), seed=0, batch_size=batch_size, **kwargs)
    for _ in range(steps):
        report = trainer.step()
    return trainer, report


@pytest.mark.parametrize("config", [STATE, IMAGE], ids=["state", "image"])
def test_it_acts_as_the_better_half_of_the_data_when_told_positive(config):
    store = Store()
    # Below a half: beyond it the unconditioned policy, a regression to the median, is the better
    # half as well.
    learner = recap(config, learning_rate=3e-3, ema_decay=0.9, positive_weight=0.4)
    steps = 300 if config is STATE else 120
    trained(learner, two_skills(store), store, steps=steps)
    policy = learner.policy
    chunks = {}
    for beta in (0.0, 1.0):
        policy.guidance = beta
        chunks[beta] = float(policy.act(observation(20.0))[0].mean())
    policy.guidance, policy.told = 1.0, Indicator.NEGATIVE
    negative = float(policy.act(observation(20.0))[0].mean())
    assert chunks[1.0] == pytest.approx(0.6, abs=0.15)
    assert negative == pytest.approx(-0.2, abs=0.15)
    # Unconditioned it sits between the two, nearer to what carries more of the loss.
    assert negative + 0.03 < chunks[0.0] < chunks[1.0] - 0.1


def test_the_gap_it_logs_is_how_far_the_indicator_moves_the_action():
    store = Store()
    learner = recap(learning_rate=3e-3, ema_decay=0.9)
    held_out = [observation(value) for value in (5.0, 15.0, 25.0)]
    assert learner.report(held_out)["action_gap"] == pytest.approx(0.0, abs=1e-6)
    trained(learner, two_skills(store), store)
    gap = learner.report(held_out)["action_gap"]
    assert gap == pytest.approx(0.8, abs=0.2)
    assert action_gap(learner.policy, held_out) == gap
    _, report = trained(learner, two_skills(store), store, steps=1)
    assert report.scalars["action_gap"] == gap
    assert learner.report([]) == {}


def test_positive_samples_carry_their_stated_share_of_each_tasks_loss():
    learner = recap(positive_weight=0.4)
    store = Store()
    buffer = buffer_of(store, two_skills(store), config=STATE, rules=learner)
    rows = np.array([*range(4), *range(40, 56)])  # 4 positive, 16 negative
    batch = buffer.gather(rows, np.random.default_rng(0))
    weights = learner._weights(batch)
    assert float(weights[:4].sum() / weights.sum()) == pytest.approx(0.4)
    assert float(weights.mean()) == pytest.approx(1.0)
    task = torch.tensor([0, 1, 1, 1] + [0] * 13 + [1] * 3)
    of_two = learner._weights(dataclasses.replace(batch, task=task))
    for own in (task == 0, task == 1):
        positive = own & (batch.indicator == POSITIVE)
        assert float(of_two[positive].sum()) == pytest.approx(0.4 * int(own.sum()))
        assert float(of_two[own].mean()) == pytest.approx(1.0)
    plain = recap(positive_weight=0.0)._weights(buffer.gather(rows, np.random.default_rng(0)))
    assert plain.tolist() == [1.0] * 20


def test_every_controlled_step_of_a_judged_episode_is_learned_from():
    modes = (POLICY,) * 3 + (TRANSITION,) * 2 + (HUMAN,) * 2 + (NOBODY,) * 2
    record = Store().make(modes=modes, flagged=range(3), outcome="timeout")
    assert not recap().targets(record).any()
    judged = dataclasses.replace(record, indicator=np.full(9, NEGATIVE, np.int8))
    assert recap().targets(judged).tolist() == [True] * 7 + [False] * 2


def test_unlabelled_and_aborted_episodes_teach_nothing():
    store = Store()
    unlabelled = store.make()
    aborted = dataclasses.replace(
        store.make(outcome="abort", seed=1), indicator=np.full(20, POSITIVE, np.int8)
    )
    assert not recap().targets(unlabelled).any()
    assert not recap().targets(aborted).any()


def test_a_sample_that_lost_its_indicator_moves_no_weight():
    store, learner = Store(), recap(weight_decay=0.0)
    record = told(store, [POSITIVE] * 20)
    buffer = buffer_of(store, [record], config=STATE, rules=learner)
    buffer.relabel(record.uid, np.full(20, NONE, np.int8))
    before = {k: v.clone() for k, v in learner.policy.state_dict().items()}
    result = learner.update(buffer.gather(np.arange(10), np.random.default_rng(0)))
    assert result.scalars["grad_norm"] == 0.0
    assert all(torch.equal(before[k], v) for k, v in learner.policy.state_dict().items())


def test_a_nan_batch_changes_no_weight():
    store, learner = Store(), recap()
    record = told(store, [POSITIVE, NEGATIVE] * 10)
    buffer = buffer_of(store, [record], config=STATE, rules=learner)
    batch = buffer.gather(np.arange(10), np.random.default_rng(0))
    before = {k: v.clone() for k, v in learner.policy.state_dict().items()}
    batch.action[3] = float("nan")
    assert not learner.update(batch).applied
    assert all(torch.equal(before[k], v) for k, v in learner.policy.state_dict().items())


def test_resuming_gives_the_same_weights_as_going_on():
    store = Store()
    records = two_skills(store)

    def trainer():
        learner = recap()
        buffer = buffer_of(store, records, config=learner.policy.config, rules=learner)
        return Trainer(learner, buffer, FixedMixture(), seed=3, batch_size=16)

    straight = trainer()
    for _ in range(8):
        straight.step()
    halves = trainer()
    for _ in range(4):
        halves.step()
    resumed = trainer()
    resumed.restore(halves.checkpoint())
    for _ in range(4):
        resumed.step()
    one, two = straight.learner.state().tensors, resumed.learner.state().tensors
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_it_is_built_by_name_behind_the_same_contract():
    built = build_learner("recap", policy_of(), {"dropout": 0.2, "evaluation_guidance": 2.5})
    assert built.uses_indicators
    assert built.policy.config.evaluation_guidance == 2.5
    assert not build_learner("hg_dagger", policy_of()).uses_indicators


# ---- sidecars --------------------------------------------------------------------------------


def test_a_moved_threshold_and_a_new_outcome_need_no_value_function():
    record = Store().make(modes=(POLICY,) * 60, outcome="success")
    value = np.linspace(-0.6, -0.1, 60).astype(np.float32)
    first = annotate(record, value, epsilons={"reach": -1.0}, horizon=10)
    assert (first.indicator == POSITIVE).all()
    moved = annotate(record, first.value, epsilons={"reach": 1.0}, horizon=10)
    assert (moved.indicator == NEGATIVE).all()
    assert (moved.advantage == first.advantage).all()
    corrected = annotate(
        dataclasses.replace(record, outcome="failure"), first.value, epsilons={"reach": 0.0}
    )
    assert corrected.returned[-1] == pytest.approx(-0.5)
    assert corrected.advantage[-1] < first.advantage[-1]
    assert (corrected.value == first.value).all()


@pytest.mark.parametrize(
    ("outcome", "epsilons"), [("abort", {"reach": 0.0}), ("success", {"push": 0.0})]
)
def test_without_judgement_or_threshold_there_is_no_indicator(outcome, epsilons):
    record = Store().make(outcome=outcome)
    annotation = annotate(record, np.full(20, -0.5, np.float32), epsilons=epsilons)
    assert (annotation.indicator == NONE).all()
    assert not recap().targets(with_annotation(record, annotation)).any()


def test_thresholds_are_taken_over_all_judged_episodes_of_a_task():
    store, rng = Store(), np.random.default_rng(0)
    annotated = []
    for number in range(6):
        record = store.make(modes=(POLICY,) * 50, seed=number)
        value = rng.uniform(-1, 0, 50).astype(np.float32)
        annotated.append((record, annotate(record, value, epsilons={})))
    epsilons = epsilons_of(annotated, PRETRAINING)
    positive = [
        annotate(record, a.value, epsilons=epsilons).indicator == POSITIVE
        for record, a in annotated
    ]
    assert np.mean(positive) == pytest.approx(0.3, abs=0.01)
    fewer = epsilons_of(annotated, Shares(easy_tasks=("reach",)))
    assert fewer["reach"] > epsilons["reach"]


def test_a_sidecar_survives_its_bytes_and_says_where_it_is_from():
    record = Store().make(modes=(POLICY,) * 5 + (HUMAN,) * 5)
    value = np.linspace(-0.5, 0, 10).astype(np.float32)
    annotation = annotate(
        record, value, epsilons={"reach": 0.0}, value_number=3, threshold_number=7
    )
    again = decode_annotation(encode_annotation(annotation))
    assert again.origin == annotation.origin
    assert (again.origin.value, again.origin.threshold) == (3, 7)
    for name in ("returned", "value", "advantage", "indicator"):
        np.testing.assert_array_equal(getattr(again, name), getattr(annotation, name))
    assert again.indicator.dtype == np.int8
    with pytest.raises(BadSidecar):
        decode_annotation(b"rubbish")


def test_indicators_reach_the_samples_and_can_be_replaced():
    store = Store()
    records = [told(store, [POSITIVE] * 20, seed=1), told(store, [NEGATIVE] * 20, seed=2)]
    buffer = buffer_of(store, records, config=STATE)
    rng = np.random.default_rng(0)
    assert buffer.gather(np.array([0, 19, 20]), rng).indicator.tolist() == [2, 2, 1]
    buffer.relabel(records[0].uid, np.full(20, NEGATIVE, np.int8))
    assert buffer.gather(np.array([0, 19, 20]), rng).indicator.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="steps"):
        buffer.relabel(records[0].uid, np.zeros(3, np.int8))
    with pytest.raises(KeyError):
        buffer.relabel("nobody", np.zeros(20, np.int8))
