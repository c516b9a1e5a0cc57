import datetime
import hashlib
import itertools

import numpy as np
import pytest
from django.utils import timezone

from learning import blobs
from learning.core.policies.base import base_of, load_policy
from learning.core.types import Observation
from learning.exceptions import LeaseLost, StoreUnavailable
from learning.models import Episode, Learner, LearnerMetric, PolicyVersion, Round
from learning.services import learners, rounds, warm
from learning.services.learners import claim_round, pause_learner, round_of
from tests.learning.brains import CONFIG, make_learner
from tests.learning.making import record, send


@pytest.fixture(autouse=True)
def _cold():
    warm.forget_warm()
    yield
    warm.forget_warm()


@pytest.fixture
def demonstrations(task):
    return [
        send(record(None, task, purpose="demonstration", policy_number=None, seed=i), None)
        for i in range(3)
    ]


def run(learner, *, steps=12, seconds=20.0, holder="here"):
    claim = claim_round(learner.pk, holder)
    assert claim is not None
    with round_of(claim):
        return rounds.run_round(claim, seconds=seconds, max_steps=steps)


def weights_of(learner):
    learner.refresh_from_db()
    return blobs.store().get(learner.checkpoint_sha256)


@pytest.mark.django_db(transaction=True)
def test_a_round_trains_publishes_checkpoints_and_gives_the_lease_back(robot, demonstrations):
    learner = make_learner()
    row = run(learner)
    learner.refresh_from_db()
    assert (row.state, row.steps, row.first_step, row.number) == ("done", 12, 0, 1)
    assert row.episodes_indexed == 3
    assert row.versions_published == 2
    assert row.train_s > 0
    assert not learner.lease_holder
    assert (learner.step, learner.checkpoint_step) == (12, 12)
    assert learner.trained_seq == 3
    versions = list(PolicyVersion.objects.order_by("number"))
    assert [v.number for v in versions] == [1, 2, 3]
    assert [v.parent and v.parent.number for v in versions] == [None, 1, 2]
    assert all(v.assigned_at for v in versions)
    assert versions[-1].gate["passed"]
    assert versions[-1].gate["frames"] > 0
    assert load_policy(blobs.store().get(versions[-1].sha256)).config == CONFIG
    robot.refresh_from_db()
    assert (robot.assigned_number, robot.assigned_sha256) == (3, versions[-1].sha256)
    metric = LearnerMetric.objects.order_by("id").last()
    assert metric.step == 12
    assert set(metric.values["loss_offline"]) == {"stack"}
    assert metric.values["omega"] == {"stack": 0.0}
    assert metric.values["episodes_offline"] == 3


@pytest.mark.django_db(transaction=True)
def test_the_first_use_of_every_episode_is_recorded_once(robot, demonstrations):
    learner = make_learner()
    before = timezone.now()
    run(learner, steps=30)
    first = {e.pk: (e.first_trained_at, e.first_trained_step) for e in Episode.objects.all()}
    assert all(at >= before and step >= 1 for at, step in first.values())
    uses = {use.episode_id: (use.at, use.step) for use in learner.uses.all()}
    assert uses == first
    warm.forget_warm()
    run(learner)
    again = {e.pk: (e.first_trained_at, e.first_trained_step) for e in Episode.objects.all()}
    assert again == first
    assert {use.episode_id: (use.at, use.step) for use in learner.uses.all()} == first
    # Another learner has a lineage of its own; what the episode says stays the first learner's.
    other = make_learner("other")
    run(other, steps=30)
    assert {use.episode_id for use in other.uses.all()} == set(first)
    assert {
        e.pk: (e.first_trained_at, e.first_trained_step) for e in Episode.objects.all()
    } == first


@pytest.mark.django_db(transaction=True)
def test_only_closed_complete_training_episodes_of_this_embodiment_are_indexed(robot, task):
    learner = make_learner()
    modes = (0, 1, 1, 1, 1, 0)
    good = send(record(robot, task, modes=modes), robot)
    send(record(robot, task, modes=modes, purpose="eval"), robot)
    send(record(robot, task, modes=modes, complete=False), robot)
    row = run(learner)
    assert row.episodes_indexed == 1
    assert [e.pk for e in Episode.objects.filter(first_trained_at__isnull=False)] == [good.pk]


@pytest.mark.django_db(transaction=True)
def test_a_warm_and_a_restored_learner_learn_the_same_bit_for_bit(robot, demonstrations, task):
    one = make_learner("one", publish_steps=10)
    two = make_learner("two", publish_steps=10)
    for learner, forget in ((one, False), (two, True)):
        for _ in range(2):
            run(learner, steps=7)
            if forget:
                warm.forget_warm()
    assert weights_of(one) == weights_of(two)


