import logging
import uuid

import msgspec
import pytest

from fleet.protocol.episode import sha256_of
from learning.exceptions import (
    Conflict,
    EpisodeClosed,
    Forbidden,
    HashMismatch,
    MissingParts,
    TooLarge,
    Unprocessable,
)
from learning.models import Episode, EpisodePart
from learning.services import ingest
from learning.services.ingest import close_episode, store_part
from learning.services.objects import sweep_orphans
from tests.factories import make_robot, make_task
from tests.learning.making import record, send, send_parts


def test_an_episode_is_stored_with_the_counts_of_its_columns(robot, task, store):
    recorded = record(robot, task, modes=(0, 0, 2, 1, 1, 1, 0, 3), steps_per_part=3)
    episode = send(recorded, robot)
    assert episode.closed
    assert (episode.steps, episode.human_steps, episode.transition_steps) == (8, 3, 1)
    assert episode.human_s == pytest.approx(4 * 0.05)
    assert not episode.mixed_versions
    assert episode.complete
    assert (episode.outcome, episode.judge) == ("success", "robot")
    assert [(p.first_step, p.steps) for p in episode.parts.all()] == [(0, 3), (3, 3), (6, 2)]
    span = episode.interventions.get()
    assert (span.start, span.end, span.operator, span.operator_kind) == (2, 6, "ann", "human")
    assert [store.get(p.sha256) for p in episode.parts.all()] == list(recorded.parts)


def test_second_delivery_of_a_part_is_acknowledged_and_stored_once(robot, task):
    recorded = record(robot, task)
    send_parts(recorded, robot)
    again = store_part(
        uid=recorded.uid,
        index=0,
        data=recorded.parts[0],
        sha256=recorded.sha256(0),
        robot=robot,
    )
    assert not again.created
    assert EpisodePart.objects.count() == 2


def test_closing_again_gives_the_same_answer_and_the_same_place(robot, task):
    recorded = record(robot, task)
    first = send(recorded, robot)
    again = close_episode(uid=recorded.uid, manifest=recorded.manifest, robot=robot)
    assert again.closed_seq == first.closed_seq
    assert Episode.objects.count() == 1
    assert again.interventions.count() == 0


def test_closing_again_with_another_manifest_is_refused(robot, task):
    recorded = record(robot, task)
    send(recorded, robot)
    other = msgspec.structs.replace(recorded.manifest, outcome="failure")
    with pytest.raises(EpisodeClosed):
        close_episode(uid=recorded.uid, manifest=other, robot=robot)
    assert Episode.objects.get().outcome == "success"


def test_a_part_of_a_closed_episode_is_acknowledged_when_known_and_refused_when_new(robot, task):
    recorded = record(robot, task, modes=(0,) * 4)
    send(recorded, robot)
    send_parts(recorded, robot)
    longer = record(
        robot, task, modes=(0,) * 8, uid=recorded.uid, seed=recorded.manifest.header.seed
    )
    with pytest.raises(EpisodeClosed):
        store_part(
            uid=longer.uid, index=1, data=longer.parts[1], sha256=longer.sha256(1), robot=robot
        )


def test_other_content_for_a_stored_part_is_refused(robot, task):
    recorded = record(robot, task)
    send_parts(recorded, robot)
    other = record(robot, task, uid=recorded.uid, seed=recorded.manifest.header.seed + 1)
    with pytest.raises(Conflict):
        store_part(uid=other.uid, index=0, data=other.parts[0], sha256=other.sha256(0), robot=robot)


def test_a_manifest_before_its_parts_names_the_missing_ones(robot, task):
    recorded = record(robot, task, modes=(0,) * 10, steps_per_part=4)
    with pytest.raises(MissingParts) as refusal:
        close_episode(uid=recorded.uid, manifest=recorded.manifest, robot=robot)
    assert refusal.value.missing == [0, 1, 2]
    store_part(
        uid=recorded.uid,
        index=1,
        data=recorded.parts[1],
        sha256=recorded.sha256(1),
        robot=robot,
    )
    with pytest.raises(MissingParts) as refusal:
        close_episode(uid=recorded.uid, manifest=recorded.manifest, robot=robot)
    assert refusal.value.missing == [0, 2]
    assert Episode.objects.get().state == "open"


def test_a_manifest_that_forgets_a_stored_part_is_refused(robot, task):
    recorded = record(robot, task, modes=(0,) * 8)
    send_parts(recorded, robot)
    shorter = msgspec.structs.replace(
        recorded.manifest, parts=recorded.manifest.parts[:1], steps=4, interventions=()
    )
    with pytest.raises(Conflict):
        close_episode(uid=recorded.uid, manifest=shorter, robot=robot)


def test_autonomous_steps_of_two_versions_are_flagged(robot, task, caplog):
    recorded = record(robot, task, modes=(0, 0, 1, 0), numbers=(1, 1, 1, 2))
    with caplog.at_level(logging.ERROR):
        episode = send(recorded, robot)
    assert episode.mixed_versions
    assert str(recorded.uid) in caplog.text


def test_a_version_proposed_under_an_operator_does_not_mix(robot, task):
    recorded = record(robot, task, modes=(0, 1, 1, 0), numbers=(1, 2, 2, 1))
    assert not send(recorded, robot).mixed_versions


def test_the_cursor_grows_by_one_with_each_closed_episode(robot, task):
    seqs = [send(record(robot, task), robot).closed_seq for _ in range(3)]
    assert seqs == [1, 2, 3]


