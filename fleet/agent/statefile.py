"""Small files that must survive a crash whole: written beside, synced, renamed."""

import os
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")


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
