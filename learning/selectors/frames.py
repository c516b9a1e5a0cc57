"""Pictures of a recorded episode, as its robot encoded them: JPEG bytes out of its parts."""

import struct
from typing import Any

import msgspec

from learning.exceptions import NotFound
from learning.models import Episode
from learning.selectors.replay import MAX_STEPS, part_of

# Steps of one pack: half a second to fetch on a slow link, three seconds of replay at 20 Hz.
PACK_STEPS = 64
_LENGTH = struct.Struct("!I")


def frame_at(episode: Episode, camera: str, step: int) -> bytes:
    """Return the JPEG that was newest at `step`: cameras record on some ticks only.

    Raises:
        NotFound: No such camera or step, or no picture up to it.
        BlobMissing, StoreUnavailable, Unprocessable: As `part_of` raises them.
    """
    if not 0 <= step < episode.steps:
        raise NotFound(f"episode {episode.uid} has steps 0 to {episode.steps - 1}, not {step}")
    for row in sorted(episode.parts.all(), key=lambda part: -part.index):
        if row.first_step > step:
            continue
        part = part_of(row.sha256)
        column = _column(part, camera, episode)
        for i in range(min(step - row.first_step, row.steps - 1), -1, -1):
            jpeg: bytes | None = column[i].as_py()
            if jpeg is not None:
                return jpeg
    raise NotFound(f"episode {episode.uid} has no picture of {camera} up to step {step}")


def pack_of(episode: Episode, camera: str, index: int) -> bytes:
    """Return the pictures of `PACK_STEPS` steps in one body: one request instead of many.

    A big-endian uint32 length, JSON `{"steps": [...], "sizes": [...]}`, and the JPEGs one after
    another. Steps without a picture are left out.

    Raises:
        NotFound: No such camera, or the pack lies beyond the episode.
        BlobMissing, StoreUnavailable, Unprocessable: As `part_of` raises them.
    """
    first, end = index * PACK_STEPS, min((index + 1) * PACK_STEPS, episode.steps, MAX_STEPS)
    if not first < end:
        raise NotFound(f"episode {episode.uid} has {episode.steps} steps, no pack {index}")
    steps: list[int] = []
    jpegs: list[bytes] = []
    for row in sorted(episode.parts.all(), key=lambda part: part.index):
        low, high = max(first, row.first_step), min(end, row.first_step + row.steps)
        if low >= high:
            continue
        column = _column(part_of(row.sha256), camera, episode)
        span = column.slice(low - row.first_step, high - low)
        for step, jpeg in zip(range(low, high), span.to_pylist(), strict=True):
            if jpeg is not None:
                steps.append(step)
                jpegs.append(jpeg)
    meta = msgspec.json.encode({"steps": steps, "sizes": [len(jpeg) for jpeg in jpegs]})
    return b"".join([_LENGTH.pack(len(meta)), meta, *jpegs])


def _column(part: Any, camera: str, episode: Episode) -> Any:
    name = f"image.{camera}"
    if name not in part.table.column_names:
        raise NotFound(f"episode {episode.uid} has no camera {camera}")
    return part.table[name]
