import csv
import io
import json
import uuid

import pytest
from django.test import Client

from fleet.models import Operator
from fleet.protocol.simulation import TRIAL_SEEDS
from learning.models import Evaluation, EvaluationTrial, Learner
from learning.services.evaluations import request_evaluation
from tests.factories import make_operator, make_task
from tests.learning.fleets import make_idle, make_version, order_of, run_all, run_next

NOBODY = uuid.UUID(int=7)


@pytest.fixture
def learner(db):
    return Learner.objects.create(name="hg-dagger")


@pytest.fixture
def versions(learner):
    return make_version(learner, 3), make_version(learner, 9)


@pytest.fixture
def tasks(db):
    return [make_task("door"), make_task("drawer")]


@pytest.fixture
def evaluation(cast, versions, tasks):
    return request_evaluation(
        operator=cast.lead, first=versions[0], second=versions[1], tasks=tasks, trials_per_task=2
    )


def signed_in(operator: Operator) -> Client:
    client = Client()
    client.force_login(operator.user)
    return client


FORM = {"first": "hg-dagger v3", "tasks": ["door"], "trials_per_task": "2"}


@pytest.mark.parametrize(
    "path",
    ["/evaluations/", f"/evaluations/{NOBODY}/", f"/evaluations/{NOBODY}/export.csv",
     "/experiments/", "/experiments/loop-20260101-000000/"],
)  # fmt: skip
def test_pages_ask_strangers_to_sign_in(client, cast, path):
    assert client.get(path).headers["Location"].startswith("/login/?next=")
    client.force_login(cast.outsider)
    assert client.get(path).status_code == 403


def test_without_a_version_there_is_nothing_to_ask_for(cast):
    text = signed_in(cast.lead).get("/evaluations/").content.decode()
    assert "There is no version to evaluate" in text
    assert "Start the evaluation" not in text


def test_an_empty_list_says_what_to_do(cast, versions):
    assert "A lead asks for one" in signed_in(cast.viewer).get("/evaluations/").content.decode()
    assert "Choose a version" in signed_in(cast.lead).get("/evaluations/").content.decode()


def test_a_lead_asks_for_an_evaluation_and_lands_on_its_page(cast, versions, tasks):
    robot = make_idle("arm-1")
    answer = signed_in(cast.lead).post("/evaluations/", FORM | {"second": "hg-dagger 9"})
    evaluation = Evaluation.objects.get()
    assert answer.headers["Location"] == f"/evaluations/{evaluation.uid}/"
    assert (evaluation.first.number, evaluation.second.number) == (3, 9)
    assert evaluation.requested_by == cast.lead
    assert order_of(robot) is not None
    text = signed_in(cast.viewer).get(f"/evaluations/{evaluation.uid}/").content.decode()
    assert "hg-dagger v3 against hg-dagger v9" in text
    assert "/robots/arm-1/" in text
    assert "Cancel</button>" not in text


@pytest.mark.parametrize("who", ["viewer", "labeller", "operator"])
def test_only_leads_ask_and_cancel(cast, evaluation, who):
    client = signed_in(getattr(cast, who))
    assert "New evaluation" not in client.get("/evaluations/").content.decode()
    assert client.post("/evaluations/", FORM).status_code == 403
    assert client.post(f"/evaluations/{evaluation.uid}/cancel/").status_code == 403
    evaluation.refresh_from_db()
    assert evaluation.open
    assert Evaluation.objects.count() == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"first": ""}, "required"),
        ({"first": "v3"}, "Write a learner and a version"),
        ({"first": "hg-dagger v4"}, "has no version 4"),
        ({"first": "hg-dagger v99999999999999999999"}, "Write a learner"),
        ({"first": "nobody v1\x00"}, "not allowed"),
        ({"second": "hg-dagger v3"}, "Compare two different versions"),
        ({"tasks": []}, "required"),
        ({"tasks": ["nothing"]}, "not one of the available choices"),
        ({"trials_per_task": "0"}, "greater than or equal to 1"),
        ({"trials_per_task": "many"}, "whole number"),
        ({"max_robots": "-1"}, "greater than or equal to 1"),
        ({"target": "2"}, "less than or equal to 1"),
        ({"target": "nan"}, "number"),
        ({"stop_when_decided": "on"}, "say the target"),
    ],
)
def test_rubbish_in_the_form_is_answered_in_words(cast, versions, tasks, change, words):
    answer = signed_in(cast.lead).post("/evaluations/", FORM | change)
    assert answer.status_code == 400
    assert words in answer.content.decode()
    assert not Evaluation.objects.exists()


