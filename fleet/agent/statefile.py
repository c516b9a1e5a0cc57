"""Small files that must survive a crash whole: written beside, synced, renamed."""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")

log = logging.getLogger(__name__)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` with `data`; after a crash it holds the old content or the new, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".tmp")
    with open(beside, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make renames and removals inside a folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_state(path: Path, value: msgspec.Struct) -> None:
    """Replace `path` with `value` as JSON, durably."""
    write_bytes(path, msgspec.json.encode(value))


def read_state(path: Path, kind: type[T]) -> T | None:
    """Return the value in `path`, or None when there is none or it cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, ValueError):
        return None


class StateWriter:
    """Writes small state files in a thread of its own; the newest value of each file wins."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: dict[Path, Callable[[], None]] = {}
        self._writing = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="state", daemon=True)
        self._thread.start()

    def put(self, path: Path, value: msgspec.Struct) -> None:
        """Write `value` to `path` soon; never waits."""
        with self._changed:
            self._due[path] = lambda: write_state(path, value)
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until all is written; False when that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._due and not self._writing, timeout_s)

    def stop(self) -> None:
        """Write what is due and end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(5.0)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due or self._stopping)
                if not self._due:
                    return
                path = next(iter(self._due))
                write, self._writing = self._due.pop(path), True
            try:
                write()
            except OSError as error:
                log.error("state: %s is not kept on disk: %s", path.name, error)
            with self._changed:
                self._writing = False
                self._changed.notify_all()
