"""The replay buffer: an index of frames in memory, their payload read when a frame is sampled.

The index is numpy columns of 4 bytes a step, 4 more for a step that is a sample, and some 300
bytes an episode: far below 1 % of the payload (SOP, arXiv 2601.03044: frame metadata in memory,
payload read lazily). Which steps are samples and which actions are targets is the learner's
decision (`StepRules`), taken when an episode is added, and again when people discard, trim or mark
what an operator did in it; what they left out is neither, whatever the learner says. A quantity
derived from an episode (RECAP's indicator) is one more column, and may be replaced. Episodes are
added in the order of their `closed_seq`: the same episodes in the same order give the same draws.
Not thread-safe.
"""

import logging
from dataclasses import dataclass

import numpy as np
import torch

from learning.core.decode import BadImage
from learning.core.payload import DecodedCache, OpenPart, PayloadReader
from learning.core.policies.base import PolicyConfig
from learning.core.records import EpisodeRecord, NotTrainable, PartSpan, StepRules
from learning.core.text import MAX_WORDS, tokenize
from learning.core.types import Batch, Indicator

log = logging.getLogger(__name__)

DECODED_BYTES = 512 * 1024 * 1024
# Of states and actions beside the decoded samples: at some 100 bytes a step far less is needed.
COLUMN_SHARE = 1 / 8


