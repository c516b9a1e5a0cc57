import json
import uuid

import pytest
from django.test import Client

from learning.models import Episode, Label
from learning.selectors import labelling
from learning.selectors.labelling import Experience, queue, score, waiting_for
from learning.services.labels import add_label, withdraw_label
from tests.factories import make_task
from tests.learning.making import record, send
from tests.learning.test_pages import make_episode, page, signed_in
from tests.learning.test_replay import make_sidecar, make_value

NOTHING = Experience({}, {})


@pytest.fixture
def episodes(robot, task):
    return [make_episode(i, robot, task) for i in (1, 2, 3)]


def give(operator, episode, outcome, source="desk") -> Label:
    return add_label(
        episode_uid=episode.uid, operator=operator, outcome=outcome, source=source, uid=uuid.uuid4()
    )


def uids(operator, **options) -> list[uuid.UUID]:
    return [one.uid for one in queue(operator, **options)]


def post(operator, path, body) -> tuple[int, dict]:
    answer = signed_in(operator).post(path, body, content_type="application/json")
    return answer.status_code, answer.json()


def test_only_whole_training_episodes_that_nobody_judged_wait(cast, robot, task, episodes):
    make_episode(10, robot, task, purpose="eval")
    make_episode(11, robot, task, complete=False)
    make_episode(12, robot, task, judge="operator:ann")
    assert uids(cast.labeller) == [one.uid for one in reversed(episodes)]
    label = give(cast.labeller, episodes[1], "failure")
    assert set(uids(cast.labeller)) == {episodes[0].uid, episodes[2].uid}
    withdraw_label(label_uid=label.uid, operator=cast.labeller)
    assert waiting_for(cast.labeller).count() == 3
    assert uids(cast.labeller, without=[episodes[2].uid], limit=1) == [episodes[1].uid]


def test_what_the_value_function_doubts_comes_before_what_it_knows(cast, robot, task):
    kinds = {}
    value = make_value()
    for name, outcome, end in (("sure", "success", 0.0), ("torn", "success", -0.25),
                               ("contradicted", "success", -0.5)):  # fmt: skip
        episode = send(record(robot, task, outcome=outcome), robot)
        sidecar = make_sidecar(episode, value, outcome=outcome)
        sidecar.end_value = end
        sidecar.save()
        kinds[episode.uid] = name
    found = queue(cast.labeller)
    assert [kinds[one.uid] for one in found] == ["torn", "contradicted", "sure"]
    assert [round(one.uncertainty + one.disagreement, 3) for one in found] == [1.5, 1.0, 0.0]


def test_without_values_people_overruling_robots_and_rare_tasks_decide(cast, robot, task):
    rare = make_task("rare")
    judged = [make_episode(i, robot, task, outcome="success") for i in range(1, 4)]
    for episode in judged:
        give(cast.labeller, episode, "failure")
    trusted = make_episode(10, robot, task, outcome="failure")
    overruled = make_episode(11, robot, task, outcome="success")
    new = make_episode(12, robot, rare, outcome="success")
    assert uids(cast.labeller) == [new.uid, overruled.uid, trusted.uid]


def test_scores_are_sums_of_shares():
    one = score(uuid.uuid4(), 1, "t", "success", None, NOTHING)
    assert (one.uncertainty, one.disagreement, one.balance, one.score) == (0.5, 0.5, 1.0, 2.0)
    # Values beyond those of a success and a failure are as sure as these.
    for end in (0.3, -0.9):
        assert score(uuid.uuid4(), 1, "t", "failure", end, NOTHING).uncertainty == 0.0


def test_a_share_is_asked_of_a_second_labeller_who_is_not_told(cast, episodes, settings):
    settings.SOP_DOUBLE_LABEL_PERCENT = 100
    give(cast.labeller, episodes[0], "success")
    assert episodes[0].uid not in uids(cast.labeller)
    assert episodes[0].uid in uids(cast.operator)
    _, seen = post(cast.operator, "/label/seat/", {"page": str(uuid.UUID(int=1)), "n": 8})
    assert {frozenset(one) for one in seen["episodes"]} == {frozenset(("uid", "task", "score"))}
    give(cast.operator, episodes[0], "failure")
    assert episodes[0].uid not in uids(cast.lead)
    settings.SOP_DOUBLE_LABEL_PERCENT = 0
    give(cast.labeller, episodes[1], "success")
    assert uids(cast.operator, page=uuid.UUID(int=1)) == [episodes[2].uid]


