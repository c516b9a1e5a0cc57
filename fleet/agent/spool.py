"""Episodes on disk until the server has acknowledged them.

    <spool>/<uid>/header.json      written first
    <spool>/<uid>/part-00000.arrow each synced, then renamed into place
    <spool>/<uid>/manifest.json    written last: with it the episode is closed
    <spool>/rejected/<uid>/        what the server refused for good, with reason.txt

Every file is written beside its place, synced and renamed, so a crash leaves whole files only.
An episode without a manifest is one the agent died in: `recover` closes it as incomplete.
"""

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from fleet.agent import statefile
from fleet.protocol.episode import (
    BadEpisode,
    EpisodeHeader,
    EpisodeManifest,
    PartRef,
    decode_manifest,
    encode_manifest,
    open_part,
    sha256_of,
)

log = logging.getLogger(__name__)

DEFAULT_LIMIT_BYTES = 4 * 1024**3
# No episode begins on a disk with less room than this: it could not be written to its end.
MIN_FREE_BYTES = 200 * 1024**2
_REJECTED = "rejected"
_STATE = "state"


class SpoolFull(OSError):
    """The spool reached its limit: uploads must catch up before anything more is recorded."""


def _part_name(index: int) -> str:
    return f"part-{index:05}.arrow"


class SpooledEpisode:
    """One episode being written; used by the recorder's thread only."""

    def __init__(self, spool: "Spool", header: EpisodeHeader) -> None:
        self._spool = spool
        self.header = header
        self.folder = spool.root / header.episode
        self.parts: list[PartRef] = []
        self.folder.mkdir()
        statefile.write_state(self.folder / "header.json", header)

    def add_part(self, data: bytes, *, first_step: int, steps: int) -> None:
        """Store the next part. Raises OSError when the disk does not take it."""
        index = len(self.parts)
        self._spool.reach(f"part {index}")
        statefile.write_bytes(self.folder / _part_name(index), data)
        self._spool.grew(len(data))
        self.parts.append(
            PartRef(
                index=index,
                sha256=sha256_of(data),
                size_bytes=len(data),
                first_step=first_step,
                steps=steps,
            )
        )

    def close(self, manifest: EpisodeManifest) -> None:
        """Close the episode: from now on it is uploaded."""
        self._spool.reach("manifest")
        statefile.write_bytes(self.folder / "manifest.json", encode_manifest(manifest))
        self._spool.reach("closed")
        self._spool.closed(manifest)

    def discard(self) -> None:
        """Remove what was written of an episode that nobody wants."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._spool.measure()


class Spool:
    """The queue of closed episodes, in the order they ended.

    Args:
        root: Folder of the spool; made when missing.
        limit_bytes: Above this no new episode is begun.
        reach: Called with a name before each step that a crash may interrupt; tests crash there.
    """

    def __init__(
        self,
        root: Path,
        *,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
        reach: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.root = root
        self.state = root / _STATE
        self.limit_bytes = limit_bytes
        self.reach = reach
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._closed: dict[str, EpisodeManifest] = {}
        self._bytes = 0
        self._free_bytes = 0
        root.mkdir(parents=True, exist_ok=True)
        self.state.mkdir(exist_ok=True)
        self._recover()

    # ---- writing ---------------------------------------------------------------------------

    def begin(self, header: EpisodeHeader) -> SpooledEpisode:
        """Start an episode. Raises SpoolFull at the limit, OSError when the disk fails."""
        if self.full:
            raise SpoolFull(self.full_reason)
        self.reach("begin")
        return SpooledEpisode(self, header)

    @property
    def full(self) -> bool:
        """Whether the limit is reached, or the disk nearly full; asks no disk."""
        return self._bytes >= self.limit_bytes or self._free_bytes < MIN_FREE_BYTES

    def look_at_disk(self) -> None:
        """Look how much room the disk has."""
        self._free_bytes = shutil.disk_usage(self.root).free

    @property
    def full_reason(self) -> str:
        """What to tell a person about a full spool."""
        if self._free_bytes < MIN_FREE_BYTES:
            return (
                f"the disk of {self.root} has {self._free_bytes / 1e6:.0f} MB left, and the robot "
                f"keeps {MIN_FREE_BYTES / 1e6:.0f} MB free: make room, or move the spool"
            )
        return (
            f"the spool holds {self._bytes / 1e6:.0f} MB, its limit is "
            f"{self.limit_bytes / 1e6:.0f} MB: uploads must catch up, or raise spool_limit_bytes"
        )

    def grew(self, size_bytes: int) -> None:
        """Count bytes written."""
        with self._lock:
            self._bytes += size_bytes

    def closed(self, manifest: EpisodeManifest) -> None:
        """Queue a closed episode for upload."""
        with self._changed:
            self._closed[manifest.header.episode] = manifest
            self._changed.notify_all()

    # ---- reading ---------------------------------------------------------------------------

    def head(self) -> EpisodeManifest | None:
        """Return the episode to upload next, or None."""
        with self._lock:
            return next(iter(self._closed.values()), None)

    def wait(self, timeout_s: float) -> bool:
        """Wait until an episode is there to upload; say whether one is."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._closed), timeout_s)

    def wake(self) -> None:
        """Make `wait` look again."""
        with self._changed:
            self._changed.notify_all()

    def postpone(self, uid: str) -> None:
        """Let the other episodes go before this one."""
        with self._changed:
            manifest = self._closed.pop(uid, None)
            if manifest is not None:
                self._closed[uid] = manifest

    def part(self, uid: str, index: int) -> bytes:
        """Return the bytes of one part."""
        return (self.root / uid / _part_name(index)).read_bytes()

    @property
    def depth(self) -> tuple[int, int]:
        """Closed episodes not yet acknowledged, and bytes in the spool."""
        with self._lock:
            return len(self._closed), self._bytes

    # ---- removal ---------------------------------------------------------------------------

    def delete(self, uid: str) -> None:
        """Remove an acknowledged episode."""
        # The manifest goes last: what is half removed must not be taken for a crashed episode.
        folder = self.root / uid
        gone = self.root / f"{uid}.acknowledged"
        os.rename(folder, gone)
        shutil.rmtree(gone, ignore_errors=True)
        self._forget(uid)

    def reject(self, uid: str, reason: str) -> None:
        """Set an episode aside that the server will never take, with the reason beside it."""
        target = self.root / _REJECTED / uid
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        statefile.write_bytes(self.root / uid / "reason.txt", reason.encode())
        os.rename(self.root / uid, target)
        statefile.sync_folder(target.parent)
        self._forget(uid)

    def _forget(self, uid: str) -> None:
        with self._changed:
            self._closed.pop(uid, None)
            self._changed.notify_all()
        self.measure()

    def measure(self) -> None:
        """Count the spool's bytes anew; rejected episodes count, for they fill the disk too."""
        size = 0
        for folder, _, names in os.walk(self.root):
            for name in names:
                try:
                    size += os.stat(os.path.join(folder, name)).st_size
                except FileNotFoundError:
                    continue
        with self._lock:
            self._bytes = size
        self.look_at_disk()

    # ---- after a crash ---------------------------------------------------------------------

    def _recover(self) -> None:
        manifests = []
        for folder in self.root.iterdir():
            if folder.name in (_REJECTED, _STATE) or not folder.is_dir():
                continue
            if folder.suffix == ".acknowledged":
                shutil.rmtree(folder, ignore_errors=True)
                continue
            manifest = _read_manifest(folder) or _close_crashed(folder)
            if manifest is None:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                manifests.append(manifest)
        for manifest in sorted(manifests, key=lambda manifest: manifest.ended_wall_ns):
            self._closed[manifest.header.episode] = manifest
        self.measure()


