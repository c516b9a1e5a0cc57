import hashlib

import pytest
from obstore.exceptions import GenericError

from learning import blobs
from learning.exceptions import BlobMissing, HashMismatch, StoreUnavailable


@pytest.fixture(autouse=True)
def _no_database():
    """These tests need no rows."""


def test_what_was_put_is_found_by_its_hash(store):
    sha256 = store.put(b"weights")
    assert sha256 == hashlib.sha256(b"weights").hexdigest()
    assert store.get(sha256) == b"weights"
    assert store.get_range(sha256, 2, 5) == b"igh"
    assert store.size(sha256) == 7
    assert store.local_path(sha256).read_bytes() == b"weights"
    assert [blob.sha256 for blob in store.iter_blobs()] == [sha256]


def test_putting_again_changes_nothing(store):
    assert store.put(b"x") == store.put(b"x")
    assert len(list(store.iter_blobs())) == 1


def test_content_that_is_not_as_announced_is_not_stored(store):
    with pytest.raises(HashMismatch):
        store.put(b"x", sha256="0" * 64)
    assert not list(store.iter_blobs())


def test_a_damaged_object_is_not_returned(store):
    sha256 = store.put(b"whole")
    store.local_path(sha256).write_bytes(b"hole")
    with pytest.raises(HashMismatch):
        store.get(sha256)


def test_missing_objects_are_named_and_deleting_them_is_fine(store):
    gone = "0" * 64
    assert store.size(gone) is None
    for read in (store.get, store.local_path, lambda sha256: store.get_range(sha256, 0, 1)):
        with pytest.raises(BlobMissing):
            read(gone)
    store.delete(gone)


def test_no_half_written_object_is_ever_visible(store, tmp_path):
    sha256 = store.put(b"x" * 100)
    # What a crash leaves while an upload is staged lies beside the object, under another name.
    staged = store.local_path(sha256).with_name(f"{'1' * 64}#1")
    staged.write_bytes(b"half")
    assert [blob.sha256 for blob in store.iter_blobs()] == [sha256]
    assert store.size("1" * 64) is None


def test_the_default_store_makes_no_urls(store):
    assert store.presign(store.put(b"x")) is None


def test_a_folder_may_be_named_without_a_scheme(tmp_path):
    plain = blobs.BlobStore(str(tmp_path / "plain"), cache=tmp_path)
    assert plain.get(plain.put(b"x")) == b"x"


class Broken:
    """An obstore function that fails as an outage does, and counts."""

    def __init__(self):
        self.calls = 0
        self.error = GenericError("connection refused")

    def __call__(self, *_, **__):
        self.calls += 1
        raise self.error


def test_an_outage_fails_fast_and_the_first_success_ends_it(tmp_path, monkeypatch):
    now = [0.0]
    breaker = blobs.Breaker(clock=lambda: now[0])
    store = blobs.BlobStore(str(tmp_path), cache=tmp_path, breaker=breaker)
    sha256 = store.put(b"x")
    broken = Broken()
    with monkeypatch.context() as outage:
        outage.setattr(blobs.obstore, "get", broken)
        for _ in range(5):
            with pytest.raises(StoreUnavailable):
                store.get(sha256)
        assert broken.calls == blobs.BREAKER_FAILURES
        # After the pause one call is let through to find out, not three.
        now[0] += blobs.BREAKER_OPEN_S + 1
        for _ in range(5):
            with pytest.raises(StoreUnavailable):
                store.get(sha256)
        assert broken.calls == blobs.BREAKER_FAILURES + 1
    now[0] += blobs.BREAKER_OPEN_S + 1
    assert store.get(sha256) == b"x"


def test_a_missing_object_is_no_outage(store):
    for _ in range(10):
        with pytest.raises(BlobMissing):
            store.get("0" * 64)
    assert store.put(b"x")


def test_remote_objects_are_copied_once_into_a_bounded_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(blobs, "CACHE_BYTES", 25)
    remote = blobs.BlobStore("memory:///", cache=tmp_path / "cache")
    names = [remote.put(bytes([i]) * 10) for i in range(4)]
    for i, sha256 in enumerate(names):
        assert remote.local_path(sha256).read_bytes() == bytes([i]) * 10
    copies = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(copies) == 2
    assert remote.local_path(names[-1]).exists()
    remote.delete(names[-1])
    # The copy serves without the store.
    assert remote.local_path(names[-1]).exists()