def test_who_has_not_judged_sees_no_judgement(cast, robot, task):
    episode = send(record(robot, task, outcome="failure"), robot)
    make_sidecar(episode, make_value())
    give(cast.lead, episode, "partial")
    path = f"/label/{episode.uid}/replay.json"
    blind = signed_in(cast.labeller).get(path).json()
    assert blind["blind"] is True
    assert {"outcome", "robot_outcome", "labels", "judge"}.isdisjoint(blind)
    assert (blind["advantage"], blind["indicator"]) == (None, None)
    assert blind["value"] is not None
    assert "partial" not in json.dumps(blind)
    give(cast.labeller, episode, "failure")
    assert signed_in(cast.labeller).get(path).json()["outcome"] == "failure"


def test_conflicts_are_pairs_that_differ_until_a_review_settles_them(cast, episodes):
    for episode, second in zip(episodes, ("success", "failure", "timeout"), strict=True):
        give(cast.labeller, episode, "success" if second != "timeout" else "failure")
        give(cast.operator, episode, second)
    assert labelling.agreement_pairs() == [
        ("success", "success"), ("success", "failure"), ("failure", "failure")
    ]  # fmt: skip
    ((first, second),) = labelling.conflicts()
    assert (first.operator, second.operator) == (cast.labeller, cast.operator)
    text = page(cast.labeller, "/label/review/")
    assert "n = 3 episodes judged by two" in text
    assert str(episodes[1].uid)[:8] in text
    body = {"uid": str(uuid.uuid4()), "outcome": "partial", "review": True}
    assert post(cast.lead, f"/label/{episodes[1].uid}/give/", body)[0] == 200
    assert labelling.conflicts() == []
    # The review saw both: it is no third independent opinion.
    assert len(labelling.pairs()) == 3
    assert "No conflict to settle" in page(cast.labeller, "/label/review/")


def test_a_label_and_its_withdrawal_may_each_arrive_twice(cast, episodes):
    path = f"/label/{episodes[0].uid}/give/"
    label = {"uid": str(uuid.uuid4()), "outcome": "failure", "failure_step": 5, "reason": "stuck"}
    for _ in range(2):
        assert post(cast.labeller, path, label) == (200, {"stored": label["uid"]})
    back = {"uid": str(uuid.uuid4()), "label": label["uid"]}
    for _ in range(2):
        assert post(cast.labeller, "/label/withdraw/", back) == (200, {"stored": back["uid"]})
    assert [row.outcome for row in Label.objects.all()] == ["failure", ""]
    assert Label.objects.first().source == "desk"


@pytest.mark.parametrize(
    ("body", "status"),
    [("", 422), ("null", 422), ("[1]", 422), ('"x"', 422), ("{", 422), (b"\xff\xfe", 422),
     ({}, 422), ({"uid": "x", "outcome": "success"}, 422),
     ({"uid": "00000000-0000-4000-8000-000000000001", "outcome": "great"}, 422),
     ({"uid": "00000000-0000-4000-8000-000000000001", "outcome": "failure",
       "failure_step": 2**31}, 422),
     ({"uid": "00000000-0000-4000-8000-000000000001", "outcome": "failure",
       "failure_step": 100}, 422),
     ({"uid": "00000000-0000-4000-8000-000000000001", "outcome": "success", "note": "\0"}, 422),
     ({"uid": "00000000-0000-4000-8000-000000000001", "outcome": "success",
       "note": "x" * 5000}, 413)],
)  # fmt: skip
def test_rubbish_is_refused_in_words_and_nothing_is_stored(cast, episodes, body, status):
    path = f"/label/{episodes[0].uid}/give/"
    answer = signed_in(cast.labeller).post(path, body, content_type="application/json")
    assert (answer.status_code, Label.objects.count()) == (status, 0)
    assert answer.json()["reason"]


