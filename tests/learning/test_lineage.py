import json
import uuid

import pytest
from django.utils import timezone

from learning import blobs
from learning.models import Episode, EpisodeUse, Intervention, Learner
from learning.services.labels import add_label
from tests.factories import make_robot, make_task
from tests.learning.fleets import make_version
from tests.learning.making import record, send
from tests.learning.test_episode_search import queries
from tests.learning.test_pages import make_episode, page, signed_in

NOBODY = uuid.UUID(int=7)


@pytest.fixture
def learner(db):
    return Learner.objects.create(name="hg-dagger")


@pytest.fixture
def versions(learner):
    """Version n was published after 10 n steps; the third was rejected."""
    made, parent = {}, None
    for number in (1, 2, 3, 4, 5):
        state = "rejected" if number == 3 else "published"
        made[number] = make_version(learner, number, step=10 * number, state=state, parent=parent)
        parent = parent if number == 3 else made[number]
    return made


def version_page(cast, path: str) -> str:
    return " ".join(page(cast.viewer, path).split())


def test_an_episode_names_the_versions_that_made_it_and_those_it_trained(
    cast, robot, task, learner, versions
):
    sent = send(
        record(robot, task, modes=(0, 0, 1, 1, 0), policy_number=2,
               policy_sha256=versions[2].sha256),
        robot,
    )  # fmt: skip
    path = f"/episodes/{sent.uid}/"
    text = version_page(cast, path)
    assert 'href="/policies/2/?learner=hg-dagger">hg-dagger v2</a>' in text
    assert "no learner has taken a gradient step on it" in text
    EpisodeUse.objects.create(episode=sent, learner=learner, step=21, at=timezone.now())
    text = version_page(cast, path)
    # Version 2 came before that step, version 3 never left the gate.
    assert "2 versions of hg-dagger" in text
    assert '>v4</a>–<a href="/policies/5/?learner=hg-dagger">v5</a>' in text
    other = Learner.objects.create(name="recap")
    EpisodeUse.objects.create(episode=sent, learner=other, step=1)
    assert "recap learns from it and has not published since" in version_page(cast, path)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"purpose": "eval"}, "held out, no learner may see it"),
        ({"complete": False}, "cut short, no learner may see it"),
        ({"state": "open", "outcome": "", "closed_at": None, "closed_seq": None,
          "manifest_sha256": "", "complete": False}, "still uploading"),
        ({"first_trained_step": 4, "first_trained_at": timezone.now()}, "step 4; by which learner"),
        ({"policy_number": None, "purpose": "demonstration"}, "it is a demonstration"),
        ({"policy_number": 9}, "no such version is known here"),
    ],
)  # fmt: skip
def test_an_episode_without_lineage_says_why(cast, robot, task, fields, words):
    episode = make_episode(1, robot, task, **fields)
    assert words in version_page(cast, f"/episodes/{episode.uid}/")


def test_a_version_counts_what_it_made_and_what_it_learned_from(
    cast, robot, task, learner, versions
):
    sha = versions[2].sha256
    made = [
        make_episode(i, robot, task, policy_number=2, policy_sha256=sha, purpose=purpose,
                     outcome=outcome)
        for i, (purpose, outcome) in enumerate(
            [("eval", "success"), ("eval", "failure"), ("eval", "abort"), ("train", "success")], 1
        )
    ]  # fmt: skip
    make_episode(9, robot, task, policy_number=2, policy_sha256="f" * 64)
    for step, episode in zip((4, 12), (made[3], make_episode(10, robot, task)), strict=True):
        EpisodeUse.objects.create(episode=episode, learner=learner, step=step)
    text = version_page(cast, "/policies/2/")
    assert 'href="/episodes/?made=hg-dagger%20v2">4</a>' in text
    assert 'href="/episodes/?trained=hg-dagger%20v2">2</a>' in text
    assert "1 of them unknown to v1" in text
    assert "50 %" in text
    assert "n=2" in text
    # The links lead to what was counted.
    for query, n in (("made=hg-dagger%20v2", 4), ("trained=hg-dagger%20v2", 2)):
        assert f"{n} episodes found" in page(cast.viewer, f"/episodes/?{query}")
    rejected = version_page(cast, "/policies/3/")
    assert "rejected" in rejected
    assert "first assigned" in rejected.lower()


def test_a_number_that_two_learners_have_asks_which(cast, learner, versions):
    make_version(Learner.objects.create(name="recap"), 2, step=5)
    text = version_page(cast, "/policies/2/")
    assert "Several learners have a version 2" in text
    assert 'href="?learner=recap"' in text
    assert "recap v2" in version_page(cast, "/policies/2/?learner=recap")


