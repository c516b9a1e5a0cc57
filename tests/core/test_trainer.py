from dataclasses import replace

import numpy as np
import pytest
import torch

from learning.core.checkpoint import BadCheckpoint, decode_checkpoint
from learning.core.compute import Compute
from learning.core.learners.base import build_learner
from learning.core.policies.base import PolicyConfig, build_policy, save_policy
from learning.core.policies.freezing import train_only
from learning.core.sampler import AdaptiveSampler, FixedMixture
from learning.core.trainer import NothingToLearn, Trainer
from tests.core.making import BLIND, CONFIG, Store, TinyPolicy, buffer_of

HUMAN = (1,) * 24
LIMITS = {"action_low": (-1.0,) * 4, "action_high": (1.0,) * 4}
IMAGE = PolicyConfig(
    kind="image", state_dim=4, action_dim=4, cameras=("corner", "wrist"), image_px=32, **LIMITS
)
STATE = PolicyConfig(kind="state", state_dim=4, action_dim=4, image_px=32, width=32, **LIMITS)


def episodes(store):
    """Return demonstrations and corrections of three tasks, in the order they were closed."""
    words = {"paraphrases": ("do it", "please do it now")}
    records = []
    for number, (task, purpose) in enumerate(
        (task, purpose) for purpose in ("demonstration", "train") for task in ("a", "b", "c")
    ):
        record = store.make(
            modes=HUMAN, task=task, purpose=purpose, seed=number, closed_seq=number + 1, **words
        )
        records.append(record)
    return records


def trainer_of(
    records,
    store,
    config,
    *,
    seed=0,
    sampler=None,
    weights=1,
    algorithm="hg_dagger",
    trains=(),
    compute=None,
    **kwargs,
):
    torch.manual_seed(weights)
    policy = TinyPolicy(config) if config.kind == "tiny" else build_policy(config)
    train_only(policy, trains)
    learner = build_learner(algorithm, (compute or Compute()).place(policy))
    buffer = buffer_of(store, records, config=config, rules=learner, cache_bytes=300_000)
    sampler = sampler or AdaptiveSampler(window=5)
    return Trainer(learner, buffer, sampler, seed=seed, batch_size=10, compute=compute, **kwargs)


def same_state(first, second):
    first, second = first.learner.state(), second.learner.state()
    assert first.counters == second.counters
    assert first.tensors.keys() == second.tensors.keys()
    return all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)


def timeless(report):
    return replace(report, gather_s=0.0, update_s=0.0)


@pytest.mark.parametrize("config", [IMAGE, STATE, CONFIG], ids=lambda config: config.kind)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(config):
    store = Store()
    records = episodes(store)
    whole = trainer_of(records[:4], store, config)
    reports = []
    for step in range(14):
        if step == 3:
            for record in records[4:]:
                whole.buffer.add(record)
        reports.append(timeless(whole.step()))

    first = trainer_of(records[:4], store, config)
    for step in range(6):
        if step == 3:
            for record in records[4:]:
                first.buffer.add(record)
        assert timeless(first.step()) == reports[step]
    saved = first.checkpoint()

    # Another process: other weights, another seed, and other use of the global generators.
    second = trainer_of(records, store, config, seed=99, weights=7)
    meta = second.restore(saved)
    assert (meta.step, meta.cursor) == (6, 6)
    for step in range(6, 14):
        torch.rand(3)
        assert timeless(second.step()) == reports[step]
    assert same_state(whole, second)
    assert save_policy(whole.learner.policy) == save_policy(second.learner.policy)


def test_another_seed_gives_another_run():
    store = Store()
    records = episodes(store)
    first, second = (trainer_of(records, store, CONFIG, seed=seed) for seed in (0, 1))
    for _ in range(3):
        first.step()
        second.step()
    assert not same_state(first, second)


def test_what_else_runs_in_the_process_does_not_change_what_is_learned():
    store = Store()
    records = episodes(store)
    quiet, noisy = (trainer_of(records, store, CONFIG) for _ in range(2))
    before = torch.get_rng_state()
    quiet.step()
    assert torch.equal(torch.get_rng_state(), before)
    for _ in range(2):
        quiet.step()
    for _ in range(3):
        torch.rand(5)
        noisy.step()
    assert same_state(quiet, noisy)


