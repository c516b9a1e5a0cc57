import pytest
from django.utils import timezone
from kombu.exceptions import OperationalError

from fleet.services.robots import assignment_of
from learning import blobs, tasks
from learning.exceptions import StoreUnavailable
from learning.models import Learner, Round, ValueVersion
from learning.selectors.values import sha256_on_robots
from learning.services import rounds
from learning.services.learners import claim_round, end_round, seed_learner, start_learner
from learning.services.policies import import_version

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def learner():
    seed_learner("l")
    return start_learner("l")


@pytest.fixture
def sent(monkeypatch):
    messages = []

    def apply_async(args, **options):
        messages.append(args)
        assert 0 < options["expires"] <= 60

    monkeypatch.setattr(tasks.run_round, "apply_async", apply_async)
    return messages


@pytest.fixture
def ran(monkeypatch):
    """Rounds that ran, in place of training."""
    claims = []

    def run_round(claim, **_):
        claims.append(claim)
        end_round(claim, state=Round.State.DONE)

    monkeypatch.setattr(rounds, "run_round", run_round)
    return claims


def test_a_round_that_ended_makes_the_next_one_prompt(learner, sent, ran):
    tasks.run_round(learner.pk, 0)
    assert [claim.epoch for claim in ran] == [1]
    assert sent == [(learner.pk, 1)]


def test_a_second_delivery_runs_nothing_and_enqueues_nothing(learner, sent, ran):
    tasks.run_round(learner.pk, 0)
    tasks.run_round(learner.pk, 0)
    assert len(ran) == len(sent) == 1


def test_the_last_round_of_a_paused_learner_enqueues_no_other(learner, sent, monkeypatch):
    def run_round(claim, **_):
        Learner.objects.update(state="paused")
        end_round(claim, state=Round.State.DONE)

    monkeypatch.setattr(rounds, "run_round", run_round)
    tasks.run_round(learner.pk, 0)
    assert not sent


def test_a_round_that_failed_is_left_to_the_sweep(learner, sent, monkeypatch):
    def run_round(claim, **_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(rounds, "run_round", run_round)
    with pytest.raises(RuntimeError):
        tasks.run_round(learner.pk, 0)
    assert not sent
    assert Round.objects.get().state == "failed"
    tasks.sweep()
    assert sent == [(learner.pk, 1)]


def test_the_sweep_enqueues_what_is_due_and_nothing_while_a_round_runs(learner, sent):
    tasks.sweep()
    assert sent == [(learner.pk, 0)]
    claim_round(learner.pk, "here")
    tasks.sweep()
    assert len(sent) == 1


def test_the_sweep_assigns_what_a_crash_left_unassigned(learner, sent, robot):
    version = import_version(learner, artifact=b"base", gate={})
    robot.assigned_number = robot.assigned_at = None
    robot.save()
    tasks.sweep()
    robot.refresh_from_db()
    assert robot.assigned_number == version.number


def test_the_sweep_tells_robots_of_the_value_function_that_was_finished_last(
    learner, sent, robot, monkeypatch
):
    done = {"state": "done", "ended_at": timezone.now()}
    tasks.sweep()
    assert assignment_of(robot).value is None
    weights = [blobs.store().put(name) for name in (b"first", b"second")]
    for number, sha256 in enumerate(weights, 1):
        ValueVersion.objects.create(learner=learner, number=number, sha256=sha256, **done)
    with monkeypatch.context() as outage:

        def down(*_):
            raise StoreUnavailable("down")

        outage.setattr(blobs.BlobStore, "size", down)
        tasks.sweep()
    assert assignment_of(robot).value is None
    tasks.sweep()
    told = assignment_of(robot).value
    assert (told.number, told.sha256, told.correlation) == (2, weights[1], None)
    assert sha256_on_robots() == weights[1]
    # Weights that are gone are assigned to nobody.
    ValueVersion.objects.create(learner=learner, number=3, sha256="0" * 64, **done)
    tasks.sweep()
    assert assignment_of(robot).value == told


def test_a_dead_broker_is_not_the_callers_error(learner, monkeypatch, caplog):
    def dead(*_, **__):
        raise OperationalError("connection refused")

    monkeypatch.setattr(tasks.run_round, "apply_async", dead)
    tasks.enqueue_due_rounds()
    assert "could not enqueue" in caplog.text


def test_rounds_go_to_the_learners_queue_and_sweeps_do_not(settings):
    learning = (tasks.run_round, tasks.fit_value, tasks.derive_thresholds)
    assert {task.name: {"queue": "learner"} for task in learning} == settings.CELERY_TASK_ROUTES
    scheduled = {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}
    assert {tasks.sweep.name, tasks.sweep_objects.name} <= scheduled


def test_orphans_are_swept_by_task(store, db):
    store.put(b"new, so left alone")
    assert tasks.sweep_objects() == 0