@pytest.mark.parametrize(
    "path",
    [f"/episodes/{NOBODY}/", f"/episodes/{NOBODY}/steps.json", f"/episodes/{NOBODY}/curves.json",
     "/policies/77/", "/policies/99999999999999999999/", "/policies/2/?learner=%00",
     "/policies/2/?learner=nobody"],
)  # fmt: skip
def test_what_is_not_there_is_not_found(cast, versions, path):
    assert signed_in(cast.viewer).get(path).status_code == 404


def test_the_history_of_labels_is_shown_and_the_newest_is_in_force(cast, robot, task):
    episode = make_episode(1, robot, task, outcome="success")
    add_label(episode_uid=episode.uid, operator=cast.labeller, outcome="failure", note="slipped")
    add_label(episode_uid=episode.uid, operator=cast.lead, outcome="timeout")
    text = version_page(cast, f"/episodes/{episode.uid}/")
    assert text.index("timeout <small>in force") < text.index("<td>failure</td>")
    assert "slipped" in text
    assert "The robot said</dt><dd>success" in text


def test_an_episode_page_takes_few_queries_however_much_was_corrected(cast, robot, task, learner):
    few = make_episode(1, robot, task)
    Intervention.objects.create(episode=few, start=0, end=2, operator="ann")
    many = make_episode(2, robot, task)
    for i in range(20):
        Intervention.objects.create(episode=many, start=2 * i, end=2 * i + 1, operator="ann")
        add_label(episode_uid=many.uid, operator=cast.lead, outcome=("failure", "success")[i % 2])
    client = signed_in(cast.viewer)
    before = queries(client, f"/episodes/{few.uid}/")
    assert queries(client, f"/episodes/{many.uid}/") <= before
    assert before <= 13


# ---- steps


@pytest.fixture
def recorded(robot, task) -> Episode:
    """Ten steps in three parts; people drove steps 4 to 6."""
    return send(record(robot, task, modes=(0,) * 4 + (1,) * 3 + (0,) * 3), robot)


def test_steps_are_read_across_parts_without_a_number_that_json_lacks(cast, recorded):
    client = signed_in(cast.viewer)
    answer = client.get(f"/episodes/{recorded.uid}/steps.json")
    said = json.loads(answer.content, parse_constant=pytest.fail)
    assert [row["step"] for row in said["steps"]] == list(range(10))
    assert (said["total"], said["action_names"]) == (10, ["x", "y"])
    assert [row["control"] for row in said["steps"]][3:7] == ["policy", "human", "human", "human"]
    assert said["steps"][4]["controller"] == "operator"
    assert len(said["steps"][0]["state"]) == 3
    assert said["steps"][0]["policy_number"] == 1
    assert [row["t_s"] for row in said["steps"]] == [0.0] * 10
    later = client.get(f"/episodes/{recorded.uid}/steps.json?first=7").json()
    assert [row["step"] for row in later["steps"]] == [7, 8, 9]
    assert client.get(f"/episodes/{recorded.uid}/steps.json?first=999").json()["steps"] == []


def test_curves_hold_every_dimension_and_what_the_policy_proposed(cast, recorded):
    answer = signed_in(cast.viewer).get(f"/episodes/{recorded.uid}/curves.json")
    said = json.loads(answer.content, parse_constant=pytest.fail)
    names = [curve["name"] for curve in said["curves"]]
    assert {"action x", "action y", "state x", "state y", "state z"} <= set(names)
    action = said["curves"][names.index("action x")]
    assert len(action["values"]) == len(action["proposed"]) == len(said["steps"]) == 10


def test_long_episodes_are_thinned(cast, robot, task, monkeypatch):
    monkeypatch.setattr("learning.selectors.steps.POINTS", 4)
    sent = send(record(robot, task, modes=(0,) * 10), robot)
    said = signed_in(cast.viewer).get(f"/episodes/{sent.uid}/curves.json").json()
    assert said["steps"] == [0, 3, 6, 9]


@pytest.mark.parametrize("first", ["-1", "many", "", "1e3", "9" * 40, "%00", "²"])
def test_rubbish_for_a_step_is_answered_in_words(cast, recorded, first):
    answer = signed_in(cast.viewer).get(f"/episodes/{recorded.uid}/steps.json?first={first}")
    assert answer.status_code == 422
    assert "index of a step" in answer.json()["reason"]


def test_a_part_that_is_gone_is_said_and_the_page_still_opens(cast, recorded):
    blobs.store().delete(recorded.parts.first().sha256)
    client = signed_in(cast.viewer)
    answer = client.get(f"/episodes/{recorded.uid}/steps.json")
    assert answer.status_code == 404
    assert answer.json()["code"] == "blob_missing"
    assert client.get(f"/episodes/{recorded.uid}/").status_code == 200


def test_an_episode_of_nothing_has_no_steps(cast):
    episode = make_episode(1, make_robot(), make_task(), steps=0)
    said = signed_in(cast.viewer).get(f"/episodes/{episode.uid}/curves.json").json()
    assert said == {"steps": [], "curves": []}