def test_another_robots_episode_is_refused(robot, task):
    other = make_robot("arm-b")
    recorded = record(robot, task)
    send_parts(recorded, robot)
    with pytest.raises(Forbidden):
        send_parts(recorded, other)
    with pytest.raises(Forbidden):
        close_episode(uid=recorded.uid, manifest=recorded.manifest, robot=other)
    forged = record(other, task, uid=recorded.uid)
    with pytest.raises(Forbidden):
        store_part(
            uid=forged.uid, index=1, data=forged.parts[1], sha256=forged.sha256(1), robot=other
        )


def test_content_that_is_not_its_hash_is_refused(robot, task):
    recorded = record(robot, task)
    with pytest.raises(HashMismatch):
        store_part(
            uid=recorded.uid,
            index=0,
            data=recorded.parts[0][:-1],
            sha256=recorded.sha256(0),
            robot=robot,
        )


@pytest.mark.parametrize("rubbish", [b"", b"not arrow", b"ARROW1\0\0" * 20])
def test_a_body_that_is_no_part_is_refused_and_nothing_is_stored(robot, task, store, rubbish):
    with pytest.raises(Unprocessable):
        store_part(uid=uuid.uuid4(), index=0, data=rubbish, sha256=sha256_of(rubbish), robot=robot)
    assert not list(store.iter_blobs())
    assert not Episode.objects.exists()


def test_a_part_over_the_limit_is_refused(robot, task, monkeypatch):
    monkeypatch.setattr(ingest, "MAX_PART_BYTES", 10)
    recorded = record(robot, task)
    with pytest.raises(TooLarge):
        send_parts(recorded, robot)


def test_a_part_sent_as_another_is_refused(robot, task):
    recorded = record(robot, task)
    for uid, index in ((uuid.uuid4(), 0), (recorded.uid, 1)):
        with pytest.raises(Unprocessable):
            store_part(
                uid=uid,
                index=index,
                data=recorded.parts[0],
                sha256=recorded.sha256(0),
                robot=robot,
            )


def test_an_unknown_task_is_refused(robot, task):
    recorded = record(robot, task)
    task.delete()
    with pytest.raises(Unprocessable, match="no task"):
        send_parts(recorded, robot)


def test_parts_that_disagree_on_the_task_are_refused(robot, task):
    first = record(robot, task)
    other = record(robot, make_task("pour"), uid=first.uid, seed=first.manifest.header.seed)
    store_part(uid=first.uid, index=0, data=first.parts[0], sha256=first.sha256(0), robot=robot)
    with pytest.raises(Unprocessable):
        store_part(uid=first.uid, index=1, data=other.parts[1], sha256=other.sha256(1), robot=robot)


@pytest.mark.parametrize(("start", "end"), [(2, 2), (3, 1), (0, 99)])
def test_intervention_spans_outside_the_episode_are_refused(robot, task, start, end):
    recorded = record(robot, task, modes=(0, 1, 1, 0))
    send_parts(recorded, robot)
    span = msgspec.structs.replace(recorded.manifest.interventions[0], start=start, end=end)
    bad = msgspec.structs.replace(recorded.manifest, interventions=(span,))
    with pytest.raises(Unprocessable):
        close_episode(uid=recorded.uid, manifest=bad, robot=robot)


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1])
def test_a_seed_that_no_row_can_hold_is_refused(robot, task, seed):
    recorded = record(robot, task, seed=1)
    header = msgspec.structs.replace(recorded.manifest.header, seed=seed)
    manifest = msgspec.structs.replace(recorded.manifest, header=header, parts=(), steps=0)
    with pytest.raises(Unprocessable):
        close_episode(uid=recorded.uid, manifest=manifest, robot=robot)
    assert not Episode.objects.exists()


def test_an_incomplete_episode_is_kept_and_never_trainable(robot, task):
    from learning.selectors.episodes import trainable_after

    send(record(robot, task, complete=False), robot)
    send(record(robot, task, purpose="eval"), robot)
    good = send(record(robot, task), robot)
    assert Episode.objects.count() == 3
    assert list(trainable_after(0)) == [good]


def test_demonstrations_come_without_a_robot_and_nothing_else_does(task):
    demonstration = record(None, task, purpose="demonstration", policy_number=None)
    assert send(demonstration, None).robot is None
    with pytest.raises(Forbidden):
        send(record(None, task), None)


def test_orphans_are_swept_after_their_grace_and_named_objects_stay(robot, task, store):
    import datetime

    episode = send(record(robot, task), robot)
    store.put(b"nobody names me")
    assert sweep_orphans() == 0
    assert sweep_orphans(grace=datetime.timedelta(seconds=-1)) == 1
    assert sweep_orphans(grace=datetime.timedelta(seconds=-1)) == 0
    assert all(store.size(part.sha256) for part in episode.parts.all())


def test_a_closed_episode_is_announced_once_it_is_committed(
    robot, task, monkeypatch, django_capture_on_commit_callbacks
):
    told = []
    monkeypatch.setattr(
        ingest.events, "publish", lambda channel, data: told.append((channel, data))
    )
    with django_capture_on_commit_callbacks(execute=True):
        episode = send(record(robot, task), robot)
        assert not told
    ((channel, data),) = told
    assert channel == "sop:episodes"
    note = msgspec.json.decode(data, type=ingest.EpisodeClosedNote)
    assert (note.episode, note.seq) == (str(episode.uid), episode.closed_seq)
