import json
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.protocol.episode import sha256_of
from learning.models import Episode, EpisodePart, Intervention, Label
from tests.factories import make_operator, make_robot
from tests.learning.making import record, send


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def put(client, recorded, index=0, *, token="token-a", sha256=None):
    return client.put(
        f"/api/episodes/{recorded.uid}/parts/{index}",
        recorded.parts[index],
        content_type="application/vnd.apache.arrow.file",
        headers={"X-Content-SHA256": sha256 or recorded.sha256(index), **bearer(token)},
    )


def close(client, uid, body, *, token="token-a"):
    return client.post(
        f"/api/episodes/{uid}/close", body, content_type="application/json", headers=bearer(token)
    )


def test_a_robot_uploads_resumes_and_closes(client, robot, task):
    recorded = record(robot, task, modes=(0, 1, 1, 0, 0, 0))
    url = f"/api/episodes/{recorded.uid}"
    assert client.get(url, headers=bearer("token-a")).json() == {"state": "unknown", "parts": []}
    assert put(client, recorded, 1).json() == {"stored": True}
    assert client.get(url, headers=bearer("token-a")).json() == {"state": "open", "parts": [1]}
    early = close(client, recorded.uid, recorded.manifest_json)
    assert early.status_code == 409
    assert early.json()["code"] == "missing_parts"
    assert early.json()["missing"] == [0]
    assert put(client, recorded, 0).status_code == 200
    for _ in range(2):
        closed = close(client, recorded.uid, recorded.manifest_json)
        assert closed.status_code == 200
        assert closed.json() == {"closed": True, "seq": 1}
    assert put(client, recorded, 0).json() == {"stored": True}
    assert client.get(url, headers=bearer("token-a")).json() == {"state": "closed", "parts": [0, 1]}


@pytest.mark.parametrize("headers", [{}, bearer("nobody"), {"Authorization": "Basic eDp4"}])
def test_without_a_known_robot_token_nothing_is_taken(client, robot, task, headers):
    recorded = record(robot, task)
    response = client.put(
        f"/api/episodes/{recorded.uid}/parts/0",
        recorded.parts[0],
        content_type="application/octet-stream",
        headers={"X-Content-SHA256": recorded.sha256(0), **headers},
    )
    assert response.status_code == 401
    assert response.json()["code"] == "unauthenticated"
    assert not EpisodePart.objects.exists()


def test_a_disabled_robot_is_unknown(client, robot, task):
    robot.enabled = False
    robot.save()
    assert put(client, record(robot, task)).status_code == 401


def test_an_operators_session_or_token_uploads_nothing(client, robot, task, cast):
    make_operator("script", token="script-token")
    recorded = record(robot, task)
    assert put(client, recorded, token="script-token").status_code == 401
    client.force_login(cast.admin.user)
    response = client.put(f"/api/episodes/{recorded.uid}/parts/0", recorded.parts[0])
    assert response.status_code == 401


def test_another_robots_episode_is_forbidden_everywhere(client, robot, task):
    make_robot("arm-b", token="token-b")
    recorded = record(robot, task)
    assert put(client, recorded, token="token-b").status_code == 403
    assert put(client, recorded).status_code == 200
    url = f"/api/episodes/{recorded.uid}"
    assert client.get(url, headers=bearer("token-b")).status_code == 403
    assert close(client, recorded.uid, recorded.manifest_json, token="token-b").status_code == 403
    assert put(client, recorded, token="token-b").status_code == 403


def test_a_damaged_part_is_422_and_may_be_sent_again(client, robot, task):
    recorded = record(robot, task)
    response = put(client, recorded, sha256="0" * 64)
    assert (response.status_code, response.json()["code"]) == (422, "hash_mismatch")
    assert put(client, recorded).status_code == 200


def test_a_missing_hash_is_422(client, robot, task):
    recorded = record(robot, task)
    response = client.put(
        f"/api/episodes/{recorded.uid}/parts/0", recorded.parts[0], headers=bearer("token-a")
    )
    assert response.status_code == 422


