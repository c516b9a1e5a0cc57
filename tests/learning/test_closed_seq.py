"""The buffers' cursor when many robots close at once: no reader ever skips an episode."""

import threading
from functools import partial

import pytest
from django.db import connection

from learning.models import Episode
from learning.selectors.episodes import closed_after
from learning.services.ingest import close_episode
from tests.learning.making import record, send_parts
from tests.race import at_once

WRITERS = 6
EACH = 6


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_concurrent_closes_get_one_place_each_and_a_reader_never_skips_one(robot, task):
    recorded = [record(robot, task, modes=(0, 0)) for _ in range(WRITERS * EACH)]
    for episode in recorded:
        send_parts(episode, robot)
    start = threading.Barrier(WRITERS + 1)
    writing = threading.Event()
    failures: list[Exception] = []
    seen: list[int] = []

    def write(mine):
        try:
            start.wait()
            for episode in mine:
                close_episode(uid=episode.uid, manifest=episode.manifest, robot=robot)
        except Exception as error:  # a thread's exception must fail the test
            failures.append(error)
        finally:
            connection.close()

    def read():
        try:
            start.wait()
            # As a learner polls: only beyond what it has seen.
            while True:
                done = writing.is_set()
                cursor = seen[-1] if seen else 0
                seen.extend(closed_after(cursor).values_list("closed_seq", flat=True))
                if done:
                    return
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    writers = [threading.Thread(target=write, args=(recorded[i::WRITERS],)) for i in range(WRITERS)]
    reader = threading.Thread(target=read)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join()
    writing.set()
    reader.join()
    assert not failures
    assert seen == list(range(1, WRITERS * EACH + 1))
    assert Episode.objects.filter(state="closed").count() == WRITERS * EACH


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_two_deliveries_of_one_part_at_once_are_stored_once(robot, task):
    recorded = record(robot, task)

    def deliver():
        send_parts(recorded, robot)
        close_episode(uid=recorded.uid, manifest=recorded.manifest, robot=robot)

    failures = [came for came in at_once([deliver] * 4) if came is not None]
    assert not failures
    episode = Episode.objects.get()
    assert episode.closed_seq == 1
    assert episode.parts.count() == 2


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_two_claims_at_once_give_one_round():
    from learning.models import Round
    from learning.services.learners import claim_round, seed_learner, start_learner

    seed_learner("l")
    learner = start_learner("l")
    claims = at_once(partial(claim_round, learner.pk, f"worker-{i}") for i in range(5))
    assert not [claim for claim in claims if isinstance(claim, Exception)]
    assert len(claims) == 5
    assert len([c for c in claims if c is not None]) == 1
    assert Round.objects.count() == 1
