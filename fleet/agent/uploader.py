"""Takes closed episodes from the spool to the server, in order, until each is acknowledged.

The server's cursor (`GET /api/episodes/{uid}`) says which parts it has, so an upload that was cut
goes on where it was. Nothing is deleted before the answer to `close`. What the server will never
take is set aside with its reason, so that one bad episode cannot hold up the rest.
"""

import logging
import random
import threading
from typing import Annotated, Literal

import httpx
import msgspec
from msgspec import Meta

from fleet.agent.spool import Spool
from fleet.protocol.episode import MAX_PARTS, EpisodeManifest, encode_manifest, sha256_of

log = logging.getLogger(__name__)

# Answers that the same request will get again for ever.
NEVER = frozenset({400, 413, 422})
# Of answer 409: what is stored contradicts the episode. Missing parts are sent again instead.
NEVER_CODES = frozenset({"conflict", "episode_closed"})
# Refusals of one episode in a row before the others go first: it may be that only it is refused.
PATIENCE = 8
FIRST_BACKOFF_S = 0.2
MAX_BACKOFF_S = 30.0
TIMEOUT = httpx.Timeout(30.0, connect=5.0)


class Cursor(msgspec.Struct, frozen=True):
    """What the server has of an episode."""

    state: Literal["unknown", "open", "closed"]
    parts: tuple[Annotated[int, Meta(ge=0, lt=MAX_PARTS)], ...] = ()


class NeverAccepted(Exception):
    """The server refuses the episode for good."""


class TryAgain(Exception):
    """The server or the way to it failed; the same request may succeed later."""


class Refused(TryAgain):
    """The server answered, and not with what was asked for."""


class _ErrorBody(msgspec.Struct, frozen=True):
    code: str = ""


def _code(response: httpx.Response) -> str:
    try:
        return msgspec.json.decode(response.content, type=_ErrorBody).code
    except msgspec.DecodeError:
        return ""


def backoff_s(failures: int, rng: random.Random) -> float:
    """Return how long to wait after `failures` failures in a row: exponential, with full jitter."""
    ceiling = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(failures - 1, 20))
    return ceiling * rng.uniform(0.5, 1.0)


class Uploader:
    """The thread that empties the spool.

    Args:
        spool: Where episodes wait.
        server: Base URL, without a trailing slash.
        token: The robot's bearer token.
    """

    def __init__(
        self, spool: Spool, *, server: str, token: str, rng: random.Random | None = None
    ) -> None:
        self._spool = spool
        self._client = httpx.Client(
            base_url=server, headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT
        )
        self._rng = rng or random.Random()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="uploader", daemon=True)
        # The last thing that went wrong, for the heartbeat; empty while uploads work.
        self.error = ""
        self.rejected = 0
        self._refusals = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the thread; what is not uploaded stays in the spool."""
        self._stopping.set()
        self._spool.wake()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._client.close()

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            if not self._spool.wait(1.0):
                self._spool.look_at_disk()
                continue
            try:
                self.upload_next()
                failures = 0
            except TryAgain as error:
                failures += 1
                if failures == 1:
                    log.warning("upload: %s; retrying", error)
                self.error = str(error)[:500]
                self._stopping.wait(backoff_s(failures, self._rng))
            except Exception as error:
                failures += 1
                self.error = f"upload failed: {error}"[:500]
                log.exception("upload: unexpected failure; retrying")
                self._stopping.wait(backoff_s(failures, self._rng))

    def upload_next(self) -> bool:
        """Upload the oldest episode; False when there is none.

        Raises:
            TryAgain: Nothing is lost; call again later.
        """
        manifest = self._spool.head()
        if manifest is None:
            return False
        uid = manifest.header.episode
        try:
            self._upload(manifest)
        except Refused:
            self._refusals += 1
            if self._refusals >= PATIENCE:
                self._refusals = 0
                self._spool.postpone(uid)
            raise
        except NeverAccepted as refusal:
            self._spool.reject(uid, str(refusal))
            self.rejected += 1
            self.error = f"episode {uid} was rejected: {refusal}"[:500]
            # An episode that no server takes is lost to learning: a person must look at it.
            log.error("upload: episode %s was rejected and set aside: %s", uid, refusal)
            return True
        self._spool.delete(uid)
        self._refusals = 0
        self.error = f"{self.rejected} episodes were rejected" if self.rejected else ""
        return True

    def _upload(self, manifest: EpisodeManifest) -> None:
        uid = manifest.header.episode
        cursor = self._cursor(uid)
        if cursor.state == "closed":
            return
        for part in manifest.parts:
            if part.index in cursor.parts:
                continue
            self._spool.reach(f"upload part {part.index}")
            data = self._spool.part(uid, part.index)
            if sha256_of(data) != part.sha256:
                raise NeverAccepted(f"part {part.index} is damaged on this disk")
            self._request(
                "PUT",
                f"/api/episodes/{uid}/parts/{part.index}",
                content=data,
                headers={
                    "X-Content-SHA256": part.sha256,
                    "Content-Type": "application/vnd.apache.arrow.file",
                },
            )
        self._spool.reach("upload close")
        self._request(
            "POST",
            f"/api/episodes/{uid}/close",
            content=encode_manifest(manifest),
            headers={"Content-Type": "application/json"},
        )
        self._spool.reach("acknowledged")

    def _cursor(self, uid: str) -> Cursor:
        try:
            return msgspec.json.decode(
                self._request("GET", f"/api/episodes/{uid}").content, type=Cursor
            )
        except msgspec.DecodeError as error:
            raise TryAgain(f"the server's cursor is no cursor: {error}") from None

    def _request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        try:
            response = self._client.request(method, path, content=content, headers=headers)
        except (httpx.HTTPError, OSError) as error:
            raise TryAgain(f"{type(error).__name__}: {error}") from None
        if response.is_success:
            return response
        said = f"{method} {path}: {response.status_code} {response.text[:200]}"
        code = _code(response)
        # Its bytes were whole when they left: damaged on the way, so they are sent again.
        never = response.status_code in NEVER and code != "hash_mismatch"
        if never or (response.status_code == 409 and code in NEVER_CODES):
            raise NeverAccepted(said)
        raise Refused(said)