def test_cancelling_on_the_page_gives_the_robots_back(cast, evaluation):
    robot = make_idle("arm-1")
    client = signed_in(cast.lead)
    path = f"/evaluations/{evaluation.uid}/"
    assert "Cancel</button>" in client.get(path).content.decode()
    assert client.post(f"{path}cancel/").headers["Location"] == path
    evaluation.refresh_from_db()
    assert evaluation.state == "cancelled"
    assert order_of(robot) is None
    assert "Cancel</button>" not in client.get(path).content.decode()


def test_the_fragment_reloads_until_the_evaluation_has_ended(cast, evaluation):
    robot = make_idle("arm-1")
    client = signed_in(cast.viewer)
    path = f"/evaluations/{evaluation.uid}/_progress/"
    before = client.get(path).content.decode()
    assert "every 2s" in before
    assert "<html" not in before
    assert client.get(f"/evaluations/{evaluation.uid}/figures.json").json() == {"evaluation": None}
    from learning.services.evaluations import advance_open

    advance_open()
    run_all(evaluation, robot, outcome=lambda n, *_: "timeout" if n == 3 else "success")
    after = client.get(path).content.decode()
    assert "every 2s" not in after
    assert "8 of 8" in after
    assert "100 %" in after
    figure = client.get(f"/evaluations/{evaluation.uid}/figures.json").json()["evaluation"]
    assert [trace["name"] for trace in figure["data"]] == ["hg-dagger v3", "hg-dagger v9"]
    assert figure["data"][1]["y"] == [1.0, 1.0, 1.0]
    assert client.get("/evaluations/").status_code == 200


def test_exports_hold_what_was_declared_every_trial_and_the_comparison(cast, evaluation):
    robot = make_idle("arm-1")
    from learning.services.evaluations import advance_open

    advance_open()
    run_next(robot)
    client = signed_in(cast.viewer)
    answer = client.get(f"/evaluations/{evaluation.uid}/export.json")
    assert "attachment" in answer.headers["Content-Disposition"]
    said = json.loads(answer.content, parse_constant=pytest.fail)
    assert said["declared"]["first_seed"] == TRIAL_SEEDS[0]
    assert [version["name"] for version in said["versions"]] == ["hg-dagger v3", "hg-dagger v9"]
    assert len(said["trials"]) == 8
    assert said["results"][0]["versions"]["hg-dagger v3"]["n"] == 1
    assert said["results"][0]["paired"]["mcnemar_p"] == 1.0
    rows = list(
        csv.DictReader(
            io.StringIO(client.get(f"/evaluations/{evaluation.uid}/export.csv").content.decode())
        )
    )
    assert len(rows) == 8
    done = [row for row in rows if row["state"] == "done"]
    assert [(row["robot"], row["outcome"]) for row in done] == [("arm-1", "success")]
    assert client.get(f"/evaluations/{evaluation.uid}/export.exe").status_code == 404


def test_text_in_the_csv_that_a_spreadsheet_would_run_is_quoted(cast, evaluation):
    EvaluationTrial.objects.filter(position=0).update(reason="=HYPERLINK(1)")
    text = signed_in(cast.viewer).get(f"/evaluations/{evaluation.uid}/export.csv").content.decode()
    assert "'=HYPERLINK(1)" in text