def test_a_part_over_the_limit_is_413_before_it_is_read(client, robot, task):
    recorded = record(robot, task)
    response = client.generic(
        "PUT",
        f"/api/episodes/{recorded.uid}/parts/0",
        b"x",
        headers=bearer("token-a"),
        CONTENT_LENGTH=str(65 * 1024 * 1024),
    )
    assert (response.status_code, response.json()["code"]) == (413, "too_large")


def test_a_manifest_over_the_limit_is_413(client, robot, task):
    assert close(client, uuid.uuid4(), b" " * (4 * 1024 * 1024 + 1)).status_code == 413


def test_a_dead_store_asks_the_robot_to_come_again(client, robot, task, monkeypatch):
    from obstore.exceptions import GenericError

    from learning import blobs

    def broken(*_, **__):
        raise GenericError("no route to host")

    recorded = record(robot, task)
    with monkeypatch.context() as outage:
        outage.setattr(blobs.obstore, "put", broken)
        response = put(client, recorded)
        assert (response.status_code, response.json()["code"]) == (503, "store_unavailable")
        assert response["Retry-After"]
        assert "route" not in response.json()["reason"]
    assert not Episode.objects.exists()
    assert put(client, recorded).status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{", b"\xff\xfe", b'{"header": 1}', b"[" * 100_000, b"1e999"],
)
def test_a_manifest_that_is_none_is_422(client, robot, task, body):
    response = close(client, uuid.uuid4(), body)
    assert (response.status_code, response.json()["code"]) == (422, "unprocessable")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=st.binary(max_size=300))
def test_rubbish_bodies_are_refused_with_a_reason(client, robot, task, body):
    uid = uuid.uuid4()
    part = client.put(
        f"/api/episodes/{uid}/parts/0",
        body,
        content_type="application/octet-stream",
        headers={"X-Content-SHA256": sha256_of(body), **bearer("token-a")},
    )
    for response in (part, close(client, uid, body)):
        assert response.status_code == 422
        assert set(response.json()) == {"code", "reason"}
    assert not Episode.objects.exists()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_part_with_flipped_bytes_is_stored_or_refused_and_never_an_error(
    client, robot, task, data
):
    recorded = record(robot, task, seed=7)
    body = bytearray(recorded.parts[0])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    response = client.put(
        f"/api/episodes/{recorded.uid}/parts/0",
        bytes(body),
        content_type="application/octet-stream",
        headers={"X-Content-SHA256": sha256_of(bytes(body)), **bearer("token-a")},
    )
    assert response.status_code in (200, 403, 409, 422)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    field=st.sampled_from(
        ["ended_wall_ns", "steps", "outcome", "judge", "control_period_s", "interventions", "link"]
    ),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    ),
)
def test_a_manifest_with_a_wrong_value_is_closed_or_refused_and_never_an_error(
    client, robot, task, field, value
):
    recorded = record(robot, task, modes=(0, 1, 0))
    assert put(client, recorded).status_code == 200
    manifest = json.loads(recorded.manifest_json)
    manifest[field] = value
    response = close(client, recorded.uid, json.dumps(manifest))
    assert response.status_code in (200, 422)


@pytest.mark.parametrize(
    "path", ["episodes/nonsense", "episodes/1/parts/0", f"episodes/{uuid.UUID(int=1)}/parts/-1"]
)
def test_addresses_that_are_none_are_404(client, robot, path):
    assert client.get(f"/api/{path}", headers=bearer("token-a")).status_code == 404


def test_wrong_methods_are_405(client, robot):
    assert (
        client.delete(f"/api/episodes/{uuid.uuid4()}", headers=bearer("token-a")).status_code == 405
    )


