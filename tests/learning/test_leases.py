import datetime

import pytest
from django.utils import timezone

from learning.exceptions import LeaseLost, NotFound
from learning.models import Learner, LearnerMetric, Round
from learning.selectors.learners import due_learners
from learning.services.learners import (
    add_metric,
    claim_round,
    end_round,
    pause_learner,
    renew,
    save_checkpoint,
    seed_learner,
    start_learner,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def learner():
    seed_learner("l")
    return start_learner("l")


def expire(learner):
    past = timezone.now() - datetime.timedelta(seconds=1)
    Learner.objects.filter(pk=learner.pk).update(lease_expires_at=past)


def test_a_round_is_claimed_once_until_it_ends(learner):
    claim = claim_round(learner.pk, "a")
    assert (claim.epoch, claim.previous_epoch) == (1, 0)
    assert claim_round(learner.pk, "b") is None
    assert not due_learners().exists()
    end_round(claim, state=Round.State.DONE)
    assert claim_round(learner.pk, "b").epoch == 2


def test_a_message_delivered_again_claims_nothing_even_after_the_round_ended(learner):
    first = claim_round(learner.pk, "a", after_epoch=0)
    end_round(first, state=Round.State.DONE)
    assert claim_round(learner.pk, "a", after_epoch=0) is None
    assert Round.objects.count() == 1


def test_a_paused_or_unknown_learner_has_no_round(learner):
    pause_learner("l")
    assert claim_round(learner.pk, "a") is None
    assert claim_round(learner.pk + 1, "a") is None
    assert not due_learners().exists()


def test_an_expired_lease_is_taken_over_and_its_round_is_lost(learner):
    lost = claim_round(learner.pk, "a")
    renew(lost, step=30)
    expire(learner)
    assert due_learners().get() == learner
    claim = claim_round(learner.pk, "b")
    assert claim.epoch == 2
    states = dict(Round.objects.values_list("number", "state"))
    assert states == {1: "lost", 2: "running"}
    learner.refresh_from_db()
    # Steps beyond the checkpoint went with the process.
    assert learner.step == 0


def test_every_write_of_a_lost_round_is_refused(learner):
    lost = claim_round(learner.pk, "a")
    expire(learner)
    claim_round(learner.pk, "b")
    before = Learner.objects.values().get()
    for write in (
        lambda: renew(lost, step=9),
        lambda: save_checkpoint(lost, sha256="0" * 64, step=9, trained_seq=9),
        lambda: add_metric(lost, step=9, values={}),
    ):
        with pytest.raises(LeaseLost):
            write()
    end_round(lost, state=Round.State.DONE, steps=9)
    assert Learner.objects.values().get() == before
    assert not LearnerMetric.objects.exists()
    assert Round.objects.get(number=1).steps == 0


def test_a_write_after_the_end_of_a_round_is_refused(learner):
    claim = claim_round(learner.pk, "a")
    end_round(claim, state=Round.State.DONE)
    with pytest.raises(LeaseLost):
        renew(claim, step=1)


def test_renewing_extends_the_lease_and_tells_of_a_pause(learner):
    claim = claim_round(learner.pk, "a")
    expire(learner)
    assert renew(claim, step=5)
    learner.refresh_from_db()
    assert learner.busy
    pause_learner("l")
    assert not renew(claim, step=6)


def test_ending_twice_keeps_the_first_end(learner):
    claim = claim_round(learner.pk, "a")
    end_round(claim, state=Round.State.FAILED, note="it broke")
    end_round(claim, state=Round.State.DONE)
    assert Round.objects.get().state == "failed"
    learner.refresh_from_db()
    assert learner.last_error == "it broke"


def test_a_point_of_the_curves_is_written_once_a_step(learner):
    claim = claim_round(learner.pk, "a")
    add_metric(claim, step=5, values={"loss": 1.0})
    add_metric(claim, step=5, values={"loss": 2.0})
    assert LearnerMetric.objects.get().values == {"loss": 1.0}


def test_starting_and_pausing_again_change_nothing_and_unknown_names_are_refused(learner):
    assert start_learner("l").state == "running"
    assert pause_learner("l").state == pause_learner("l").state == "paused"
    with pytest.raises(NotFound):
        start_learner("nobody")


def test_seeding_again_keeps_what_is_there(learner):
    assert seed_learner("l", {"seed": 5}).pk == learner.pk
    assert "seed" not in seed_learner("l").config
