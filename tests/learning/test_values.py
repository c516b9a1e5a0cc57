from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from learning import tasks
from learning.exceptions import Conflict, LeaseLost
from learning.models import Learner, PolicyVersion, ThresholdVersion, ValueVersion
from learning.selectors.values import due_thresholds, due_values, threshold_in_force
from learning.services.values import (
    Cancelled,
    cancel_value,
    claim_value,
    end_value,
    finish_value,
    give_value_back,
    move_threshold,
    report_progress,
    request_value,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def learner(db):
    return Learner.objects.create(name="recap", algorithm="recap")


def finished(learner, **figures):
    claim = claim_value(request_value(learner).pk, "here")
    finish_value(
        claim, shares={"positive": 0.3}, epsilons={"stack": 0.1}, sha256="a" * 64, **figures
    )
    return ValueVersion.objects.get(pk=claim.value_id)


def test_asking_twice_makes_one_job(learner):
    first = request_value(learner)
    assert request_value(learner, {"steps": 5}) == first
    assert list(due_values()) == [first]
    end_value(claim_value(first.pk, "here"), state="failed", reason="no")
    assert request_value(learner).number == 2


def test_a_job_is_claimed_once_and_again_when_its_worker_goes_silent(learner):
    value = request_value(learner)
    claim = claim_value(value.pk, "here")
    assert claim_value(value.pk, "there") is None
    assert not due_values().exists()
    ValueVersion.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    again = claim_value(value.pk, "there")
    assert again.epoch == claim.epoch + 1
    with pytest.raises(LeaseLost):
        report_progress(claim, 0.5)
    with pytest.raises(LeaseLost):
        finish_value(claim, shares={}, epsilons={}, sha256="a" * 64)
    end_value(claim, state="failed")
    value.refresh_from_db()
    assert (value.state, value.lease_holder) == ("running", "there")
    assert not ThresholdVersion.objects.exists()


def test_progress_is_shown_and_keeps_the_lease(learner):
    claim = claim_value(request_value(learner).pk, "here")
    ValueVersion.objects.update(lease_expires_at=timezone.now() + timedelta(seconds=1))
    report_progress(claim, 0.25)
    value = ValueVersion.objects.get()
    assert value.progress == 0.25
    assert value.lease_expires_at > timezone.now() + timedelta(seconds=10)


def test_a_job_nobody_began_is_cancelled_at_once_and_a_running_one_when_it_reports(learner):
    waiting = cancel_value(request_value(learner))
    assert (waiting.state, claim_value(waiting.pk, "here")) == ("cancelled", None)
    running = request_value(learner)
    claim = claim_value(running.pk, "here")
    assert cancel_value(running).state == "running"
    with pytest.raises(Cancelled):
        report_progress(claim, 0.5)
    end_value(claim, state="cancelled")
    assert cancel_value(running).state == "cancelled"


def test_a_value_function_in_use_is_not_taken_away(learner):
    with pytest.raises(Conflict, match="is done"):
        cancel_value(finished(learner))


def test_a_worker_that_shuts_down_leaves_the_job_to_the_next(learner):
    value = request_value(learner)
    give_value_back(claim_value(value.pk, "here"))
    assert claim_value(value.pk, "there") is not None


def test_the_newest_derived_threshold_of_the_newest_value_function_is_in_force(learner):
    assert threshold_in_force(learner) is None
    with pytest.raises(Conflict):
        move_threshold(learner, {"positive": 0.4})
    first = finished(learner)
    assert threshold_in_force(learner).value == first
    moved = move_threshold(learner, {"positive": 0.4})
    assert move_threshold(learner, {"positive": 0.4}) == moved
    assert threshold_in_force(learner).number == 1
    assert list(due_thresholds()) == [moved]
    ThresholdVersion.objects.filter(pk=moved.pk).update(derived_at=timezone.now())
    assert threshold_in_force(learner) == moved
    second = finished(learner)
    assert threshold_in_force(learner).value == second


def test_the_database_refuses_what_a_service_might_forget(learner):
    now = timezone.now()
    for fields in (
        {"state": "done", "ended_at": now, "sha256": ""},
        {"state": "running"},
        {"state": "due", "ended_at": now},
        {"progress": 1.5},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            ValueVersion.objects.create(learner=learner, number=1, **fields)
    request_value(learner)
    with pytest.raises(IntegrityError), transaction.atomic():
        ValueVersion.objects.create(learner=learner, number=2)


@pytest.fixture
def sent(monkeypatch):
    messages = []
    for name in ("fit_value", "derive_thresholds"):
        monkeypatch.setattr(
            getattr(tasks, name),
            "apply_async",
            lambda args, *, name=name, **_: messages.append((name, args)),
        )
    return messages


@pytest.mark.django_db(transaction=True)
def test_leads_fit_cancel_and_move_over_the_api_and_others_only_look(client, learner, cast, sent):
    path = "/api/learners/recap/values"
    json = {"content_type": "application/json"}
    client.force_login(cast.operator.user)
    assert client.post(path, {}, **json).status_code == 403
    assert client.post("/api/learners/recap/thresholds", {}, **json).status_code == 403
    client.force_login(cast.lead.user)
    asked = client.post(path, {"config": {"steps": 7}}, **json).json()
    assert (asked["number"], asked["state"]) == (1, "due")
    assert sent == [("fit_value", (ValueVersion.objects.get().pk,))]
    assert client.post(f"{path}/1/cancel").json()["state"] == "cancelled"
    assert client.post(f"{path}/9/cancel").status_code == 404
    assert client.post("/api/learners/recap/thresholds", {}, **json).status_code == 409
    finished(learner, correlation=0.5, episodes=12, frames=900, by_task={"stack": 0.5})
    moved = client.post("/api/learners/recap/thresholds", {"positive": 0.4}, **json).json()
    assert (moved["number"], moved["derived_at"]) == (2, None)
    assert sent[-1] == ("derive_thresholds", ())
    assert client.post(f"{path}/2/cancel").status_code == 409
    bad = client.post("/api/learners/recap/thresholds", {"positive": 2.0}, **json)
    assert bad.status_code == 422
    client.force_login(cast.viewer.user)
    newest = client.get(path).json()[0]
    assert (newest["number"], newest["correlation"], newest["episodes"]) == (2, 0.5, 12)
    assert [t["number"] for t in newest["thresholds"]] == [2, 1]


@pytest.mark.django_db(transaction=True)
def test_the_sweep_enqueues_what_is_due(learner, sent):
    tasks.enqueue_value_work()
    assert sent == []
    value = request_value(learner)
    tasks.enqueue_value_work()
    assert sent == [("fit_value", (value.pk,))]


def test_the_page_shows_the_held_out_correlation_with_n(client, learner, cast):
    client.force_login(cast.viewer.user)
    assert "its first round asks for it" in client.get("/learner/").content.decode()
    assert "Fit a value function" not in client.get("/learner/").content.decode()
    finished(learner, correlation=0.512, episodes=12, frames=900, by_task={"stack": 0.512})
    text = client.get("/learner/_values/?name=recap").content.decode()
    for words in ("0.51", "12", "900", "stack", "30 % positive", "done"):
        assert words in text


def test_a_version_shows_how_far_the_indicator_moves_its_actions(client, learner, cast):
    PolicyVersion.objects.create(
        learner=learner, number=1, sha256="a" * 64, size_bytes=1, gate={"action_gap": 0.0814}
    )
    PolicyVersion.objects.create(learner=learner, number=2, sha256="b" * 64, size_bytes=1)
    client.force_login(cast.viewer.user)
    text = client.get("/learner/_versions/?name=recap").content.decode()
    assert text.count("indicator moves it") == 1
    assert "0.081" in text


@pytest.mark.django_db(transaction=True)
def test_the_button_fits_and_cancels_for_leads_only(client, learner, cast, sent):
    path = "/learner/recap/value/"
    client.force_login(cast.operator.user)
    assert client.post(path).status_code == 403
    client.force_login(cast.lead.user)
    assert "Fit a value function" in client.get(path).content.decode()
    answer = client.post(path, headers={"HX-Request": "true"})
    assert "Cancel value function 1" in answer.content.decode()
    assert answer["HX-Trigger"] == "learner:valued"
    client.post(path, {"cancel": "1"})
    assert ValueVersion.objects.get().state == "cancelled"
    # It ended meanwhile: nothing to do, and no error.
    done = finished(learner)
    assert client.post(path, {"cancel": str(done.number)}).status_code == 302
    assert client.post("/learner/nobody/value/").status_code == 404
