from datetime import timedelta

import numpy as np
import pytest
from django.utils import timezone

from fleet.models import Robot
from fleet.services.robots import assignment_of
from learning import blobs
from learning.core.sidecar import decode_annotation
from learning.core.types import Indicator
from learning.exceptions import LeaseLost
from learning.models import Label, PolicyVersion, Sidecar, ThresholdVersion, ValueVersion
from learning.selectors.values import threshold_in_force
from learning.services import rounds, sidecars, values, warm
from learning.services.labels import add_label
from learning.services.learners import claim_round, round_of
from learning.services.objects import sweep_orphans
from learning.services.sidecars import derive_threshold, run_value_job
from learning.services.values import claim_value, move_threshold, request_value
from tests.learning.brains import make_learner
from tests.learning.making import record, send

FIT = {"steps": 10, "batch_size": 16, "width": 16, "folds": 2, "horizon": 3}
NONE, NEGATIVE, POSITIVE = (int(i) for i in Indicator)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _cold():
    warm.forget_warm()
    yield
    warm.forget_warm()


@pytest.fixture
def episodes(robot, task):
    return [
        send(record(robot, task, modes=(0,) * 8, outcome=outcome, seed=10 + i), robot)
        for i, outcome in enumerate(("success", "success", "failure", "timeout", "abort"))
    ]


@pytest.fixture
def learner(robot):
    learner = make_learner("recap")
    learner.algorithm = "recap"
    learner.save()
    return learner


@pytest.fixture
def inferences(monkeypatch):
    """How often a value function's network valued an episode outside its own fit."""
    count = []
    own = sidecars.Annotator._infer
    monkeypatch.setattr(
        sidecars.Annotator, "_infer", lambda self, record: count.append(1) or own(self, record)
    )
    return count


def fitted(learner, **config):
    claim = claim_value(request_value(learner, FIT | config).pk, "here")
    return run_value_job(claim)


def run(learner, *, steps=6, seconds=20.0):
    claim = claim_round(learner.pk, "here")
    with round_of(claim):
        return rounds.run_round(claim, seconds=seconds, max_steps=steps)


def columns(row):
    return decode_annotation(blobs.store().get(row.sha256))


def in_force(learner, episode, outcome=None):
    return columns(
        Sidecar.objects.get(
            episode=episode,
            threshold=threshold_in_force(learner),
            outcome=outcome or episode.outcome,
        )
    )


def test_a_job_fits_what_was_judged_and_shows_its_held_out_correlation(learner, episodes):
    value = fitted(learner, shares={"positive": 0.4})
    assert (value.state, value.progress, value.reason) == ("done", 1.0, "")
    # The aborted one was judged by nobody.
    assert (value.episodes, value.frames, value.fitted_seq) == (4, 32, 5)
    assert -1 <= value.correlation <= 1
    # Robots compute it from now on.
    told = assignment_of(Robot.objects.get()).value
    assert (told.number, told.sha256) == (1, value.sha256)
    assert told.correlation == value.correlation
    assert told.size_bytes == blobs.store().size(value.sha256)
    assert set(value.by_task) == {"stack"}
    assert blobs.store().size(value.sha256)
    threshold = threshold_in_force(learner)
    assert threshold.shares["positive"] == 0.4
    assert set(threshold.epsilons) == {"stack"}
    assert Sidecar.objects.filter(threshold=None).count() == 4


def test_the_first_threshold_is_the_papers_for_demonstrations_and_for_robots(learner, robot, task):
    for seed in range(2):
        shown = record(
            None, task, modes=(1,) * 8, purpose="demonstration", policy_number=None, seed=seed + 50
        )
        send(shown, None)
    fitted(learner)
    assert threshold_in_force(learner).shares["positive"] == 0.3
    send(record(robot, task, modes=(0,) * 8, seed=60), robot)
    fitted(learner)
    assert threshold_in_force(learner).shares["positive"] == 0.4


def test_too_few_episodes_fail_the_job_with_the_reason(learner, robot, task):
    value = fitted(learner)
    assert value.state == "failed"
    assert "0 judged episodes" in value.reason


def test_an_unknown_option_fails_the_job_with_the_reason(learner, episodes):
    assert "stepps" in fitted(learner, stepps=3).reason


def test_a_cancelled_job_leaves_nothing(learner, episodes):
    claim = claim_value(request_value(learner, FIT).pk, "here")
    ValueVersion.objects.update(cancel_asked=True)
    assert run_value_job(claim).state == "cancelled"
    assert not Sidecar.objects.exists()
    assert threshold_in_force(learner) is None


def test_a_job_is_given_back_when_its_worker_is_told_to_stop(learner, episodes):
    claim = claim_value(request_value(learner, FIT).pk, "here")
    assert run_value_job(claim, stopping=lambda: True).state == "due"


def test_a_job_begun_again_forgets_what_the_lost_attempt_left(learner, episodes, monkeypatch, cast):
    claim = claim_value(request_value(learner, FIT).pk, "here")
    with monkeypatch.context() as patched:

        def lose(*_, **__):
            raise LeaseLost("another worker")

        patched.setattr(values, "finish_value", lose)
        with pytest.raises(LeaseLost):
            run_value_job(claim)
    assert Sidecar.objects.count() == 4
    add_label(episode_uid=episodes[0].uid, operator=cast.labeller, outcome="failure")
    ValueVersion.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    again = run_value_job(claim_value(claim.value_id, "there"))
    assert (again.state, again.lease_epoch) == ("done", 2)
    outcomes = Sidecar.objects.filter(threshold=None).values_list("episode_id", "outcome")
    assert dict(outcomes)[episodes[0].pk] == "failure"
    assert len(outcomes) == 4


