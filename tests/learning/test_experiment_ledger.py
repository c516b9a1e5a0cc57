"""The experiments' reader against rows that the product's own services wrote."""

from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from learning.experiments.ledger import Ledger, NoLedger
from learning.models import Episode, EpisodePart, LearnerMetric, PolicyVersion
from learning.services.learners import seed_learner
from tests.learning.making import record, send, send_parts

STARTED_S = 1_600_000_000.0

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="it reads SQLite files"),
]


@pytest.fixture
def ledger(transactional_db):
    return Ledger(Path(connection.settings_dict["NAME"]))


def test_a_sample_counts_what_the_services_stored(ledger, robot, task):
    send(record(robot, task, modes=(0, 0, 2, 1, 1, 0, 1)), robot)
    send(record(robot, task), robot)
    send(record(robot, task, purpose="eval"), robot)
    send(record(robot, task, purpose="eval", outcome="timeout"), robot)
    send(record(None, task, purpose="demonstration"), None)
    send_parts(record(robot, task), robot)
    learner = seed_learner("l")
    LearnerMetric.objects.create(
        learner=learner, step=7, values={"omega": {"a": 0.4, "b": 0.8}, "steps_per_s": 12.5}
    )
    type(learner).objects.update(step=7)
    sample = ledger.sample(STARTED_S, STARTED_S + 90)
    assert (sample.minute, sample.step) == (1.5, 7)
    assert (sample.episodes, sample.corrections) == (2, 2)
    assert sample.human_minutes == pytest.approx(4 * 0.05 / 60)
    assert sample.robot_minutes == pytest.approx((7 + 3 * 6) * 0.05 / 60)
    assert (sample.eval_successes, sample.eval_trials) == (1, 2)
    assert sample.omega == pytest.approx(0.6)
    assert sample.updates_per_s == 12.5


def test_what_was_before_the_online_phase_is_not_counted(ledger, robot, task):
    send(record(robot, task), robot)
    assert ledger.sample(1_800_000_000.0, 1_800_000_060.0).episodes == 0


def test_versions_are_published_ones_in_order(ledger):
    learner = seed_learner("l")
    for number, state in [(2, "published"), (1, "published"), (3, "rejected")]:
        PolicyVersion.objects.create(
            learner=learner, number=number, sha256=str(number) * 64, size_bytes=1, state=state
        )
    versions = ledger.versions()
    assert [v.number for v in versions] == [1, 2]
    assert versions[0].assigned_s is None
    assert abs(versions[0].created_s - timezone.now().timestamp()) < 60


def test_mixed_versions_are_found(ledger, robot, task):
    send(record(robot, task), robot)
    assert ledger.mixed_version_episodes() == 0
    Episode.objects.update(mixed_versions=True)
    assert ledger.mixed_version_episodes() == 1


def test_whole_and_honestly_incomplete_episodes_are_not_partial(ledger, robot, task):
    send(record(robot, task), robot)
    send(record(robot, task, complete=False, outcome="abort"), robot)
    send_parts(record(robot, task), robot)
    assert ledger.partial_episodes() == 0


def test_an_episode_that_lacks_a_part_is_partial(ledger, robot, task):
    episode = send(record(robot, task), robot)
    EpisodePart.objects.filter(episode=episode, index=1).delete()
    assert ledger.partial_episodes() == 1


def test_a_database_that_is_not_there_is_said_to_be_missing(tmp_path):
    with pytest.raises(NoLedger, match="sqlite3"):
        Ledger(tmp_path / "sop.sqlite3")