def test_closed_episodes_are_listed_by_cursor(client, robot, task, cast):
    episodes = [send(record(robot, task, purpose=p), robot) for p in ("train", "eval", "train")]
    client.force_login(cast.viewer.user)
    page = client.get("/api/episodes?limit=2").json()
    assert [e["uid"] for e in page["episodes"]] == [str(e.uid) for e in episodes[:2]]
    rest = client.get(f"/api/episodes?since_seq={page['next_seq']}").json()
    assert [e["uid"] for e in rest["episodes"]] == [str(episodes[2].uid)]
    end = client.get(f"/api/episodes?since_seq={rest['next_seq']}").json()
    assert end == {"episodes": [], "next_seq": rest["next_seq"]}
    only = client.get("/api/episodes?purpose=eval").json()["episodes"]
    assert [e["purpose"] for e in only] == ["eval"]
    assert page["episodes"][0]["robot"] == "arm-a"
    assert page["episodes"][0]["task"] == "stack"
    assert page["episodes"][0]["outcome"] == "success"


def test_reading_episodes_needs_an_operator(client, robot, task, cast):
    assert client.get("/api/episodes").status_code == 401
    client.force_login(cast.outsider)
    assert client.get("/api/episodes").status_code == 403
    assert client.get("/api/episodes", headers=bearer("token-a")).status_code == 403
    make_operator("script", token="script-token")
    assert client.get("/api/episodes", headers=bearer("script-token")).status_code == 200
    # A wrong token is an error of its own, also beside a valid session.
    client.force_login(cast.viewer.user)
    assert client.get("/api/episodes", headers=bearer("wrong")).status_code == 401


def test_a_listed_episode_says_how_often_it_was_corrected(client, robot, task, cast):
    for modes in ((0,) * 6, (0, 2, 1, 1, 0, 0), (0, 2, 1, 0, 2, 1, 0)):
        send(record(robot, task, modes=modes), robot)
    client.force_login(cast.viewer.user)
    listed = client.get("/api/episodes").json()["episodes"]
    counts = [Intervention.objects.filter(episode__uid=one["uid"]).count() for one in listed]
    assert [one["interventions"] for one in listed] == counts
    assert sorted(counts)[0] == 0 < sorted(counts)[1]


@pytest.mark.parametrize("query", ["since_seq=-1", "since_seq=x", "limit=0", f"since_seq={2**70}"])
def test_bad_queries_are_422(client, cast, query):
    client.force_login(cast.viewer.user)
    assert client.get(f"/api/episodes?{query}").status_code == 422


def test_the_last_label_is_the_outcome_in_force(client, robot, task, cast):
    episode = send(record(robot, task, outcome="timeout"), robot)
    url = f"/api/episodes/{episode.uid}/labels"

    def judge(outcome):
        return client.post(url, {"outcome": outcome}, content_type="application/json")

    client.force_login(cast.viewer.user)
    assert judge("success").status_code == 403
    client.force_login(cast.labeller.user)
    assert judge("failure").status_code == 200
    assert judge("success").json()["operator"] == "labeller"
    assert judge("success").status_code == 200
    assert judge("nonsense").status_code == 422
    assert list(Label.objects.values_list("outcome", flat=True)) == ["failure", "success"]
    listed = client.get("/api/episodes").json()["episodes"][0]
    assert (listed["outcome"], listed["robot_outcome"]) == ("success", "timeout")


def test_an_open_episode_is_not_judged(client, robot, task, cast):
    recorded = record(robot, task)
    put(client, recorded)
    client.force_login(cast.labeller.user)
    response = client.post(
        f"/api/episodes/{recorded.uid}/labels",
        {"outcome": "success"},
        content_type="application/json",
    )
    assert response.status_code == 409


def test_a_session_without_a_csrf_token_writes_nothing(robot, task, cast):
    from django.test import Client

    episode = send(record(robot, task), robot)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(cast.labeller.user)
    response = strict.post(
        f"/api/episodes/{episode.uid}/labels",
        {"outcome": "failure"},
        content_type="application/json",
    )
    assert response.status_code == 403
    assert not Label.objects.exists()