def _read_manifest(folder: Path) -> EpisodeManifest | None:
    try:
        return decode_manifest((folder / "manifest.json").read_bytes())
    except (OSError, BadEpisode):
        return None


def _close_crashed(folder: Path) -> EpisodeManifest | None:
    """Close an episode the agent died in as aborted and incomplete; None when no part is whole."""
    parts: list[PartRef] = []
    header: EpisodeHeader | None = None
    step = 0
    last_wall_ns = 0
    while True:
        path = folder / _part_name(len(parts))
        try:
            data = path.read_bytes()
            part = open_part(data)
        except (OSError, BadEpisode):
            break
        if part.index != len(parts) or part.first_step != step:
            break
        header = part.header
        rows = part.table.num_rows
        parts.append(
            PartRef(
                index=part.index,
                sha256=sha256_of(data),
                size_bytes=len(data),
                first_step=step,
                steps=rows,
            )
        )
        step += rows
        last_wall_ns = int(part.array("t_wall_ns")[-1])
    if header is None or header.episode != folder.name:
        log.info("spool: episode %s had no whole part and is dropped", folder.name)
        return None
    manifest = EpisodeManifest(
        header=header,
        ended_wall_ns=last_wall_ns or time.time_ns(),
        steps=step,
        outcome="abort",
        judge="robot",
        parts=tuple(parts),
        complete=False,
        control_period_s=1.0 / header.spec.control_hz,
    )
    statefile.write_bytes(folder / "manifest.json", encode_manifest(manifest))
    log.info("spool: episode %s recovered after a crash, %d steps", folder.name, step)
    return manifest


def describe(manifest: EpisodeManifest) -> str:
    """Return a manifest in a few words, for the log."""
    return (
        f"{manifest.header.episode} {manifest.header.task.name} {manifest.outcome} "
        f"{manifest.steps} steps {len(manifest.parts)} parts"
    )