@pytest.mark.django_db(transaction=True)
def test_a_learner_somebody_else_trained_is_restored_not_continued(robot, demonstrations):
    learner = make_learner()
    run(learner, steps=5)
    stale = warm._warm.pop(learner.pk)
    run(learner, steps=5, holder="elsewhere")
    warm._warm[learner.pk] = stale
    row = run(learner, steps=5)
    assert row.first_step == 10
    learner.refresh_from_db()
    assert learner.step == 15


@pytest.mark.django_db(transaction=True)
def test_without_data_a_round_waits_and_says_so(robot):
    learner = make_learner()
    row = run(learner, seconds=0.2)
    assert (row.state, row.steps) == ("done", 0)
    learner.refresh_from_db()
    assert learner.note == "nothing to learn from yet"
    assert PolicyVersion.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_an_episode_that_closes_during_a_round_is_trained_on_in_it(robot, demonstrations, task):
    learner = make_learner()
    sent = []

    calls = itertools.count()

    def stopping():
        if next(calls) < 3:
            return False
        if not sent:
            sent.append(send(record(robot, task, modes=(1,) * 6), robot))
        return Episode.objects.filter(pk=sent[0].pk, first_trained_at__isnull=False).exists()

    claim = claim_round(learner.pk, "here")
    rounds.run_round(claim, seconds=30, stopping=stopping)
    sent[0].refresh_from_db()
    assert sent[0].first_trained_step > 1


@pytest.mark.django_db(transaction=True)
def test_a_pause_ends_the_round_within_a_poll_and_keeps_its_steps(robot, demonstrations):
    learner = make_learner()
    calls = []

    def stopping():
        calls.append(timezone.now())
        if len(calls) == 5:
            pause_learner(learner.name)
        return False

    claim = claim_round(learner.pk, "here")
    row = rounds.run_round(claim, seconds=60, stopping=stopping)
    assert row.state == "done"
    assert row.reason == "paused"
    assert calls[-1] - calls[4] < datetime.timedelta(seconds=1)
    learner.refresh_from_db()
    assert learner.checkpoint_step == learner.step > 0
    assert claim_round(learner.pk, "here") is None


@pytest.mark.django_db(transaction=True)
def test_the_update_rate_is_capped(robot, demonstrations):
    learner = make_learner(updates_per_s=10.0, publish_steps=1000)
    row = run(learner, steps=None, seconds=1.0)
    # One step at once, then ten a second.
    assert 1 <= row.steps <= 11
    assert row.wait_share > 0


@pytest.mark.django_db(transaction=True)
def test_weights_that_fail_the_gate_are_recorded_and_reach_no_robot(
    robot, demonstrations, monkeypatch
):
    from learning.core import gate

    learner = make_learner()
    monkeypatch.setattr(
        gate, "sanity_gate", lambda *_: gate.GateResult(False, "proposals are constant")
    )
    row = run(learner)
    assert row.versions_published == 0
    rejected = PolicyVersion.objects.filter(state="rejected")
    assert rejected.count() == 2
    assert all(blobs.store().size(v.sha256) is None for v in rejected)
    robot.refresh_from_db()
    assert robot.assigned_number == 1
    learner.refresh_from_db()
    assert "proposals are constant" in learner.note


@pytest.mark.django_db(transaction=True)
def test_a_store_outage_delays_publishing_and_not_training(robot, demonstrations, monkeypatch):
    learner = make_learner()
    run(learner, steps=3)

    def down(*_, **__):
        raise StoreUnavailable("the object store failed")

    with monkeypatch.context() as outage:
        outage.setattr(blobs.BlobStore, "put", down)
        row = run(learner, steps=8)
    assert (row.state, row.steps, row.versions_published) == ("done", 8, 0)
    learner.refresh_from_db()
    assert "object store" in learner.note
    assert learner.checkpoint_step == 3
    # The next round is not fooled: what was not checkpointed is still in memory.
    row = run(learner, steps=6)
    assert row.versions_published >= 1
    learner.refresh_from_db()
    assert learner.checkpoint_step == learner.step


@pytest.mark.django_db(transaction=True)
def test_a_round_that_lost_its_lease_writes_nothing_more(robot, demonstrations):
    learner = make_learner()
    claim = claim_round(learner.pk, "slow")
    learner.refresh_from_db()
    learner.lease_expires_at = timezone.now() - datetime.timedelta(seconds=1)
    learner.save()
    other = claim_round(learner.pk, "quick")
    with pytest.raises(LeaseLost):
        rounds.run_round(claim, seconds=5, max_steps=10)
    learner.refresh_from_db()
    assert (learner.lease_epoch, learner.lease_holder) == (other.epoch, "quick")
    assert learner.step == 0
    assert PolicyVersion.objects.count() == 1
    assert list(Round.objects.order_by("number").values_list("state", flat=True)) == [
        "lost",
        "running",
    ]


