"""The object store: immutable objects, addressed by the sha256 of their content.

A URL chooses the store (`SOP_STORE_URL`): a local folder by default, or S3, GCS or Azure through
obstore. Every object is written whole or not at all, and writing it again changes nothing. When
the store fails repeatedly a breaker opens, so that an outage costs callers milliseconds instead
of a timeout each.
"""

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

import obstore
from django.conf import settings
from obstore.store import LocalStore, from_url

from learning.exceptions import BlobMissing, HashMismatch, StoreUnavailable

# Consecutive failures that open the breaker, and how long it stays open.
BREAKER_FAILURES = 3
BREAKER_OPEN_S = 10.0
# Local copies of remote objects, kept for memory mapping; least recently used go first.
CACHE_BYTES = 8 * 1024**3
_PREFIX = "sha256"


@dataclass(frozen=True, slots=True)
class Blob:
    """One stored object."""

    sha256: str
    size_bytes: int
    modified_at: datetime


class Breaker:
    """Refuses calls for a while after several failed in a row. Safe between threads."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the clock that `open_s` is measured on."""
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._open_until = 0.0

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Run one call to the store. Raises StoreUnavailable: it failed, or the breaker is open."""
        if self._clock() < self._open_until:
            raise StoreUnavailable("the object store failed a moment ago; not trying again yet")
        try:
            yield
        except FileNotFoundError:
            self._note(failed=False)
            raise
        except (obstore.exceptions.BaseError, OSError) as error:
            self._note(failed=True)
            raise StoreUnavailable(f"the object store failed: {type(error).__name__}") from error
        self._note(failed=False)

    def _note(self, *, failed: bool) -> None:
        with self._lock:
            self._failures = self._failures + 1 if failed else 0
            if self._failures >= BREAKER_FAILURES:
                self._open_until = self._clock() + BREAKER_OPEN_S
                # The first call after the pause is a probe: one more failure opens it again.
                self._failures = BREAKER_FAILURES - 1


class BlobStore:
    """Objects by sha256, in one obstore store."""

    def __init__(self, url: str, *, cache: Path, breaker: Breaker | None = None) -> None:
        """Open the store at `url`, a URL or a folder. `cache` holds copies of remote objects."""
        if "://" not in url:
            url = Path(url).resolve().as_uri()
        self._store = from_url(url, mkdir=True) if url.startswith("file:") else from_url(url)
        local = isinstance(self._store, LocalStore)
        self._root = Path(self._store.prefix or "/") if local else None
        self._cache = cache
        self._breaker = breaker or Breaker()

    def put(self, data: bytes, *, sha256: str | None = None) -> str:
        """Store `data` and return its sha256. Afterwards it survives a crash of this machine.

        Raises:
            HashMismatch: `sha256` was given and is not that of `data`.
            StoreUnavailable: The object may or may not be there; putting it again is safe.
        """
        actual = hashlib.sha256(data).hexdigest()
        if sha256 is not None and sha256 != actual:
            raise HashMismatch(f"content is {actual}, announced as {sha256}")
        with self._breaker.guard():
            # Written even when it is there: the fresh date keeps the sweep of orphans away from
            # an object whose row is about to be written.
            obstore.put(self._store, _key(actual), data)
            if self._root is not None:
                # A robot deletes its copy once we acknowledge: the bytes must be on the disk.
                _flush(self._root / _key(actual))
        return actual

    def get(self, sha256: str) -> bytes:
        """Return a whole object, checked against its hash.

        Raises:
            BlobMissing: No such object.
            HashMismatch: The store's copy is damaged.
            StoreUnavailable: The store does not answer.
        """
        with self._missing(sha256), self._breaker.guard():
            data = bytes(obstore.get(self._store, _key(sha256)).bytes())
        if hashlib.sha256(data).hexdigest() != sha256:
            raise HashMismatch(f"the stored object {sha256} is damaged")
        return data

    def get_range(self, sha256: str, start: int, end: int) -> bytes:
        """Return bytes start <= i < end of an object. Raises BlobMissing and StoreUnavailable."""
        with self._missing(sha256), self._breaker.guard():
            return bytes(obstore.get_range(self._store, _key(sha256), start=start, end=end))

    def size(self, sha256: str) -> int | None:
        """Return an object's size, or None when there is none. Raises StoreUnavailable."""
        with self._breaker.guard():
            return self._size(sha256)

    def local_path(self, sha256: str) -> Path:
        """Return a file with the object's content, for memory mapping.

        A local store's own file, else a copy in the bounded cache. On POSIX a mapped copy stays
        readable after the cache drops it.

        Raises:
            BlobMissing: No such object.
            StoreUnavailable: The store does not answer.
        """
        if self._root is not None:
            path = self._root / _key(sha256)
            if not path.exists():
                raise BlobMissing(f"no object {sha256}")
            return path
        path = self._cache / _key(sha256)
        if path.exists():
            os.utime(path)
            return path
        data = self.get(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        partial.write_bytes(data)
        partial.replace(path)
        self._trim_cache()
        return path

    def delete(self, sha256: str) -> None:
        """Remove an object; none being there is fine. Raises StoreUnavailable."""
        with contextlib.suppress(FileNotFoundError), self._breaker.guard():
            obstore.delete(self._store, _key(sha256))

    def presign(self, sha256: str, *, expires_s: float = 600.0) -> str | None:
        """Return a URL that needs no credentials, or None where the store cannot make one."""
        if self._root is not None:
            return None
        try:
            with self._breaker.guard():
                return obstore.sign(self._store, "GET", _key(sha256), timedelta(seconds=expires_s))
        except (ValueError, StoreUnavailable):
            # Stores without signing, and credentials that cannot sign: we serve the bytes.
            return None

    def iter_blobs(self) -> Iterator[Blob]:
        """Yield every object of the store, in no order. Raises StoreUnavailable."""
        with self._breaker.guard():
            for page in obstore.list(self._store, prefix=_PREFIX):
                for item in page:
                    name = item["path"].rsplit("/", 1)[-1]
                    if len(name) == 64:
                        yield Blob(name, item["size"], item["last_modified"])

    def _size(self, sha256: str) -> int | None:
        try:
            return int(obstore.head(self._store, _key(sha256))["size"])
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def _missing(self, sha256: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise BlobMissing(f"no object {sha256}") from None

    def _trim_cache(self) -> None:
        found: list[tuple[float, int, Path]] = []
        for path in self._cache.rglob("*"):
            # Another process may trim at the same time.
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    stat = path.stat()
                    found.append((stat.st_mtime, stat.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found)[:-1]:
            if total <= CACHE_BYTES:
                break
            path.unlink(missing_ok=True)
            total -= size


def _key(sha256: str) -> str:
    return f"{_PREFIX}/{sha256[:2]}/{sha256}"


def _flush(path: Path) -> None:
    for target in (path, path.parent, path.parent.parent):
        handle = os.open(target, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@lru_cache(maxsize=8)
def _open(url: str, cache: str) -> BlobStore:
    return BlobStore(url, cache=Path(cache))


def store() -> BlobStore:
    """Return the store of the settings; one instance a process, so that its breaker remembers."""
    return _open(settings.SOP_STORE_URL, str(settings.SOP_VAR / "cache"))