class _Column:
    """A numpy column that grows by a quarter when full: amortised, with little in reserve."""

    def __init__(self, dtype: str, width: tuple[int, ...] = ()) -> None:
        self._data = np.empty((64, *width), dtype)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def extend(self, values: np.ndarray) -> None:
        size = self._size + len(values)
        if size > len(self._data):
            grown = np.empty(
                (max(size, len(self._data) * 5 // 4), *self._data.shape[1:]), self._data.dtype
            )
            grown[: self._size] = self._data[: self._size]
            self._data = grown
        self._data[self._size : size] = values
        self._size = size

    def replace(self, start: int, stop: int, values: np.ndarray) -> None:
        """Put `values`, of any number, where entries `start` to `stop` were."""
        after = self._data[stop : self._size].copy()
        self._size = start
        self.extend(values)
        self.extend(after)

    @property
    def values(self) -> np.ndarray:
        return self._data[: self._size]

    @property
    def nbytes(self) -> int:
        return int(self._data.nbytes)


def _indicator_of(record: EpisodeRecord) -> np.ndarray:
    if record.indicator is None:
        return np.full(len(record), Indicator.NONE, np.int8)
    return record.indicator


def _mark_of(record: EpisodeRecord) -> np.ndarray:
    return np.zeros(len(record), np.uint8) if record.mark is None else record.mark


@dataclass(frozen=True, slots=True)
class BufferStats:
    """Sizes of a buffer; `samples` counts by (task, online)."""

    episodes: int
    frames: int
    samples: dict[tuple[str, bool], int]
    index_bytes: int
    payload_bytes: int
    cached_bytes: int
    cache_hits: int
    cache_misses: int
    # Draws whose image could not be decoded.
    unreadable: int


class ReplayBuffer:
    """Frames of many episodes, drawn from by (task, online)."""

    def __init__(
        self,
        config: PolicyConfig,
        rules: StepRules,
        open_part: OpenPart,
        *,
        cache_bytes: int = DECODED_BYTES,
    ) -> None:
        """Index episodes for a policy of `config`.

        Args:
            config: Cameras, sizes and horizon of the policy that trains on the batches.
            rules: Which steps are samples and targets; a `Learner` is one.
            open_part: Returns the part of a sha256, memory-mapped.
            cache_bytes: Limit of the decoded cache; an eighth more holds states and actions.
        """
        self._config = config
        self._rules = rules
        self._payload = PayloadReader(
            open_part,
            cameras=config.cameras,
            image_px=config.image_px,
            state_dim=config.state_dim,
            action_dim=config.action_dim,
            horizon=config.horizon,
            column_bytes=int(cache_bytes * COLUMN_SHARE),
        )
        self._cache = DecodedCache(self._payload.dtype, cache_bytes)
        self.tasks: list[str] = []
        # The highest closed_seq added: where the database is read from next.
        self.cursor = 0
        self._payload_bytes = 0
        self._unreadable = 0
        # One entry a step.
        self._target = _Column("bool")
        self._indicator = _Column("int8")
        self._label = _Column("uint8")
        self._mark = _Column("uint8")
        # Rows at which samples start, by task and then by online.
        self._strata: list[tuple[_Column, _Column]] = []
        # One entry an episode; its rows are consecutive, and so are its parts.
        self._uid: list[str] = []
        self._episode_of: dict[str, int] = {}
        self._first_row = _Column("int64")
        self._end_row = _Column("int64")
        self._task = _Column("int16")
        self._online = _Column("bool")
        self._wording = _Column("int32")
        self._first_part = _Column("int32")
        # One entry a part.
        self._sha256 = _Column("S32")
        self._part_step = _Column("int32")
        # One entry a set of wordings: its tokens are `_tokens[first : first + count]`.
        self._wordings: dict[tuple[str, ...], int] = {}
        self._first_token = _Column("int32")
        self._token_count = _Column("int32")
        self._tokens = _Column("int64", (MAX_WORDS,))

    def add(self, record: EpisodeRecord) -> bool:
        """Index an episode; False, and nothing changes, when it is known already.

        Raises:
            NotTrainable: Incomplete, held out for evaluation, or without steps.
        """
        if record.uid in self._episode_of:
            return False
        if record.purpose == "eval" or not record.complete or not len(record):
            raise NotTrainable(
                f"episode {record.uid}: {record.purpose}, complete={record.complete}"
            )
        steps, first, episode = len(record), len(self._target), len(self._uid)
        targets, starts = self._chosen(record)
        task = self._task_index(record.task)
        wording = self._wording_index(record.instructions)
        self._target.extend(targets)
        self._indicator.extend(_indicator_of(record))
        self._label.extend(record.control_mode)
        self._mark.extend(_mark_of(record))
        self._strata[task][record.online].extend(first + np.flatnonzero(starts))
        self._first_row.extend(np.array([first]))
        self._end_row.extend(np.array([first + steps]))
        self._task.extend(np.array([task]))
        self._online.extend(np.array([record.online]))
        self._wording.extend(np.array([wording]))
        self._first_part.extend(np.array([len(self._sha256)]))
        self._sha256.extend(np.array([bytes.fromhex(span.sha256) for span in record.parts], "S32"))
        self._part_step.extend(np.array([span.first_step for span in record.parts]))
        self._uid.append(record.uid)
        self._episode_of[record.uid] = episode
        self._payload_bytes += record.payload_bytes
        self.cursor = max(self.cursor, record.closed_seq)
        return True

    def _chosen(self, record: EpisodeRecord) -> tuple[np.ndarray, np.ndarray]:
        """Return which steps are targets, and at which a sample starts."""
        targets = self._rules.targets(record)
        if record.left_out is not None:
            targets = targets & ~record.left_out
        starts = self._rules.samples(record) & targets
        if self._config.cameras:
            starts = starts & record.has_image
        return targets, starts

    def revise(self, record: EpisodeRecord) -> None:
        """Choose the steps of an episode that is here anew, after people reviewed its spans.

        Afterwards the buffer holds what it would had the episode been added like this; no other
        episode changes. O(samples of its task).

        Raises:
            KeyError: The episode is not here.
            ValueError: It has another number of steps.
        """
        episode = self._episode_of[record.uid]
        first, end = int(self._first_row.values[episode]), int(self._end_row.values[episode])
        if len(record) != end - first:
            raise ValueError(f"{len(record)} steps of {record.uid}, which has {end - first}")
        targets, starts = self._chosen(record)
        self._target.values[first:end] = targets
        self._indicator.values[first:end] = _indicator_of(record)
        self._mark.values[first:end] = _mark_of(record)
        samples = self._strata[self._task.values[episode]][bool(self._online.values[episode])]
        # Rows only grow, and so do the samples in a stratum.
        start, stop = np.searchsorted(samples.values, [first, end])
        samples.replace(int(start), int(stop), first + np.flatnonzero(starts))

    def relabel(self, uid: str, indicator: np.ndarray) -> None:
        """Replace the indicator of every step of an episode, int8 (t,).

        Raises:
            KeyError: The episode is not here.
            ValueError: It has another number of steps.
        """
        episode = self._episode_of[uid]
        first, end = self._first_row.values[episode], self._end_row.values[episode]
        if indicator.shape != (end - first,):
            raise ValueError(f"{indicator.shape} indicators of {end - first} steps of {uid}")
        self._indicator.values[first:end] = indicator

    def _task_index(self, task: str) -> int:
        if task not in self.tasks:
            self.tasks.append(task)
            self._strata.append((_Column("int32"), _Column("int32")))
        return self.tasks.index(task)

    def _wording_index(self, instructions: tuple[str, ...]) -> int:
        if instructions not in self._wordings:
            tokens = np.stack(
                [tokenize(words, buckets=self._config.text_buckets) for words in instructions]
            )  # (n, l)
            self._wordings[instructions] = len(self._first_token)
            self._first_token.extend(np.array([len(self._tokens)]))
            self._token_count.extend(np.array([len(tokens)]))
            self._tokens.extend(tokens)
        return self._wordings[instructions]

    def __len__(self) -> int:
        """Count the samples."""
        return sum(len(column) for pair in self._strata for column in pair)

    def __contains__(self, uid: str) -> bool:
        return uid in self._episode_of

    def size(self, task: int, *, online: bool) -> int:
        """Return how many samples a stratum holds."""
        return len(self._strata[task][online])

    def draw(
        self, task: np.ndarray, online: np.ndarray, generator: np.random.Generator
    ) -> np.ndarray:
        """Return one uniformly drawn sample row, int64 (b,), of each (task, online) pair.

        Every stratum asked for must hold a sample; each draw costs O(1).
        """
        share = generator.random(len(task))
        rows = np.empty(len(task), np.int64)
        for position, (t, on) in enumerate(zip(task.tolist(), online.tolist(), strict=True)):
            stratum = self._strata[t][on].values
            rows[position] = stratum[int(share[position] * len(stratum))]
        return rows

    def episodes_of(self, rows: np.ndarray) -> np.ndarray:
        """Return each row's episode, int64, counted from 0 in the order they were added."""
        # An episode's rows are consecutive: none of them needs to say which one it belongs to.
        episodes: np.ndarray = np.searchsorted(self._end_row.values, rows, side="right")
        return episodes

    def episode(self, uid: str) -> int | None:
        """Return the position of an episode in the order of adding, None when it is not here."""
        return self._episode_of.get(uid)

    def uid(self, episode: int) -> str:
        """Return the uid of the `episode`-th episode added."""
        return self._uid[episode]

    def _spans(self, episode: int) -> list[PartSpan]:
        first = int(self._first_part.values[episode])
        last = episode + 1 == len(self._uid)
        end = len(self._sha256) if last else int(self._first_part.values[episode + 1])
        steps = int(self._end_row.values[episode] - self._first_row.values[episode])
        starts = [*self._part_step.values[first:end].tolist(), steps]
        return [
            # Numpy strips trailing zero bytes of an S32; a hash may end in them.
            PartSpan(
                bytes(self._sha256.values[part]).ljust(32, b"\0").hex(),
                starts[i],
                starts[i + 1] - starts[i],
            )
            for i, part in enumerate(range(first, end))
        ]

    def gather(self, rows: np.ndarray, generator: np.random.Generator) -> Batch:
        """Return the samples that start at `rows`, each with a wording drawn at random.

        A chunk's mask ends before the first step that is not a target and at the episode's end;
        actions outside it are zero. A sample whose image cannot be decoded gets an empty mask, so
        that one bad upload does not stop learning; `stats` counts them.

        Raises:
            BadEpisode: As `open_part` raises it.
        """
        episode = self.episodes_of(rows)
        entries, readable = self._entries(rows, episode)
        ahead = rows[:, None] + np.arange(self._config.horizon)  # (b, h)
        inside = ahead < self._end_row.values[episode][:, None]
        target = self._target.values[np.minimum(ahead, len(self._target) - 1)]
        mask = np.logical_and.accumulate(inside & target, axis=1) & readable[:, None]
        wording = self._wording.values[episode]
        pick = (generator.random(len(rows)) * self._token_count.values[wording]).astype(np.int64)
        tokens = self._tokens.values[self._first_token.values[wording] + pick]  # (b, l)
        return Batch(
            images=torch.from_numpy(entries["images"]),
            state=torch.from_numpy(entries["state"].copy()),
            tokens=torch.from_numpy(tokens),
            action=torch.from_numpy(entries["action"] * mask[:, :, None]),
            mask=torch.from_numpy(mask),
            task=torch.from_numpy(self._task.values[episode].astype(np.int64)),
            online=torch.from_numpy(self._online.values[episode]),
            row=torch.from_numpy(rows.astype(np.int64)),
            indicator=torch.from_numpy(self._indicator.values[rows].astype(np.int64)),
            label=torch.from_numpy(self._label.values[rows].astype(np.int64)),
            mark=torch.from_numpy(self._mark.values[rows].astype(np.int64)),
        )

    def _entries(self, rows: np.ndarray, episodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the entry of each row, and whether it could be read."""
        slots = self._cache.find(rows.tolist())
        # Hits are copied before misses are stored, which may evict them.
        entries = self._cache.read(np.maximum(slots, 0))
        readable = np.ones(len(rows), bool)
        for position in np.flatnonzero(slots < 0).tolist():
            row, episode = int(rows[position]), int(episodes[position])
            step = row - int(self._first_row.values[episode])
            try:
                self._payload.read(self._spans(episode), step, entries[position])
            except BadImage as error:
                readable[position] = False
                self._unreadable += 1
                entries[position] = np.zeros((), entries.dtype)
                log.warning("%s: %s", self._uid[episode], error)
            else:
                self._cache.store(row, entries[position])
        return entries, readable

    def stats(self) -> BufferStats:
        """Return the buffer's sizes and how well its cache does."""
        columns = [value for value in vars(self).values() if isinstance(value, _Column)]
        columns += [column for pair in self._strata for column in pair]
        # A uid is some 85 bytes as a string, and about 100 more as a key.
        index_bytes = sum(column.nbytes for column in columns) + 200 * len(self._uid)
        return BufferStats(
            episodes=len(self._uid),
            frames=len(self._target),
            samples={
                (task, online): len(self._strata[index][online])
                for index, task in enumerate(self.tasks)
                for online in (False, True)
            },
            index_bytes=index_bytes,
            payload_bytes=self._payload_bytes,
            cached_bytes=self._cache.nbytes,
            cache_hits=self._cache.hits,
            cache_misses=self._cache.misses,
            unreadable=self._unreadable,
        )
