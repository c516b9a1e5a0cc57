"""The server dies between any two steps of object → row → ack; the robot sends again."""

from contextlib import ExitStack
from datetime import timedelta

import pytest
from django.db import connection

from learning import blobs
from learning.models import ClosedCursor, Episode, EpisodePart, Intervention
from learning.selectors.episodes import trainable_after
from learning.services import ingest
from learning.services.objects import sweep_orphans
from tests.factories import make_robot, make_task
from tests.learning.making import record

pytestmark = pytest.mark.django_db(transaction=True)


class Crash(BaseException):
    """The process ends here: nothing catches it, open transactions are lost."""


@pytest.fixture(autouse=True)
def store(tmp_path, settings):
    settings.SOP_STORE_URL = (tmp_path / "store").as_uri()
    return blobs.store()


@pytest.fixture
def robot(db):
    return make_robot("arm-a", token="token-a")


@pytest.fixture
def recorded(robot):
    return record(robot, make_task("stack"), modes=(0, 2, 1, 1, 0, 0))


class Upload:
    """What the agent's uploader does: ask, send what is missing, close; until acknowledged."""

    def __init__(self, client, recorded):
        self.client, self.recorded = client, recorded
        self.headers = {"Authorization": "Bearer token-a"}
        self.url = f"/api/episodes/{recorded.uid}"

    def run(self):
        cursor = self.client.get(self.url, headers=self.headers).json()
        for index, data in enumerate(self.recorded.parts):
            if index not in cursor["parts"]:
                assert self.put(index, data).status_code == 200
        assert self.close().status_code == 200

    def put(self, index, data):
        return self.client.put(
            f"{self.url}/parts/{index}",
            data,
            headers={"X-Content-SHA256": self.recorded.sha256(index), **self.headers},
        )

    def close(self):
        return self.client.post(
            f"{self.url}/close",
            self.recorded.manifest_json,
            content_type="application/json",
            headers=self.headers,
        )


def crash(*_, **__):
    raise Crash


def crash_after(function):
    def crashing(*args, **kwargs):
        function(*args, **kwargs)
        raise Crash

    return crashing


def crash_after_statement(words):
    """Crash inside the transaction, once a statement that starts with `words` was executed."""

    def wrapper(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if sql.startswith(words):
            raise Crash
        return result

    return connection.execute_wrapper(wrapper)


def before_the_object(patch, stack):
    patch.setattr(blobs.obstore, "put", crash)


def after_the_object(patch, stack):
    patch.setattr(blobs.BlobStore, "put", crash_after(blobs.BlobStore.put))


def inside_the_rows_transaction(patch, stack):
    stack.enter_context(crash_after_statement('INSERT INTO "learning_episodepart"'))


def after_the_row(patch, stack):
    patch.setattr(ingest, "_write_part", crash_after(ingest._write_part))


def inside_the_closing_transaction(patch, stack):
    stack.enter_context(crash_after_statement('UPDATE "learning_closedcursor"'))


def after_the_episode_is_written_but_not_committed(patch, stack):
    stack.enter_context(crash_after_statement('INSERT INTO "learning_intervention"'))


def after_closing(patch, stack):
    from learning.api import episodes

    patch.setattr(episodes, "close_episode", crash_after(episodes.close_episode))


STEPS = [
    before_the_object,
    after_the_object,
    inside_the_rows_transaction,
    after_the_row,
    inside_the_closing_transaction,
    after_the_episode_is_written_but_not_committed,
    after_closing,
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_a_crash_at_any_step_loses_nothing_and_stores_nothing_twice(
    step, client, robot, recorded, store, monkeypatch
):
    upload = Upload(client, recorded)
    with monkeypatch.context() as patch, ExitStack() as stack:
        step(patch, stack)
        with pytest.raises(Crash):
            upload.run()
    # Whatever the crash left, learners see a whole episode or none.
    for episode in trainable_after(0):
        assert episode.steps == 6
        assert episode.parts.count() == len(recorded.parts)
    assert all(store.size(part.sha256) for part in EpisodePart.objects.all())

    upload.run()
    upload.run()
    episode = Episode.objects.get()
    assert (episode.state, episode.steps, episode.human_steps) == ("closed", 6, 2)
    assert [store.get(part.sha256) for part in episode.parts.all()] == list(recorded.parts)
    assert Intervention.objects.count() == 1
    assert episode.closed_seq == ClosedCursor.objects.get().value == 1
    assert sweep_orphans(grace=timedelta(seconds=-1)) == 0


def test_an_object_whose_episode_never_came_back_is_swept(
    client, robot, recorded, store, monkeypatch
):
    with monkeypatch.context() as patch:
        after_the_object(patch, None)
        with pytest.raises(Crash):
            Upload(client, recorded).run()
    assert len(list(store.iter_blobs())) == 1
    assert sweep_orphans() == 0
    assert sweep_orphans(grace=timedelta(seconds=-1)) == 1
    assert not list(store.iter_blobs())
    Upload(client, recorded).run()
    assert Episode.objects.get().closed
