"""What the index points to: images, states and actions, read when sampled, decoded once.

Parts are opened lazily through an injected function (memory-mapped by its owner), and what was
decoded stays in one bounded slab. Only the learner's thread may use these classes.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import simplejpeg

from fleet.protocol.episode import Part
from learning.core.decode import BadImage, decode_image
from learning.core.records import PartSpan
from learning.core.types import Observation

OpenPart = Callable[[str], Part]
# Open memory maps; each holds a file descriptor, and the usual limit of a process is 1024.
MAX_OPEN_PARTS = 256
# Of states and actions, least; a chunk may need two parts of an episode at once.
MIN_COLUMN_BYTES = 1024 * 1024
# A key, a value and their place in a dict.
_ENTRY_OVERHEAD_BYTES = 128


class DecodedCache:
    """Decoded samples in one slab of at most `limit_bytes`, evicted by the clock algorithm.

    A clock (one bit of recent use an entry, one hand) keeps what is used as well as an LRU list
    does, and a hit costs one byte written instead of a list operation.
    """

    def __init__(self, dtype: np.dtype, limit_bytes: int) -> None:
        """Hold entries of the structured `dtype`, at least one."""
        slots = max(1, limit_bytes // (dtype.itemsize + _ENTRY_OVERHEAD_BYTES))
        # `empty` and `zeros` reserve addresses only: memory is taken as entries are written.
        self._slab = np.empty(slots, dtype)
        self._used = np.zeros(slots, bool)
        self._row_of = np.empty(slots, np.int64)
        self._slot_of: dict[int, int] = {}
        self._hand = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._slot_of)

    @property
    def nbytes(self) -> int:
        """Bytes of the entries held, with what it takes to find them."""
        return len(self) * (int(self._slab.dtype.itemsize) + _ENTRY_OVERHEAD_BYTES)

    def find(self, rows: Iterable[int]) -> np.ndarray:
        """Return each row's slot, int64, -1 where it is not held; counts hits and misses."""
        slots = np.array([self._slot_of.get(row, -1) for row in rows], np.int64)
        found = slots[slots >= 0]
        self._used[found] = True
        self.hits += len(found)
        self.misses += len(slots) - len(found)
        return slots

    def read(self, slots: np.ndarray) -> np.ndarray:
        """Return copies of the entries at `slots`."""
        entries: np.ndarray = self._slab[slots]
        return entries

    def store(self, row: int, entry: np.void) -> None:
        """Keep `entry` for `row`, in place of the first entry the hand finds unused."""
        if row in self._slot_of:
            return
        if len(self._slot_of) < len(self._slab):
            slot = len(self._slot_of)
        else:
            while self._used[self._hand]:
                self._used[self._hand] = False
                self._hand = (self._hand + 1) % len(self._slab)
            slot = self._hand
            self._hand = (self._hand + 1) % len(self._slab)
            del self._slot_of[int(self._row_of[slot])]
        self._slab[slot] = entry
        self._used[slot] = False
        self._row_of[slot] = row
        self._slot_of[row] = slot


class _Columns(NamedTuple):
    """What is read of every step, copied: it outlives the part's memory map."""

    state: np.ndarray  # float32 (t, s)
    action: np.ndarray  # float32 (t, a)

    @property
    def nbytes(self) -> int:
        return int(self.state.nbytes + self.action.nbytes)


class PayloadReader:
    """Reads one sample's image stack, state and action chunk from the parts of its episode."""

    def __init__(
        self,
        open_part: OpenPart,
        *,
        cameras: Sequence[str],
        image_px: int,
        state_dim: int,
        action_dim: int,
        horizon: int,
        column_bytes: int = MIN_COLUMN_BYTES,
    ) -> None:
        """Read for a policy with these cameras (in its order) and sizes.

        Opening and checking a part takes as long as reading hundreds of its steps: states and
        actions of the parts read last are kept, `column_bytes` of them.
        """
        self._open_part = open_part
        self._column_limit = max(column_bytes, MIN_COLUMN_BYTES)
        self._column_bytes = 0
        self._columns_of: OrderedDict[str, _Columns] = OrderedDict()
        self._cameras = tuple(cameras)
        self._px = image_px
        self._open: OrderedDict[str, Part] = OrderedDict()
        self.dtype = np.dtype(
            [
                ("images", np.uint8, (len(self._cameras), 3, image_px, image_px)),
                ("state", np.float32, (state_dim,)),
                ("action", np.float32, (horizon, action_dim)),
            ]
        )

    def _part(self, sha256: str) -> Part:
        if sha256 in self._open:
            self._open.move_to_end(sha256)
            return self._open[sha256]
        part = self._open[sha256] = self._open_part(sha256)
        if len(self._open) > MAX_OPEN_PARTS:
            self._open.popitem(last=False)
        return part

    def _columns(self, sha256: str) -> _Columns:
        if sha256 in self._columns_of:
            self._columns_of.move_to_end(sha256)
            return self._columns_of[sha256]
        # Without cameras nobody asks for this part again: it is not kept open.
        part = self._part(sha256) if self._cameras else self._open_part(sha256)
        columns = _Columns(part.array("state").copy(), part.array("action").copy())
        self._columns_of[sha256] = columns
        self._column_bytes += columns.nbytes
        while self._column_bytes > self._column_limit:
            self._column_bytes -= self._columns_of.popitem(last=False)[1].nbytes
        return columns

    def read(self, spans: Sequence[PartSpan], step: int, entry: np.void) -> None:
        """Fill `entry` with what was seen at `step` and the actions executed from there.

        Args:
            spans: All parts of the episode, in order.
            step: Index in the episode, of a step with images when the policy has cameras.
            entry: One entry of `dtype`; actions past the episode's end are zero.

        Raises:
            BadImage: No image at this step, or one that cannot be decoded.
            BadEpisode: As `open_part` raises it.
        """
        entry["action"] = 0.0
        horizon = entry["action"].shape[0]
        for span in spans:
            start = max(step, span.first_step)
            end = min(step + horizon, span.first_step + span.steps)
            if start >= end:
                continue
            columns = self._columns(span.sha256)
            row = start - span.first_step
            entry["action"][start - step : end - step] = columns.action[row : row + end - start]
            if start > step:
                continue
            entry["state"] = columns.state[row]
            for position, camera in enumerate(self._cameras):
                jpeg = self._part(span.sha256).image(camera, row)
                if jpeg is None:
                    raise BadImage(f"step {step} of part {span.sha256[:12]} has no {camera} image")
                entry["images"][position] = decode_image(jpeg, self._px)


def observations_of(part: Part, cameras: Sequence[str], steps: Iterable[int]) -> list[Observation]:
    """Return what a robot saw at rows of a part, at the recorded size, as a policy acts on it.

    For the sanity gate and for evaluation off the robot. Raises BadImage when a step has none.
    """
    state = part.array("state")
    observations = []
    for row in steps:
        images = {}
        for camera in cameras:
            jpeg = part.image(camera, row)
            if jpeg is None:
                raise BadImage(f"row {row} has no {camera} image")
            images[camera] = simplejpeg.decode_jpeg(jpeg, "RGB")
        observations.append(Observation(images, state[row].copy(), part.header.instruction))
    return observations