def test_the_first_round_asks_for_a_value_function_and_learns_once_there_is_one(learner, episodes):
    # Nothing to learn from: such a round lasts its whole time.
    first = run(learner, seconds=0.1)
    assert (first.steps, first.reason) == (0, "waits for a value function")
    (asked,) = ValueVersion.objects.all()
    assert asked.state == "due"
    run(learner, seconds=0.1)
    assert ValueVersion.objects.count() == 1
    ValueVersion.objects.update(config=FIT)
    run_value_job(claim_value(asked.pk, "here"))
    # The warm learner's buffer had no indicators: it is filled anew.
    second = run(learner)
    assert second.steps == 6
    version = PolicyVersion.objects.order_by("number").last()
    assert version.gate["action_gap"] >= 0
    trained = {e.pk for e in episodes[:4]}
    assert (
        set(Sidecar.objects.exclude(threshold=None).values_list("episode_id", flat=True)) >= trained
    )


def test_only_judged_episodes_train(learner, episodes):
    fitted(learner)
    run(learner, steps=20)
    episodes[4].refresh_from_db()
    assert episodes[4].first_trained_at is None
    assert (in_force(learner, episodes[4]).indicator == NONE).all()
    episodes[0].refresh_from_db()
    assert episodes[0].first_trained_at is not None


def test_a_moved_threshold_derives_indicators_without_running_the_network(
    learner, episodes, inferences
):
    fitted(learner)
    run(learner)
    # Of the aborted episode, which no fit covered.
    assert len(inferences) == 1
    before = [in_force(learner, e) for e in episodes[:4]]
    derive_threshold(move_threshold(learner, {"positive": 0.9}))
    after = [in_force(learner, e) for e in episodes[:4]]
    assert len(inferences) == 1
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old.value, new.value)
        np.testing.assert_array_equal(old.advantage, new.advantage)
    positive = [np.mean([(a.indicator == POSITIVE).mean() for a in x]) for x in (before, after)]
    assert positive[0] < 0.6 < 0.8 < positive[1]
    # The next round learns with it.
    row = run(learner)
    assert row.steps == 6
    assert warm._warm[learner.pk].threshold_id == threshold_in_force(learner).pk


def test_a_corrected_label_derives_only_its_own_episode(learner, episodes, inferences, cast):
    fitted(learner)
    run(learner)
    rows = set(Sidecar.objects.values_list("pk", flat=True))
    counted = len(inferences)
    add_label(episode_uid=episodes[0].uid, operator=cast.labeller, outcome="failure")
    run(learner)
    (fresh,) = Sidecar.objects.exclude(pk__in=rows)
    assert (fresh.episode_id, fresh.outcome) == (episodes[0].pk, "failure")
    assert len(inferences) == counted
    new, old = in_force(learner, episodes[0], "failure"), in_force(learner, episodes[0])
    np.testing.assert_array_equal(new.value, old.value)
    assert new.returned[-1] < old.returned[-1] == 0.0
    buffer = warm._warm[learner.pk].trainer.buffer
    position = buffer.episode(str(episodes[0].uid))
    first, end = buffer._first_row.values[position], buffer._end_row.values[position]
    np.testing.assert_array_equal(buffer._indicator.values[first:end], new.indicator)


def test_a_label_taken_back_reads_the_old_sidecar_again(learner, episodes, cast):
    fitted(learner)
    run(learner)
    for outcome in ("failure", "success"):
        add_label(episode_uid=episodes[0].uid, operator=cast.labeller, outcome=outcome)
        run(learner)
    assert Label.objects.count() == 2
    assert Sidecar.objects.filter(episode=episodes[0]).exclude(threshold=None).count() == 2


def test_a_new_value_function_needs_no_new_episodes(learner, episodes, robot, task, inferences):
    fitted(learner)
    run(learner)
    first = threshold_in_force(learner)
    late = send(record(robot, task, modes=(0,) * 8, outcome="success", seed=30), robot)
    run(learner)
    # It closed after the fit: the network values it, once.
    assert len(inferences) == 2
    fitted(learner, seed=1)
    run(learner)
    assert len(inferences) == 3  # the aborted one again; the late one was fitted to
    assert threshold_in_force(learner).value.number == 2
    assert Sidecar.objects.filter(episode=late, value=first.value).count() == 1
    assert in_force(learner, late).origin.value == 2


def test_sidecars_and_weights_survive_the_sweep_of_orphans(learner, episodes):
    value = fitted(learner)
    sweep_orphans(grace=timedelta(seconds=-1))
    assert blobs.store().size(value.sha256)
    assert all(blobs.store().size(row.sha256) for row in Sidecar.objects.all())


def test_deriving_twice_changes_nothing(learner, episodes):
    fitted(learner)
    moved = move_threshold(learner, {"positive": 0.5})
    derive_threshold(moved)
    rows = list(Sidecar.objects.values_list("pk", "sha256"))
    derive_threshold(ThresholdVersion.objects.get(pk=moved.pk))
    assert list(Sidecar.objects.values_list("pk", "sha256")) == rows
