import pytest

from learning.models import Learner, LearnerMetric
from learning.services.policies import import_version


@pytest.fixture
def learner(robot):
    learner = Learner.objects.create(name="hg", config={"seed": 1})
    import_version(learner, artifact=b"base", gate={})
    return learner


@pytest.fixture(autouse=True)
def enqueued(monkeypatch):
    from learning import tasks

    sent = []
    monkeypatch.setattr(tasks.run_round, "apply_async", lambda args, **_: sent.append(args))
    return sent


def test_a_learner_shows_its_state_version_and_curves(client, learner, cast):
    for step in range(5):
        LearnerMetric.objects.create(learner=learner, step=step, values={"loss": step / 10})
    client.force_login(cast.viewer.user)
    shown = client.get("/api/learners/hg?metrics=2").json()
    assert (shown["state"], shown["busy"], shown["step"]) == ("paused", False, 0)
    assert shown["version"]["number"] == 1
    assert shown["config"] == {"seed": 1}
    assert [(m["step"], m["values"]) for m in shown["metrics"]] == [
        (3, {"loss": 0.3}),
        (4, {"loss": 0.4}),
    ]
    assert [x["name"] for x in client.get("/api/learners").json()] == ["hg"]
    assert client.get("/api/learners/nobody").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_a_lead_starts_and_pauses_and_a_round_is_enqueued_at_once(client, learner, cast, enqueued):
    client.force_login(cast.lead.user)
    assert client.post("/api/learners/hg/start").json()["state"] == "running"
    assert enqueued == [(learner.pk, 0)]
    assert client.post("/api/learners/hg/start").status_code == 200
    assert client.post("/api/learners/hg/pause").json()["state"] == "paused"
    learner.refresh_from_db()
    assert learner.state == "paused"


@pytest.mark.parametrize("who", ["viewer", "labeller", "operator"])
def test_others_do_not_start_or_pause(client, learner, cast, who):
    client.force_login(getattr(cast, who).user)
    for verb in ("start", "pause"):
        assert client.post(f"/api/learners/hg/{verb}").status_code == 403
    learner.refresh_from_db()
    assert learner.state == "paused"


def test_strangers_and_robots_see_nothing(client, learner, cast):
    assert client.get("/api/learners").status_code == 401
    client.force_login(cast.outsider)
    assert client.get("/api/learners/hg").status_code == 403
    token = {"Authorization": "Bearer token-a"}
    assert client.get("/api/learners/hg", headers=token).status_code == 403
    assert client.post("/api/learners/hg/start", headers=token).status_code == 403
    assert Learner.objects.get().state == "paused"


@pytest.mark.parametrize("query", ["metrics=-1", "metrics=x", "metrics=99999"])
def test_bad_queries_are_422(client, learner, cast, query):
    client.force_login(cast.viewer.user)
    response = client.get(f"/api/learners/hg?{query}")
    assert response.status_code == 422
    assert "metrics" in response.json()["reason"]


def test_the_schema_is_published(client, db):
    schema = client.get("/api/openapi.json").json()
    assert "/api/episodes/{uid}/parts/{index}" in schema["paths"]
