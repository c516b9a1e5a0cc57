import uuid

import pytest
from django.db import IntegrityError, transaction
from django.test import Client

from learning import blobs, tasks
from learning.core.records import Indicator
from learning.core.sidecar import decode_annotation
from learning.exceptions import Conflict, Forbidden, NotFound, Unprocessable
from learning.models import Episode, Label, Sidecar, ThresholdVersion
from learning.services.labels import add_label, label_many, withdraw_label
from tests.learning.making import record, send
from tests.learning.test_replay import make_sidecar, make_value


@pytest.fixture
def episode(robot, task):
    return send(record(robot, task, modes=(0,) * 6, outcome="success"), robot)


def in_force(episode: Episode) -> str:
    return Episode.objects.filter(pk=episode.pk).get().outcome_in_force


def test_a_label_sent_twice_under_one_name_is_stored_once(episode, cast):
    uid = uuid.uuid4()
    given = {"episode_uid": episode.uid, "operator": cast.labeller, "uid": uid}
    first = add_label(**given, outcome="failure", failure_step=3, reason="slipped")
    # Judged anew in between; the late copy of the first changes nothing.
    add_label(episode_uid=episode.uid, operator=cast.labeller, outcome="partial")
    assert add_label(**given, outcome="failure", failure_step=3, reason="slipped") == first
    assert (Label.objects.count(), in_force(episode)) == (2, "partial")
    assert (first.failure_step, first.reason) == (3, "slipped")
    with pytest.raises(Conflict):
        add_label(episode_uid=episode.uid, operator=cast.lead, outcome="success", uid=uid)


def test_a_label_taken_back_stays_in_the_history_and_the_one_before_it_stands(episode, cast):
    kept = add_label(episode_uid=episode.uid, operator=cast.lead, outcome="failure")
    uid = uuid.uuid4()
    add_label(episode_uid=episode.uid, operator=cast.labeller, outcome="abort", uid=uid)
    assert in_force(episode) == "abort"
    with pytest.raises(Forbidden):
        withdraw_label(label_uid=uid, operator=cast.lead)
    withdrawal = withdraw_label(label_uid=uid, operator=cast.labeller)
    assert withdraw_label(label_uid=uid, operator=cast.labeller) == withdrawal
    assert in_force(episode) == kept.outcome
    assert [label.outcome for label in Label.objects.all()] == ["failure", "abort", ""]
    with pytest.raises(NotFound):
        withdraw_label(label_uid=uuid.uuid4(), operator=cast.labeller)


def test_without_any_standing_label_the_robot_has_the_word_again(episode, cast):
    uid = uuid.uuid4()
    add_label(episode_uid=episode.uid, operator=cast.labeller, outcome="failure", uid=uid)
    withdraw_label(label_uid=uid, operator=cast.labeller)
    assert in_force(episode) == "success"


@pytest.mark.parametrize(
    "said",
    [{"outcome": "splendid"}, {"outcome": ""}, {"outcome": "failure", "reason": "gremlins"},
     {"outcome": "failure", "failure_step": 6}, {"outcome": "failure", "failure_step": -1},
     {"outcome": "success", "failure_step": 2}, {"outcome": "abort", "reason": "slipped"},
     {"outcome": "failure", "note": "x" * 501}],
)  # fmt: skip
def test_rubbish_is_refused_and_nothing_is_stored(episode, cast, said):
    with pytest.raises((Unprocessable, Conflict)):
        add_label(episode_uid=episode.uid, operator=cast.labeller, **said)
    assert not Label.objects.exists()


def test_the_database_keeps_points_of_failure_to_failures(episode, cast):
    for fields in ({"outcome": "success", "failure_step": 1}, {"outcome": ""}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Label.objects.create(episode=episode, operator=cast.labeller, **fields)


def test_many_are_labelled_or_none(episode, cast, robot, task):
    other = send(record(robot, task), robot)
    with pytest.raises(NotFound):
        label_many(
            episode_uids=[episode.uid, uuid.uuid4()], operator=cast.labeller, outcome="abort"
        )
    assert not Label.objects.exists()
    for _ in range(2):
        label_many(episode_uids=[episode.uid, other.uid], operator=cast.labeller, outcome="abort")
    assert [(label.outcome, label.source) for label in Label.objects.all()] == [
        ("abort", "bulk")
    ] * 2
    with pytest.raises(Unprocessable):
        label_many(episode_uids=[], operator=cast.labeller, outcome="abort")


def test_a_label_through_the_api_may_name_the_point_and_the_reason(episode, cast):
    client = Client()
    client.force_login(cast.labeller.user)
    path = f"/api/episodes/{episode.uid}/labels"
    said = {"outcome": "partial", "failure_step": 2, "reason": "stuck"}
    answer = client.post(path, said, content_type="application/json")
    assert answer.status_code == 200
    assert Label.objects.get().reason == "stuck"
    for rubbish in ({"outcome": "partial", "failure_step": 99}, {"outcome": "x"},
                    {"outcome": "failure", "reason": "x"}):  # fmt: skip
        assert client.post(path, rubbish, content_type="application/json").status_code == 422


def test_a_label_derives_the_indicators_of_its_episode_again_and_of_no_other(
    episode, cast, robot, task
):
    other = send(record(robot, task, modes=(0,) * 6), robot)
    value = make_value()
    for one in (episode, other):
        make_sidecar(one, value, outcome="success")
    threshold = ThresholdVersion.objects.create(
        value=value, number=1, epsilons={"stack": -10.0}, derived_at="2026-01-01T00:00:00Z"
    )
    add_label(episode_uid=episode.uid, operator=cast.labeller, outcome="failure")
    tasks.derive_judged([episode.pk, 10**9])
    derived = Sidecar.objects.get(threshold=threshold)
    assert (derived.episode, derived.outcome) == (episode, "failure")
    assert derived.end_value == pytest.approx(-0.1)
    annotation = decode_annotation(blobs.store().get(derived.sha256))
    assert annotation.returned[-1] == pytest.approx(-0.5)
    assert set(annotation.indicator.tolist()) == {Indicator.POSITIVE}
    # Judged again: the sidecar of the first judgement stays beside the new one's.
    add_label(episode_uid=episode.uid, operator=cast.labeller, outcome="partial")
    tasks.derive_judged([episode.pk])
    assert Sidecar.objects.filter(threshold=threshold).count() == 2


def test_an_episode_without_values_or_without_its_parts_is_left_to_the_next_round(episode, store):
    tasks.derive_judged([episode.pk])
    sidecar = make_sidecar(episode, make_value())
    ThresholdVersion.objects.create(
        value=sidecar.value, number=1, derived_at="2026-01-01T00:00:00Z"
    )
    store.delete(episode.parts.get(index=0).sha256)
    tasks.derive_judged([episode.pk])
    assert Sidecar.objects.count() == 1
