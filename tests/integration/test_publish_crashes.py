"""The learner dies between any two steps of gate → object → row → assignment → announcement."""

from contextlib import ExitStack
from datetime import timedelta

import msgspec
import pytest
from django.db import connection
from django.utils import timezone

from fleet.models import Robot
from fleet.services import events
from learning import blobs
from learning.models import Learner, PolicyVersion
from learning.services import assignments, policies
from learning.services.learners import claim_round
from learning.services.objects import sweep_orphans
from learning.services.policies import assign_pending, import_version, publish_version
from tests.factories import make_robot

pytestmark = pytest.mark.django_db(transaction=True)


class Crash(BaseException):
    """The process ends here: nothing catches it, open transactions are lost."""


@pytest.fixture(autouse=True)
def store(tmp_path, settings):
    settings.SOP_STORE_URL = (tmp_path / "store").as_uri()
    return blobs.store()


@pytest.fixture
def told(monkeypatch):
    """Numbers of the versions announced to robots."""
    numbers = []

    def publish(channel, payload):
        announced = msgspec.msgpack.decode(payload, type=events.PolicyForRobots)
        numbers.append(announced.announcement.policy.number)

    monkeypatch.setattr(events, "publish", publish)
    return numbers


@pytest.fixture
def learner(db, told):
    make_robot("arm-a")
    make_robot("arm-b")
    learner = Learner.objects.create(name="l", state=Learner.State.RUNNING)
    import_version(learner, artifact=b"base", gate={})
    told.clear()
    return learner


def crash(*_, **__):
    raise Crash


def crash_after(function):
    def crashing(*args, **kwargs):
        function(*args, **kwargs)
        raise Crash

    return crashing


def before_the_number(patch, stack):
    patch.setattr(policies, "_allocate_number", crash)


def after_the_number(patch, stack):
    patch.setattr(policies, "_allocate_number", crash_after(policies._allocate_number))


def before_the_object(patch, stack):
    patch.setattr(blobs.obstore, "put", crash)


def after_the_object(patch, stack):
    patch.setattr(blobs.BlobStore, "put", crash_after(blobs.BlobStore.put))


def inside_the_rows_transaction(patch, stack):
    def wrapper(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if sql.startswith('INSERT INTO "learning_policyversion"'):
            raise Crash
        return result

    stack.enter_context(connection.execute_wrapper(wrapper))


def after_the_row(patch, stack):
    patch.setattr(policies, "assign_published", crash)


def inside_the_assignment(patch, stack):
    patch.setattr(assignments, "assign_policy", crash_after(assignments.assign_policy))


def after_the_assignment_before_the_announcement(patch, stack):
    patch.setattr(events, "publish", crash)


def after_the_announcement(patch, stack):
    patch.setattr(policies, "assign_published", crash_after(policies.assign_published))


STEPS = [
    before_the_number,
    after_the_number,
    before_the_object,
    after_the_object,
    inside_the_rows_transaction,
    after_the_row,
    inside_the_assignment,
    after_the_assignment_before_the_announcement,
    after_the_announcement,
]


def publish(learner, artifact):
    # The process that crashed holds no lease any more.
    past = timezone.now() - timedelta(seconds=1)
    Learner.objects.exclude(lease_holder="").update(lease_expires_at=past)
    claim = claim_round(learner.pk, "here")
    return publish_version(
        claim, artifact=artifact, gate={"passed": True}, passed=True, step=25, trained_seq=0
    )


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_a_crash_at_any_step_leaves_robots_on_a_whole_version_and_numbers_unique(
    step, learner, told, store, monkeypatch
):
    with monkeypatch.context() as patch, ExitStack() as stack:
        step(patch, stack)
        with pytest.raises(Crash):
            publish(learner, b"lost or not")
    crashed = {version.number for version in PolicyVersion.objects.all()}
    # Every row has its object, and robots are assigned to a version that has a row.
    for version in PolicyVersion.objects.all():
        assert store.get(version.sha256)
    for robot in Robot.objects.all():
        assert PolicyVersion.objects.filter(number=robot.assigned_number).exists()

    # The sweep that follows: what has a row reaches every robot.
    assign_pending()
    newest = max(crashed)
    assert set(Robot.objects.values_list("assigned_number", flat=True)) == {newest}
    assert all(version.assigned_at for version in PolicyVersion.objects.all())

    version = publish(learner, b"the next one")
    assert version.number > max(crashed)
    assert version.parent.number == newest
    assert told[-1] == version.number
    assert set(Robot.objects.values_list("assigned_number", flat=True)) == {version.number}
    numbers = list(PolicyVersion.objects.values_list("number", flat=True))
    assert len(numbers) == len(set(numbers))
    # At most the one object without a row is swept, and none that has one.
    assert sweep_orphans(grace=timedelta(seconds=-1)) <= 1
    assert all(store.get(version.sha256) for version in PolicyVersion.objects.all())


def test_a_number_that_crashed_is_skipped_and_never_used_again(learner, store, monkeypatch):
    with monkeypatch.context() as patch:
        after_the_object(patch, None)
        for artifact in (b"one", b"two"):
            with pytest.raises(Crash):
                publish(learner, artifact)
    assert publish(learner, b"three").number == 4
    assert list(PolicyVersion.objects.values_list("number", flat=True)) == [1, 4]
    assert sweep_orphans(grace=timedelta(seconds=-1)) == 2