def test_a_step_says_what_it_learned_and_from_what():
    store = Store()
    records = episodes(store)
    trainer = trainer_of(records[:4], store, CONFIG)
    report = trainer.step()
    assert report.step == 1
    assert report.applied
    assert {task for task, _ in report.losses} <= {"a", "b", "c"}
    assert [mixture.omega for mixture in report.mixtures] == [0.5, 0.0, 0.0]
    assert report.gather_s > 0
    assert report.update_s > 0
    seen = set(report.first_used)
    for _ in range(20):
        fresh = trainer.step().first_used
        assert not seen & set(fresh)
        seen |= set(fresh)
    assert seen == {record.uid for record in records[:4]}
    trainer.buffer.add(records[4])
    later = [uid for _ in range(5) for uid in trainer.step().first_used]
    assert later == [records[4].uid]


def test_losses_reach_the_sampler_by_task_and_side():
    store = Store()
    trainer = trainer_of(episodes(store), store, CONFIG, sampler=AdaptiveSampler(window=50))
    reports = [trainer.step() for _ in range(30)]
    for mixture in trainer.sampler.mixtures(trainer.buffer):
        for side, mean in ((True, mixture.online_loss), (False, mixture.offline_loss)):
            losses = [
                r.losses[mixture.task, side] for r in reports if (mixture.task, side) in r.losses
            ]
            assert mean == pytest.approx(np.mean(losses))
        assert 0.2 <= mixture.omega <= 0.8


def test_nothing_to_learn_from_is_said():
    store = Store()
    trainer = trainer_of([], store, CONFIG)
    with pytest.raises(NothingToLearn):
        trainer.step()
    trainer.buffer.add(store.make(modes=(0,) * 10))
    with pytest.raises(NothingToLearn):
        trainer.step()


def test_a_poisoned_batch_is_reported_and_does_not_reach_the_sampler():
    store = Store()
    trainer = trainer_of(episodes(store), store, BLIND)
    with torch.no_grad():
        trainer.learner._policy.trunk[0].weight[0, 0] = float("nan")
    report = trainer.step()
    assert not report.applied
    assert report.losses == {}
    assert report.scalars["skipped"] == 1
    assert all(m.online_losses == 0 for m in trainer.sampler.mixtures(trainer.buffer))


@pytest.mark.parametrize("rubbish", [b"", b"rubbish", b"\xff" * 100, b"\x00" * 9])
def test_rubbish_is_no_checkpoint(rubbish):
    with pytest.raises(BadCheckpoint):
        decode_checkpoint(rubbish)


def test_a_checkpoint_cut_short_or_without_its_parts_is_refused():
    store = Store()
    trainer = trainer_of(episodes(store), store, CONFIG)
    trainer.step()
    saved = trainer.checkpoint()
    for length in (10, 500, len(saved) // 2, len(saved) - 1):
        with pytest.raises(BadCheckpoint):
            trainer.restore(saved[:length])
    with pytest.raises(BadCheckpoint):
        trainer.restore(save_policy(TinyPolicy(CONFIG)))


def test_a_checkpoint_of_another_policy_or_sampler_is_refused():
    store = Store()
    records = episodes(store)
    trainer = trainer_of(records, store, CONFIG)
    trainer.step()
    saved = trainer.checkpoint()
    with pytest.raises(BadCheckpoint, match="another policy"):
        trainer_of(records, store, BLIND).restore(saved)
    with pytest.raises(BadCheckpoint, match="sampler"):
        trainer_of(records, store, CONFIG, sampler=FixedMixture()).restore(saved)


def test_an_episode_that_is_gone_at_a_resume_does_not_stop_it():
    store = Store()
    records = episodes(store)
    trainer = trainer_of(records, store, CONFIG)
    for _ in range(10):
        trainer.step()
    resumed = trainer_of(records[1:], store, CONFIG)
    resumed.restore(trainer.checkpoint())
    assert resumed.step().step == 11
    assert resumed.step().first_used == []
