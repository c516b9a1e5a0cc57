import itertools
import uuid
from datetime import timedelta
from functools import partial

import msgspec
import numpy as np
import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from fleet.exceptions import NotAllowed
from fleet.models import TakeoverLease
from fleet.protocol import browser as b
from fleet.services import events
from learning.exceptions import Conflict, Forbidden, NotFound, Unprocessable
from learning.models import Episode, Intervention, SpanReview
from learning.selectors.corrections import correction_of
from learning.selectors.lineage import deeds
from learning.services.corrections import MAX_ENTRIES, Change, review_span, undo_review
from learning.services.ingest import close_episode
from tests.factories import make_robot
from tests.learning.brains import make_learner
from tests.learning.making import record, send, send_parts
from tests.race import at_once

# Ten of the policy, a handover of two, six steps driven, and two of the policy.
MODES = (0,) * 10 + (2,) * 2 + (1,) * 6 + (0,) * 2
DISCARD, RECOVERY = Change(discarded=True), Change(mark="recovery")


@pytest.fixture
def recorded(robot, task):
    return record(robot, task, modes=MODES)


@pytest.fixture
def lease(robot, cast):
    now = timezone.now()
    return TakeoverLease.objects.create(
        robot=robot, operator=cast.operator, epoch=1, granted_at=now - timedelta(seconds=1),
        expires_at=now, ended_at=now, how="hand_back",
    )  # fmt: skip


@pytest.fixture
def say(robot, recorded, cast):
    """Write an entry on the takeover of the recorded episode."""

    def write(change: Change, *, operator=None, **fields):
        span = {"robot": robot.name, "episode_uid": recorded.uid, "epoch": 1}
        return review_span(
            **span | {"uid": uuid.uuid4(), "operator": operator or cast.operator} | fields,
            change=change,
        )

    return write


def undo(correction, by):
    return undo_review(
        robot=correction.robot, episode_uid=correction.episode_uid, epoch=correction.epoch,
        operator=by, undoes=correction.undoable.uid, uid=uuid.uuid4(),
    )  # fmt: skip


def kept():
    return [
        (s.mark, s.discarded, s.kept_start, s.kept_end) for s in Intervention.objects.order_by("pk")
    ]


def in_force(correction):
    return (correction.mark, correction.discarded, correction.trim_start, correction.trim_end)


@pytest.mark.parametrize("before", [True, False], ids=["before it is uploaded", "after"])
def test_what_is_said_of_a_correction_is_in_force_whenever_its_episode_comes(
    robot, recorded, lease, say, cast, before
):
    if not before:
        send(recorded, robot)
        assert kept() == [("correction", False, 10, 18)]
    say(RECOVERY)
    found = say(Change(trim=(3, 1)), operator=cast.lead)
    assert (found.stored, in_force(found)) == (not before, ("recovery", False, 3, 1))
    found = say(DISCARD)
    assert in_force(found) == ("recovery", True, 3, 1)
    found = undo(found, cast.lead)
    if before:
        assert found.told == "Counts as said when it arrives: its episode is still on the robot."
        send(recorded, robot)
    assert kept() == [("recovery", False, 13, 17)]
    now = correction_of(robot=robot.name, episode_uid=recorded.uid, epoch=1)
    assert (now.steps, now.kept) == (8, 4)
    for expected in (("recovery", False, 0, 0), ("correction", False, 0, 0)):
        now = undo(now, cast.operator)
        assert in_force(now) == expected
    assert kept() == [("correction", False, 10, 18)]
    # Nothing is lost, and it is known who said what.
    assert [(row.operator.name, row.undone) for row in now.history] == [
        ("operator", False), ("operator", False), ("lead", False),
        ("operator", True), ("lead", True), ("operator", True),
    ]  # fmt: skip
    assert now.undoable is None


def test_an_entry_sent_twice_counts_once_and_an_undo_takes_back_only_the_last(
    robot, recorded, lease, say, cast
):
    uid = uuid.uuid4()
    first = say(DISCARD, uid=uid)
    say(Change(discarded=False), operator=cast.lead)
    assert in_force(say(DISCARD, uid=uid)) == ("correction", False, 0, 0)
    assert SpanReview.objects.count() == 2
    # Another tab wrote since: what this page shows as the last change is not it.
    with pytest.raises(Conflict, match="not the last change"):
        undo(first, cast.operator)
    other = make_robot("arm-b")
    TakeoverLease.objects.create(
        robot=other, operator=cast.lead, epoch=1, granted_at=lease.granted_at,
        expires_at=lease.expires_at,
    )  # fmt: skip
    with pytest.raises(Conflict, match="another correction"):
        say(DISCARD, uid=uid, robot=other.name)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_what_three_people_say_while_the_episode_closes_is_in_force(robot, recorded, lease, say):
    send_parts(recorded, robot)
    came = at_once(
        [
            partial(close_episode, uid=recorded.uid, manifest=recorded.manifest, robot=robot),
            *(partial(say, change) for change in (DISCARD, RECOVERY, Change(trim=(2, 1)))),
        ]
    )
    assert not [one for one in came if isinstance(one, Exception)]
    now = correction_of(robot=robot.name, episode_uid=recorded.uid, epoch=1)
    assert (now.stored, in_force(now)) == (True, ("recovery", True, 2, 1))
    span = Intervention.objects.get()
    assert in_force(span) == in_force(now)


