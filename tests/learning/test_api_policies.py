import hashlib

import pytest
from django.utils import timezone

from learning import blobs
from learning.models import Learner, PolicyVersion, ValueVersion
from learning.services.policies import import_version
from tests.factories import make_operator

CONTENT = bytes(range(256)) * 8


@pytest.fixture
def version(robot):
    return import_version(Learner.objects.create(name="l"), artifact=CONTENT, gate={})


@pytest.fixture
def get(client, version):
    def get(sha256=None, *, method="get", **headers):
        return getattr(client, method)(
            f"/api/policies/{sha256 or version.sha256}/weights",
            headers={"Authorization": "Bearer token-a", **headers},
        )

    return get


def test_the_whole_artifact_comes_with_its_hash_as_etag(get, version):
    response = get()
    assert response.status_code == 200
    assert response.content == CONTENT
    assert response["ETag"] == f'"{version.sha256}"'
    assert response["Content-Length"] == str(len(CONTENT))
    assert response["Accept-Ranges"] == "bytes"
    assert "immutable" in response["Cache-Control"]
    assert hashlib.sha256(response.content).hexdigest() == version.sha256


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=2000-", 2000, 2048),
        ("bytes=-48", 2000, 2048),
        ("bytes=-9999", 0, 2048),
        ("bytes=2000-99999", 2000, 2048),
    ],
)
def test_a_range_is_answered_with_206(get, wanted, start, end):
    response = get(Range=wanted)
    assert response.status_code == 206
    assert response.content == CONTENT[start:end]
    assert response["Content-Range"] == f"bytes {start}-{end - 1}/2048"
    assert response["Content-Length"] == str(end - start)


@pytest.mark.parametrize("wanted", ["bytes=2048-", "bytes=5000-6000", "bytes=-0"])
def test_a_range_beyond_the_end_is_416_with_the_size(get, wanted):
    response = get(Range=wanted)
    assert response.status_code == 416
    assert response["Content-Range"] == "bytes */2048"


@pytest.mark.parametrize(
    "wanted",
    ["bytes=", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=5-2", "bytes=0-1,5-6", "x", "bytes=1"],
)
def test_a_range_that_is_none_is_ignored(get, wanted):
    response = get(Range=wanted)
    assert (response.status_code, response.content) == (200, CONTENT)


def test_if_range_resumes_the_same_content_and_restarts_another(get, version):
    same = get(**{"Range": "bytes=100-", "If-Range": f'"{version.sha256}"'})
    assert (same.status_code, same.content) == (206, CONTENT[100:])
    other = get(**{"Range": "bytes=100-", "If-Range": '"another"'})
    assert (other.status_code, other.content) == (200, CONTENT)


def test_what_is_cached_is_not_sent_again(get, version):
    assert get(**{"If-None-Match": f'"{version.sha256}"'}).status_code == 304


def test_head_tells_the_size_without_the_content(get):
    response = get(method="head")
    assert (response.status_code, response.content) == (200, b"")
    assert response["Content-Length"] == "2048"


def test_large_weights_are_streamed_in_chunks(robot, client, monkeypatch):
    from learning.api import artifacts

    monkeypatch.setattr(artifacts, "CHUNK_BYTES", 100)
    version = import_version(Learner.objects.create(name="l"), artifact=CONTENT, gate={})
    response = client.get(
        f"/api/policies/{version.sha256}/weights", headers={"Authorization": "Bearer token-a"}
    )
    assert response.streaming
    assert b"".join(response.streaming_content) == CONTENT


@pytest.mark.django_db(transaction=True)
async def test_large_weights_are_streamed_under_asgi_too(robot, async_client, monkeypatch):
    from asgiref.sync import sync_to_async
    from django.db import connection

    from learning.api import artifacts

    monkeypatch.setattr(artifacts, "CHUNK_BYTES", 100)

    def publish():
        try:
            return import_version(Learner.objects.create(name="l"), artifact=CONTENT, gate={})
        finally:
            # This thread's own; left open it keeps PostgreSQL from dropping the database.
            connection.close()

    version = await sync_to_async(publish)()
    response = await async_client.get(
        f"/api/policies/{version.sha256}/weights",
        headers={"Authorization": "Bearer token-a", "Range": "bytes=10-1010"},
    )
    assert response.status_code == 206
    chunks = [chunk async for chunk in response.streaming_content]
    assert len(chunks) > 1
    assert b"".join(chunks) == CONTENT[10:1011]


def test_only_published_weights_are_served(get, version, client, store):
    other = store.put(b"a part of an episode, say")
    assert get(other).status_code == 404
    rejected = PolicyVersion.objects.create(
        learner=version.learner, number=9, sha256=other, size_bytes=1, state="rejected"
    )
    assert get(rejected.sha256).status_code == 404
    assert get("nonsense").status_code == 404
    assert get("../../etc/passwd").status_code == 404


def test_weights_whose_object_is_gone_are_404_and_a_dead_store_is_503(get, version, monkeypatch):
    from learning.exceptions import StoreUnavailable

    def down(*_):
        raise StoreUnavailable("down")

    with monkeypatch.context() as outage:
        outage.setattr(blobs.BlobStore, "size", down)
        assert get().status_code == 503
    blobs.store().delete(version.sha256)
    assert (get().status_code, get().json()["code"]) == (404, "blob_missing")


def test_weights_need_a_robots_token_or_an_operator(client, version, cast):
    url = f"/api/policies/{version.sha256}/weights"
    assert client.get(url).status_code == 401
    assert client.get(url, headers={"Authorization": "Bearer x"}).status_code == 401
    client.force_login(cast.outsider)
    assert client.get(url).status_code == 403
    client.force_login(cast.viewer.user)
    assert client.get(url).status_code == 200
    make_operator("script", token="script-token")
    client.logout()
    assert client.get(url, headers={"Authorization": "Bearer script-token"}).status_code == 200


def test_versions_are_listed_newest_first(client, version, cast):
    for number in (2, 3):
        PolicyVersion.objects.create(
            learner=version.learner, number=number, sha256=str(number) * 64, size_bytes=1,
            parent=version,
        )  # fmt: skip
    client.force_login(cast.viewer.user)
    listed = client.get("/api/policies?learner=l&limit=2").json()
    assert [v["number"] for v in listed] == [3, 2]
    assert listed[0]["parent"] == 1
    rest = client.get("/api/policies?learner=l&before=2").json()
    assert [v["number"] for v in rest] == [1]
    assert client.get("/api/policies?learner=nobody").status_code == 404
    assert client.get("/api/policies").status_code == 422
    assert client.get("/api/policies", headers={"Authorization": "Bearer token-a"}).status_code in (
        403,
        422,
    )


def test_only_the_weights_of_finished_value_functions_are_served(client, robot, version, store):
    def get(sha256: str, token: str = "token-a", **headers: str):
        return client.get(
            f"/api/values/{sha256}/weights",
            headers={"Authorization": f"Bearer {token}", **headers},
        )

    value = ValueVersion.objects.create(
        learner=version.learner, number=1, state="done", ended_at=timezone.now(),
        sha256=store.put(b"values"),
    )  # fmt: skip
    whole = get(value.sha256)
    assert (whole.status_code, whole.content, whole["ETag"]) == (
        200,
        b"values",
        f'"{value.sha256}"',
    )
    assert get(value.sha256, Range="bytes=2-").content == b"lues"
    assert get(value.sha256, token="x").status_code == 401
    for other in (version.sha256, "nonsense", "../../etc/passwd"):
        assert get(other).status_code == 404
    ValueVersion.objects.update(state="failed")
    assert get(value.sha256).status_code == 404