@pytest.mark.django_db(transaction=True)
def test_a_failed_round_says_why_and_the_next_one_starts_from_the_checkpoint(
    robot, demonstrations, monkeypatch
):
    from learning.core.trainer import Trainer

    learner = make_learner()
    run(learner, steps=4)

    def broken(_):
        raise RuntimeError("a tensor went missing")

    with monkeypatch.context() as bad:
        bad.setattr(Trainer, "step", broken)
        with pytest.raises(RuntimeError):
            run(learner)
    learner.refresh_from_db()
    assert learner.last_error == "RuntimeError: a tensor went missing"
    assert not learner.lease_holder
    row = run(learner, steps=4)
    assert (row.first_step, row.number, row.state) == (4, 3, "done")
    learner.refresh_from_db()
    assert not learner.last_error


@pytest.mark.django_db(transaction=True)
def test_superseded_checkpoints_are_deleted(robot, demonstrations, store):
    learner = make_learner(publish_steps=1000)
    for _ in range(3):
        run(learner, steps=2)
    learner.refresh_from_db()
    named = {v.sha256 for v in PolicyVersion.objects.all()} | {learner.checkpoint_sha256}
    parts = {p.sha256 for e in Episode.objects.all() for p in e.parts.all()}
    assert {blob.sha256 for blob in store.iter_blobs()} == named | parts


@pytest.mark.django_db(transaction=True)
def test_a_changed_configuration_applies_from_the_next_round(robot, demonstrations):
    learner = make_learner()
    run(learner, steps=2)
    learner.refresh_from_db()
    learner.config = {**learner.config, "batch_size": 3}
    learner.save()
    run(learner, steps=2)
    assert warm._warm[learner.pk].trainer.batch_size == 3


@pytest.mark.django_db(transaction=True)
def test_a_configuration_that_is_none_fails_the_round_with_a_reason(robot, demonstrations):
    from learning.exceptions import Unprocessable

    learner = make_learner()
    learner.config = {"batch_size": "many"}
    learner.save()
    with pytest.raises(Unprocessable):
        run(learner)
    learner.refresh_from_db()
    assert "batch_size" in learner.last_error


def test_a_hash_is_what_names_a_checkpoint(store):
    assert store.put(b"checkpoint") == hashlib.sha256(b"checkpoint").hexdigest()
    assert learners.LEASE_TTL.total_seconds() > 10 * rounds.WRITE_S


@pytest.mark.django_db(transaction=True)
def test_a_learner_with_frozen_parts_publishes_what_differs_from_its_base(robot, demonstrations):
    learner = make_learner(trains=["head"])
    run(learner)
    base, *later = PolicyVersion.objects.order_by("number")
    whole = blobs.store().get(base.sha256)
    assert len(later) == 2
    for version in later:
        artifact = blobs.store().get(version.sha256)
        assert version.size_bytes == len(artifact) < base.size_bytes
        assert base_of(artifact).sha256 == base.sha256
        assert version.gate["passed"]
        policy, before = load_policy(artifact, lambda _: whole), load_policy(whole)
        for name, tensor in policy.state_dict().items():
            assert tensor.equal(before.state_dict()[name]) is not name.startswith("head."), name
    warm.forget_warm()
    row = run(learner, steps=3)
    assert (row.state, row.first_step, row.steps) == ("done", 12, 3)


@pytest.mark.django_db(transaction=True)
def test_a_part_that_the_policy_does_not_have_fails_the_round_in_words(robot, demonstrations):
    learner = make_learner(trains=["haed"])
    with pytest.raises(ValueError, match="it has text, head"):
        run(learner)
    learner.refresh_from_db()
    assert "no part 'haed'; it has text, head" in learner.last_error


@pytest.mark.django_db(transaction=True)
def test_an_ensemble_is_put_beside_the_base_and_survives_a_restart(robot, demonstrations):
    learner = make_learner(doubt_heads=3)
    run(learner)
    warm.forget_warm()
    assert run(learner, steps=6).first_step == 12
    newest = PolicyVersion.objects.order_by("-number").first()
    policy = load_policy(blobs.store().get(newest.sha256))
    assert policy.config.doubt_heads == 3
    seen = Observation(images={}, state=np.zeros(3, np.float32), instruction="stack")
    assert policy.act(seen)[1] > 0


@pytest.mark.django_db(transaction=True)
def test_filtered_bc_runs_in_rounds_like_any_learner(robot, demonstrations):
    learner = make_learner(learner={"fastest": 0.5})
    Learner.objects.filter(pk=learner.pk).update(algorithm="filtered_bc")
    row = run(learner)
    assert (row.state, row.steps, row.versions_published) == ("done", 12, 2)