@pytest.mark.parametrize(
    ("change", "fields", "error", "words"),
    [
        (Change(), {}, Unprocessable, "nothing to change"),
        (Change(mark="splendid"), {}, Unprocessable, "mark"),
        (Change(trim=(4, 4)), {}, Unprocessable, "8 steps.*discard it instead"),
        (Change(trim=(-1, 0)), {}, Unprocessable, "from 0 on"),
        (DISCARD, {"note": "x" * 201}, Unprocessable, "note"),
        (DISCARD, {"epoch": 2}, NotFound, "under the lease 2"),
        (DISCARD, {"epoch": 2**70}, NotFound, "numbered"),
        (DISCARD, {"robot": "nobody"}, NotFound, "no robot nobody"),
        (DISCARD, {"robot": "arm-b"}, Forbidden, "not of arm-b"),
        (DISCARD, {"episode_uid": uuid.UUID(int=5), "epoch": 9}, NotFound, "never had a lease 9"),
        (Change(trim=(50, 0)), {"episode_uid": uuid.UUID(int=5)}, Unprocessable, "at most 40"),
    ],
)
def test_rubbish_is_refused_in_words_and_nothing_is_stored(
    robot, recorded, lease, say, change, fields, error, words
):
    make_robot("arm-b")
    send(recorded, robot)
    with pytest.raises(error, match=words):
        say(change, **fields)
    assert not SpanReview.objects.exists()
    assert kept() == [("correction", False, 10, 18)]


def test_only_operators_may_say_something_and_not_without_end(
    robot, recorded, lease, say, cast, monkeypatch
):
    for one in (cast.viewer, cast.labeller):
        with pytest.raises(NotAllowed):
            say(DISCARD, operator=one)
    monkeypatch.setattr("learning.services.corrections.MAX_ENTRIES", 2)
    say(DISCARD)
    say(Change(discarded=False))
    with pytest.raises(Conflict, match="2 times"):
        say(DISCARD)
    assert MAX_ENTRIES >= 100


def test_a_lease_that_held_the_robot_twice_is_trimmed_at_its_two_ends(robot, task, say, cast):
    recorded = record(robot, task, modes=(1,) * 4 + (3,) * 2 + (1,) * 4)
    send(recorded, robot)
    say(Change(trim=(5, 1)), episode_uid=recorded.uid)
    assert [row[2:] for row in kept()] == [(4, 4), (6, 9)]
    say(Change(trim=(0, 9)), episode_uid=recorded.uid)
    assert [row[2:] for row in kept()] == [(0, 1), (6, 6)]
    with pytest.raises(IntegrityError), transaction.atomic():
        Intervention.objects.update(trim_start=5)


@pytest.mark.django_db(transaction=True)
def test_every_page_that_watches_the_robot_is_told(robot, recorded, lease, say):
    told = []
    listener = lambda channel, payload: told.append((channel, payload)) or True  # noqa: E731
    events.listen(listener)
    try:
        say(DISCARD)
    finally:
        events.leave(listener)
    ((channel, payload),) = told
    state = msgspec.json.decode(payload, type=b.CorrectionState)
    assert channel == events.CORRECTIONS
    assert (state.episode, state.discarded) == (str(recorded.uid), True)
    assert state.revision == SpanReview.objects.get().pk


def test_a_running_learner_samples_precisely_what_is_left_and_no_restart_is_needed(
    robot, task, store, recorded, lease, say, cast
):
    from learning.core.buffer import ReplayBuffer
    from learning.core.learners.base import build_learner
    from learning.core.policies.base import build_policy
    from learning.services.buffers import Indexer, open_stored
    from tests.learning.brains import CONFIG

    def indexer():
        rules = build_learner("hg_dagger", build_policy(CONFIG), {})
        return Indexer(ReplayBuffer(CONFIG, rules, open_stored), CONFIG)

    def samples(one):
        size = one.buffer.size(0, online=True)
        if not size:
            return []
        rng = np.random.default_rng(0)
        return sorted(set(one.buffer.draw(np.zeros(400, int), np.ones(400, bool), rng).tolist()))

    send(record(robot, task, modes=(1,) * 3), robot)
    send(recorded, robot)
    running = indexer()
    running.poll()
    other, driven = [0, 1, 2], list(range(3 + 12, 3 + 18))
    assert samples(running) == other + driven
    assert running.review() == 0
    for change, left in (
        (Change(trim=(4, 1)), driven[2:-1]),
        (RECOVERY, driven[2:-1]),
        (DISCARD, []),
        (Change(discarded=False, trim=(0, 0)), driven),
        (DISCARD, []),
    ):
        say(change)
        assert (running.review(), running.review()) == (1, 0)
        assert samples(running) == other + left
        restarted = indexer()
        restarted.poll()
        assert samples(restarted) == other + left
    # An entry that came before its episode: it is never sampled at all.
    late = record(robot, task, modes=MODES)
    say(DISCARD, episode_uid=late.uid)
    assert running.review() == 0
    send(late, robot)
    running.poll()
    assert samples(running) == other