@pytest.mark.parametrize("rest", ["", "_progress/", "figures.json", "export.json", "export.csv"])
def test_an_unknown_evaluation_is_not_found(cast, rest):
    assert signed_in(cast.lead).get(f"/evaluations/{NOBODY}/{rest}").status_code == 404


def test_the_robot_page_and_the_fleet_page_say_that_a_robot_evaluates(cast, evaluation):
    robot = make_idle("arm-1", purpose="eval", evaluation=str(evaluation.uid), reported_number=3,
                      reported_sha256="a" * 64)  # fmt: skip
    from learning.services.evaluations import advance_open

    advance_open()
    client = signed_in(cast.viewer)
    assert f"/evaluations/{evaluation.uid}/" in client.get("/robots/arm-1/").content.decode()
    wall = client.get("/").content.decode()
    assert "Evaluates v3" in wall
    assert "v3 under evaluation" in wall
    assert order_of(robot) is not None


# ---- the API


def test_the_api_asks_shows_and_cancels(client, cast, versions, tasks):
    robot = make_idle("arm-1")
    client.force_login(cast.lead.user)
    body = {"first": {"learner": "hg-dagger", "number": 3}, "trials_per_task": 2}
    answer = client.post("/api/evaluations", body, content_type="application/json")
    assert answer.status_code == 200
    said = answer.json()
    assert (said["state"], said["trials"], said["robots"]) == ("running", 4, ["arm-1"])
    run_next(robot)
    shown = client.get(f"/api/evaluations/{said['uid']}").json()
    assert shown["results"][0]["versions"]["hg-dagger v3"]["successes"] == 1
    assert [one["uid"] for one in client.get("/api/evaluations").json()] == [said["uid"]]
    cancelled = client.post(f"/api/evaluations/{said['uid']}/cancel").json()
    assert (cancelled["state"], cancelled["done"]) == ("cancelled", 1)
    assert order_of(robot) is None


@pytest.mark.parametrize("who", ["viewer", "operator"])
def test_the_api_lets_only_leads_ask(client, cast, versions, tasks, who):
    client.force_login(getattr(cast, who).user)
    body = {"first": {"learner": "hg-dagger", "number": 3}}
    answer = client.post("/api/evaluations", body, content_type="application/json")
    assert answer.status_code == 403
    assert not Evaluation.objects.exists()


def test_the_api_takes_no_evaluation_from_a_robot(client, versions, tasks):
    make_idle("arm-1")
    answer = client.get("/api/evaluations", headers={"Authorization": "Bearer arm-1"})
    assert answer.status_code == 403
    assert client.get("/api/evaluations").status_code == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ([], 422),
        ({"first": "hg-dagger v3"}, 422),
        ({"first": {"learner": "hg-dagger", "number": 4}}, 404),
        ({"first": {"learner": "hg-dagger", "number": 2**70}}, 422),
        ({"first": {"learner": "\x00", "number": 1}}, 422),
        ({"first": {"learner": "hg-dagger", "number": 3}, "tasks": ["nothing"]}, 404),
        ({"first": {"learner": "hg-dagger", "number": 3}, "tasks": []}, 422),
        ({"first": {"learner": "hg-dagger", "number": 3}, "tasks": ["\x00"]}, 422),
        ({"first": {"learner": "hg-dagger", "number": 3}, "first_seed": 3}, 422),
        ({"first": {"learner": "hg-dagger", "number": 3}, "first_seed": 2**62}, 422),
        ({"first": {"learner": "hg-dagger", "number": 3}, "trials_per_task": 10**9}, 422),
        ({"first": {"learner": "hg-dagger", "number": 3}, "timeout_ticks": 10**9}, 422),
    ],
)
def test_rubbish_in_the_api_is_refused(client, versions, tasks, body, status):
    make_operator("boss", role="lead", token="boss-token")
    answer = client.post(
        "/api/evaluations", body, content_type="application/json",
        headers={"Authorization": "Bearer boss-token"},
    )  # fmt: skip
    assert answer.status_code == status, answer.content
    assert not Evaluation.objects.exists()