def test_labels_of_what_is_not_there_are_refused(cast, episodes):
    body = {"uid": str(uuid.uuid4()), "outcome": "success"}
    assert post(cast.labeller, f"/label/{uuid.uuid4()}/give/", body)[0] == 404
    back = {"uid": str(uuid.uuid4()), "label": str(uuid.uuid4())}
    assert post(cast.labeller, "/label/withdraw/", back)[0] == 404
    for replay in (f"/label/{uuid.uuid4()}/replay.json",):
        assert signed_in(cast.labeller).get(replay).status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("get", "/label/"), ("post", "/label/seat/"), ("post", "/label/leave/"),
     ("get", "/label/review/"),
     ("post", "/label/bulk/"), ("post", "/label/withdraw/"),
     ("post", "/label/00000000-0000-4000-8000-000000000001/give/")],
)  # fmt: skip
def test_viewers_and_strangers_label_nothing(cast, client, method, path):
    assert getattr(client, method)(path).status_code == 302
    assert getattr(signed_in(cast.viewer), method)(path).status_code == 403


def test_a_label_needs_the_pages_token(cast, episodes):
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast.labeller.user)
    body = {"uid": str(uuid.uuid4()), "outcome": "success"}
    path = f"/label/{episodes[0].uid}/give/"
    assert client.post(path, body, content_type="application/json").status_code == 403
    assert not Label.objects.exists()


def test_a_page_left_open_never_labels_for_who_signed_in_since(cast, episodes):
    path = f"/label/{episodes[0].uid}/give/"
    body = {"uid": str(uuid.uuid4()), "outcome": "success", "by": "labeller"}
    status, said = post(cast.operator, path, body)
    assert (status, Label.objects.count()) == (403, 0)
    assert "labeller's judgement" in said["reason"]
    assert post(cast.labeller, path, body)[0] == 200


def test_an_empty_desk_says_what_comes_next(cast):
    assert "Nothing waits to be judged" in page(cast.labeller, "/label/")
    assert "Nothing judged twice yet" in page(cast.labeller, "/label/review/")
    assert post(cast.labeller, "/label/seat/", {"page": str(uuid.uuid4()), "n": 8})[1] == {
        "left": 0, "labellers": 1, "judged": [], "taken": [], "episodes": []
    }  # fmt: skip


def test_a_selection_is_labelled_at_once_or_not_at_all(cast, episodes):
    client = signed_in(cast.labeller)
    chosen = [str(one.uid) for one in episodes[:2]]
    sent = {"uid": chosen, "outcome": "abort", "next": "/episodes/?task=stack"}
    assert client.post("/label/bulk/", sent).headers["Location"] == "/episodes/?task=stack"
    assert "2 episodes labelled abort" in client.get("/episodes/").content.decode()
    for rubbish in ({"uid": [*chosen, "x"]}, {"uid": []}, {"uid": [str(uuid.uuid4())]},
                    {"outcome": "grand"}, {"uid": ["x"] * 600}):  # fmt: skip
        answer = client.post("/label/bulk/", sent | rubbish)
        assert answer.status_code == 302
        assert "Nothing was labelled" in client.get("/episodes/").content.decode()
    assert Label.objects.count() == 2
    for elsewhere in ("https://evil.example/", "//evil.example", "/\\evil.example", ""):
        answer = client.post("/label/bulk/", sent | {"next": elsewhere})
        assert answer.headers["Location"] == "/label/"


def test_many_are_chosen_from_their_last_pictures(cast, robot, episodes):
    robot.spec = {"cameras": [{"name": "front"}]}
    robot.save()
    text = page(cast.labeller, "/label/many/?task=stack")
    assert f"/episodes/{episodes[0].uid}/frames/front/99.jpg" in text
    assert text.count('type="checkbox"') == 3
    assert "Nothing waits to be judged" in page(cast.labeller, "/label/many/?task=nonsense%00")


def test_the_queue_stays_quick_with_thousands_waiting(
    cast, robot, task, django_assert_max_num_queries
):
    template = make_episode(1, robot, task)
    rows = []
    for i in range(2, 2500):
        row = Episode(**{f.attname: getattr(template, f.attname) for f in Episode._meta.fields})
        row.pk, row.uid, row.closed_seq = None, uuid.uuid4(), i
        rows.append(row)
    Episode.objects.bulk_create(rows, batch_size=500)
    with django_assert_max_num_queries(2):
        assert len(queue(cast.labeller, limit=8)) == 8