@pytest.mark.django_db(transaction=True)
def test_the_next_round_of_a_warm_learner_takes_it_over(robot, task, recorded, lease, say):
    from learning.services import rounds, warm
    from learning.services.learners import claim_round

    def run():
        claim = claim_round(learner.pk, "here")
        rounds.run_round(claim, seconds=20.0, max_steps=2)
        return warm._warm[learner.pk].indexer.buffer

    warm.forget_warm()
    send(record(robot, task, modes=(1,) * 3), robot)
    send(recorded, robot)
    learner = make_learner(publish_steps=1000)
    try:
        buffer = run()
        assert len(buffer) == 3 + 6
        say(DISCARD)
        assert run() is buffer
        assert len(buffer) == 3
    finally:
        warm.forget_warm()


def test_it_is_said_which_versions_learned_before_and_versions_count_marks_apart(
    robot, task, recorded, lease, say, cast
):
    learner = make_learner("hg-dagger")
    base = learner.versions.get()
    numbers = itertools.count(2)

    def publish():
        number = next(numbers)
        return learner.versions.create(
            number=number, parent=base, sha256=f"{number:064x}", size_bytes=1, step=10 * number
        )

    episode = send(recorded, robot)
    assert say(RECOVERY).told == ""
    episode.uses.create(learner=learner, step=15)
    first, second = publish(), publish()
    assert say(DISCARD).told == (
        "hg-dagger v2 to v3 learned from its episode, and that stays; it is sampled no more."
    )
    publish()  # was published after: it did not sample what was discarded before
    now = correction_of(robot=robot.name, episode_uid=recorded.uid, epoch=1)
    assert now.told.startswith("hg-dagger v2 to v3 ")
    assert (deeds(second).recoveries, deeds(second).discarded) == (0, 1)
    assert undo(now, cast.operator).told == "hg-dagger v2 to v4 learned from its episode."
    counted = deeds(first)
    assert (counted.corrections, counted.recoveries, counted.discarded) == (0, 1, 0)


def test_pages_read_and_change_a_correction_as_json(robot, recorded, lease, cast):
    send(recorded, robot)
    client = Client()
    client.force_login(cast.operator.user)
    path = f"/corrections/{robot.name}/1/{recorded.uid}/"

    def post(body, status=200):
        answer = client.post(path, body, content_type="application/json")
        assert answer.status_code == status, answer.content
        return answer.json()

    uid = str(uuid.uuid4())
    said = post({"uid": uid, "trim": [1, 2], "note": "fumbled", "by": "operator"})
    assert (said["trim_start"], said["trim_end"], said["undoable"]) == (1, 2, uid)
    assert said["history"][0]["note"] == "fumbled"
    assert said["spans"] == [{"start": 10, "kept_start": 11, "kept_end": 16}]
    assert client.get(path).json() == said
    undone = post({"uid": str(uuid.uuid4()), "undoes": uid})
    assert (undone["trim_start"], undone["undoable"], len(undone["history"])) == (0, None, 2)
    for rubbish, status in (
        (b"rubbish", 422), ({"uid": "x"}, 422), ({"uid": uid, "trim": [1]}, 422),
        ({"uid": str(uuid.uuid4()), "trim": [2**40, 0]}, 422), (b" " * 5000, 413),
        ({"uid": str(uuid.uuid4()), "discarded": True, "by": "lead"}, 403),
        ({"uid": str(uuid.uuid4()), "undoes": uid}, 409),
    ):  # fmt: skip
        assert post(rubbish, status)["reason"]
    assert client.get(f"/corrections/{robot.name}/7/{recorded.uid}/").status_code == 404
    page = f"/episodes/{recorded.uid}/"
    assert b'data-say="discard"' in client.get(page).content
    client.force_login(cast.viewer.user)
    assert b'data-say="discard"' not in client.get(page).content
    assert client.get(path).status_code == 200
    refused = post({"uid": str(uuid.uuid4()), "discarded": True}, 403)
    assert refused["reason"] == "needs the role operator; viewer is viewer"
    assert Episode.objects.get().interventions.get().discarded is False


def test_episodes_are_found_by_the_marks_of_their_corrections(robot, recorded, lease, say, cast):
    send(recorded, robot)
    say(RECOVERY)
    client = Client()
    client.force_login(cast.viewer.user)

    def found(marked):
        page = client.get("/episodes/", {"marked": marked}).content.decode()
        return str(recorded.uid) in page

    assert [found(m) for m in ("recovery", "correction", "discarded")] == [True, False, False]
    say(DISCARD)
    assert [found(m) for m in ("recovery", "correction", "discarded")] == [False, False, True]
    assert "is none of" in client.get("/episodes/", {"marked": "rubbish"}).content.decode()
