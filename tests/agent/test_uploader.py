import random
from collections.abc import Iterator

import pytest

from fleet.agent.spool import Spool
from fleet.agent.uploader import MAX_BACKOFF_S, TryAgain, Uploader, backoff_s
from tests.agent.making import spool_episode
from tests.agent.server import Ingest, serving


@pytest.fixture
def ingest() -> Iterator[Ingest]:
    with serving() as ingest:
        yield ingest


@pytest.fixture
def spool(tmp_path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def uploader(spool, ingest) -> Iterator[Uploader]:
    uploader = Uploader(spool, server=ingest.url, token="secret", rng=random.Random(1))
    yield uploader
    uploader.stop()


def drain(uploader: Uploader, tries: int = 20) -> int:
    """Upload until nothing is left; return how often it had to try again."""
    again = 0
    for _ in range(tries):
        try:
            if not uploader.upload_next():
                return again
        except TryAgain:
            again += 1
    raise AssertionError("the spool does not drain")


def test_an_episode_goes_up_in_parts_is_closed_and_then_deleted(uploader, spool, ingest):
    manifest = spool_episode(spool, steps=230)
    uid = manifest.header.episode
    assert drain(uploader) == 0
    assert ingest.requests == [
        ("GET", f"/api/episodes/{uid}"),
        *(("PUT", f"/api/episodes/{uid}/parts/{i}") for i in range(3)),
        ("POST", f"/api/episodes/{uid}/close"),
    ]
    assert {headers["Authorization"] for headers in ingest.headers} == {"Bearer secret"}
    assert spool.depth == (0, 0)
    assert ingest.closed == [uid]


@pytest.mark.parametrize("how", ["before", "after", 500, 503, 429, 401, 409])
@pytest.mark.parametrize(
    ("method", "pattern"),
    [("GET", "."), ("PUT", "parts/0"), ("PUT", "parts/1"), ("PUT", "parts/2"), ("POST", "close")],
)
def test_a_failure_at_each_step_loses_nothing_and_repeats_harmlessly(
    uploader, spool, ingest, method, pattern, how
):
    manifest = spool_episode(spool, steps=230)
    ingest.fail_once(method, pattern, how)
    with pytest.raises(TryAgain):
        uploader.upload_next()
    assert spool.depth[0] == 1
    assert drain(uploader) == 0
    uid = manifest.header.episode
    assert ingest.closed == [uid]
    assert sorted(ingest.parts[uid]) == [0, 1, 2]


def test_an_upload_goes_on_where_it_was_cut(uploader, spool, ingest):
    manifest = spool_episode(spool, steps=230)
    ingest.fail_once("PUT", "parts/2", "before")
    with pytest.raises(TryAgain):
        uploader.upload_next()
    ingest.requests.clear()
    drain(uploader)
    uid = manifest.header.episode
    assert [path for method, path in ingest.requests if method == "PUT"] == [
        f"/api/episodes/{uid}/parts/2"
    ]


def test_an_answer_lost_after_the_close_is_found_closed_and_not_sent_again(uploader, spool, ingest):
    spool_episode(spool)
    ingest.fail_once("POST", "close", "after")
    with pytest.raises(TryAgain):
        uploader.upload_next()
    ingest.requests.clear()
    drain(uploader)
    assert [method for method, _ in ingest.requests] == ["GET"]
    assert len(ingest.closed) == 1


def test_episodes_go_up_in_the_order_they_ended_whatever_fails(uploader, spool, ingest):
    uids = [spool_episode(spool).header.episode for _ in range(5)]
    rng = random.Random(3)
    ingest.fail = lambda method, path: rng.choice([None, None, None, "before", "after", 503])
    drain(uploader, tries=400)
    assert ingest.closed == uids


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_the_server_never_takes_is_set_aside_with_its_reason(uploader, spool, ingest, status):
    bad, good = spool_episode(spool), spool_episode(spool)
    ingest.fail_once("PUT", bad.header.episode, status)
    assert drain(uploader) == 0
    assert ingest.closed == [good.header.episode]
    assert "rejected" in uploader.error
    folder = spool.root / "rejected" / bad.header.episode
    assert str(status) in (folder / "reason.txt").read_text()
    assert (folder / "part-00000.arrow").exists()
    assert Spool(spool.root).head() is None


@pytest.mark.parametrize(
    ("status", "code", "kept"),
    [(409, "conflict", False), (409, "episode_closed", False), (409, "missing_parts", True)],
)
def test_a_conflict_is_for_good_and_missing_parts_are_sent_again(
    uploader, spool, ingest, status, code, kept
):
    manifest = spool_episode(spool)
    ingest.fail_once("POST", "close", status)
    ingest.failure_code = code
    assert drain(uploader) == int(kept)
    assert (manifest.header.episode in ingest.closed) is kept
    assert uploader.rejected == int(not kept)


def test_a_part_damaged_on_the_way_is_sent_again_and_one_damaged_on_disk_is_set_aside(
    uploader, spool, ingest
):
    spool_episode(spool)
    ingest.fail_once("PUT", "parts/0", 422)
    ingest.failure_code = "hash_mismatch"
    assert drain(uploader) == 1
    bad = spool_episode(spool)
    path = spool.root / bad.header.episode / "part-00000.arrow"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert drain(uploader) == 0
    assert len(ingest.closed) == 1
    assert (spool.root / "rejected" / bad.header.episode).exists()


def test_one_episode_that_is_refused_again_and_again_lets_the_others_go_first(
    uploader, spool, ingest
):
    stuck, *others = (spool_episode(spool).header.episode for _ in range(3))
    ingest.fail = lambda method, path: 403 if stuck in path else None
    with pytest.raises(AssertionError):
        drain(uploader, tries=30)
    assert ingest.closed == others
    ingest.fail = lambda method, path: None
    drain(uploader)
    assert ingest.closed == [*others, stuck]


def test_a_cursor_that_is_none_is_tried_again(uploader, spool, ingest):
    manifest = spool_episode(spool)
    ingest.files[f"/api/episodes/{manifest.header.episode}"] = b"<html>a proxy</html>"
    with pytest.raises(TryAgain, match="cursor"):
        uploader.upload_next()
    ingest.files.clear()
    assert drain(uploader) == 0


def test_a_server_that_is_away_leaves_the_spool_as_it_is_and_drains_later(tmp_path):
    spool = Spool(tmp_path)
    uids = [spool_episode(spool).header.episode for _ in range(2)]
    away = Uploader(spool, server="http://127.0.0.1:9", token="t")
    with pytest.raises(TryAgain):
        away.upload_next()
    away.stop()
    assert spool.depth[0] == 2
    with serving() as ingest:
        # An agent that was restarted in between.
        uploader = Uploader(Spool(tmp_path), server=ingest.url, token="t")
        drain(uploader)
        uploader.stop()
        assert ingest.closed == uids


def test_the_thread_uploads_what_is_closed_while_it_runs(uploader, spool, ingest):
    uploader.start()
    manifest = spool_episode(spool)
    with spool._changed:
        assert spool._changed.wait_for(lambda: not spool._closed, 20)
    assert ingest.closed == [manifest.header.episode]


def test_an_incomplete_episode_is_uploaded_as_what_it_is(uploader, spool, ingest):
    manifest = spool_episode(spool)
    (spool.root / manifest.header.episode / "manifest.json").unlink()
    recovered = Spool(spool.root)
    again = Uploader(recovered, server=ingest.url, token="t")
    drain(again)
    again.stop()
    assert recovered.depth == (0, 0)
    assert ingest.closed == [manifest.header.episode]


def test_waiting_grows_with_failures_up_to_a_limit_and_differs_between_robots():
    waits = [backoff_s(n, random.Random(1)) for n in range(1, 30)]
    assert waits[0] <= 0.2
    assert all(wait <= MAX_BACKOFF_S for wait in waits)
    assert waits[-1] >= MAX_BACKOFF_S / 2
    assert backoff_s(5, random.Random(1)) != backoff_s(5, random.Random(2))
