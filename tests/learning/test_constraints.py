"""What the database itself refuses, whatever a service forgets."""

import datetime
import uuid

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from learning.models import (
    ClosedCursor,
    Episode,
    EpisodePart,
    Intervention,
    Label,
    Learner,
    LearnerMetric,
    PolicyVersion,
    Round,
)
from tests.learning.making import record, send

pytestmark = pytest.mark.django_db


@pytest.fixture
def episode(robot, task):
    return send(record(robot, task, modes=(0, 1, 1, 0)), robot)


@pytest.fixture
def learner(db):
    return Learner.objects.create(name="l")


def refused(make):
    with pytest.raises(IntegrityError), transaction.atomic():
        make()


NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    "change",
    [
        {"state": "open"},
        {"closed_seq": None},
        {"closed_at": None},
        {"ended_at": None},
        {"outcome": ""},
        {"outcome": "splendid"},
        {"human_steps": 5},
        {"transition_steps": 3},
        {"control_period_s": 0.0},
        {"robot": None},
        {"first_trained_at": NOW},
        {"first_trained_step": 3},
        {"first_trained_at": NOW, "first_trained_step": 3, "purpose": "eval"},
        {"first_trained_at": NOW, "first_trained_step": 3, "complete": False},
    ],
    ids=str,
)
def test_a_closed_episode_keeps_what_it_was_closed_with(episode, change):
    refused(lambda: Episode.objects.filter(pk=episode.pk).update(**change))


def test_an_open_episode_has_no_place_in_the_cursor(robot, task):
    values = {
        "uid": uuid.uuid4(),
        "robot": robot,
        "task": task,
        "purpose": "train",
        "seed": 0,
        "started_at": NOW,
    }
    refused(lambda: Episode.objects.create(**values, closed_seq=1))
    refused(lambda: Episode.objects.create(**values, complete=True))
    Episode.objects.create(**values)


def test_natural_keys_are_unique(episode, learner):
    part = episode.parts.get()
    refused(lambda: EpisodePart.objects.create(
        episode=episode, index=part.index, sha256="0", size_bytes=1, first_step=0, steps=1
    ))  # fmt: skip
    refused(lambda: episode.interventions.create(start=1, end=2))
    for model, values in (
        (LearnerMetric, {"epoch": 1, "step": 1}),
        (PolicyVersion, {"number": 1, "sha256": "0", "size_bytes": 1}),
        (Round, {"number": 1, "epoch": 1, "state": "done", "ended_at": timezone.now()}),
    ):
        model.objects.create(learner=learner, **values)
        refused(lambda model=model, values=values: model.objects.create(learner=learner, **values))


def test_a_learner_runs_one_round_at_a_time(learner):
    Round.objects.create(learner=learner, number=1, epoch=1)
    refused(lambda: Round.objects.create(learner=learner, number=2, epoch=2))


@pytest.mark.parametrize(
    "change",
    [
        {"state": "tired"},
        {"lease_holder": "a"},
        {"lease_expires_at": NOW},
        {"checkpoint_step": 1},
        {"next_number": 0},
    ],
    ids=str,
)
def test_a_learner_is_whole(learner, change):
    refused(lambda: Learner.objects.filter(pk=learner.pk).update(**change))


@pytest.mark.parametrize(
    "change",
    [{"state": "done"}, {"ended_at": NOW}, {"wait_share": 1.5}, {"wait_share": -0.1}],
    ids=str,
)
def test_a_round_is_whole(learner, change):
    row = Round.objects.create(learner=learner, number=1, epoch=1)
    refused(lambda: Round.objects.filter(pk=row.pk).update(**change))


def test_empty_spans_parts_and_second_cursors_are_refused(episode):
    refused(lambda: Intervention.objects.create(episode=episode, start=3, end=3))
    refused(lambda: EpisodePart.objects.filter(episode=episode).update(steps=0))
    refused(lambda: EpisodePart.objects.filter(episode=episode).update(human_steps=9))
    refused(lambda: ClosedCursor.objects.create(id=2))


def test_a_rejected_version_is_never_assigned_and_none_is_its_own_parent(learner):
    version = PolicyVersion.objects.create(
        learner=learner, number=1, sha256="0", size_bytes=1, state="rejected"
    )
    rows = PolicyVersion.objects.filter(pk=version.pk)
    refused(lambda: rows.update(assigned_at=NOW))
    refused(lambda: rows.update(parent=version))
    refused(lambda: rows.update(number=0))


def test_an_outcome_of_a_label_is_known(episode, cast):
    refused(lambda: Label.objects.create(episode=episode, operator=cast.labeller, outcome="meh"))
