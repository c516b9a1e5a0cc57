"""What the index needs to know of a closed episode, and what a learner may say about it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np

from fleet.protocol.episode import EpisodeManifest, Part


class Indicator(IntEnum):
    """RECAP's improvement indicator of a step, as the policy is told it."""

    # Nothing is said: not judged, or dropped.
    NONE = 0
    NEGATIVE = 1
    POSITIVE = 2


class SpanMark(IntEnum):
    """What an operator did at a step, as people marked it afterwards.

    Source:
        RaC (arXiv 2509.07953): a recovery brings the robot back to where the policy can go on, a
        correction shows the right action. Both are imitated.
    """

    # Nobody held the robot.
    NONE = 0
    CORRECTION = 1
    RECOVERY = 2


@dataclass(frozen=True, slots=True)
class ReviewedSpan:
    """One span of operators' control, as people left it: start <= step < end, in steps."""

    start: int
    end: int
    # What is left of it after discarding or trimming; nothing where both are the same.
    kept_start: int
    kept_end: int
    mark: SpanMark = SpanMark.CORRECTION


@dataclass(frozen=True, slots=True)
class PartSpan:
    """Where a run of steps is stored: `steps` of them from `first_step`, in object `sha256`."""

    sha256: str
    first_step: int
    steps: int


class NotTrainable(ValueError):
    """An episode that must never be trained on: incomplete, held out, or of another embodiment."""


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """What the index needs to know of a closed episode; columns have one entry a step."""

    uid: str
    # The server's order of closing; the cursor of buffers.
    closed_seq: int
    task: str
    # The task's instruction and its paraphrases; training draws one at random for each sample.
    instructions: tuple[str, ...]
    # From this deployment; False for demonstrations.
    online: bool
    outcome: str
    judge: str
    purpose: str
    complete: bool
    control_mode: np.ndarray  # uint8 (t,), ControlLabel
    before_takeover: np.ndarray  # bool (t,)
    has_image: np.ndarray  # bool (t,): every camera has an image
    policy_number: np.ndarray  # int32 (t,)
    parts: tuple[PartSpan, ...]
    payload_bytes: int
    # The task's limit: what returns are normalised by.
    timeout_ticks: int = 200
    # int8 (t,), `Indicator`; None where no sidecar gave one.
    indicator: np.ndarray | None = None
    # uint8 (t,), `SpanMark`; None where no span is known.
    mark: np.ndarray | None = None
    # bool (t,): steps of a correction that was discarded, or trimmed off. No learner is given them
    # as targets or samples; who had control there is in `control_mode` as before.
    left_out: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.control_mode)


def with_spans(record: EpisodeRecord, spans: Sequence[ReviewedSpan]) -> EpisodeRecord:
    """Return the record with its marks, and with what people left out of its spans."""
    mark = np.full(len(record), SpanMark.NONE, np.uint8)
    left_out = np.zeros(len(record), bool)
    for span in spans:
        mark[span.start : span.end] = span.mark
        left_out[span.start : span.end] = True
        left_out[span.kept_start : span.kept_end] = False
    return dataclasses.replace(record, mark=mark, left_out=left_out)


def record_from(
    manifest: EpisodeManifest, parts: Sequence[Part], *, closed_seq: int
) -> EpisodeRecord:
    """Return the record of a closed episode; `parts` are all of its parts, in order.

    Raises:
        NotTrainable: The parts are not those the manifest lists.
    """
    stored = [(part.header.episode, part.first_step, part.table.num_rows) for part in parts]
    listed = [(manifest.header.episode, ref.first_step, ref.steps) for ref in manifest.parts]
    if stored != listed or not parts:
        raise NotTrainable(f"episode {manifest.header.episode}: parts differ from its manifest")
    task = manifest.header.task
    has_image = [
        np.logical_and.reduce(
            [
                np.asarray(part.table[f"image.{camera.name}"].is_valid())
                for camera in manifest.header.spec.cameras
            ],
            initial=True,
        )
        * np.ones(part.table.num_rows, bool)
        for part in parts
    ]

    def column(name: str) -> np.ndarray:
        return np.concatenate([part.array(name) for part in parts])

    return EpisodeRecord(
        uid=manifest.header.episode,
        closed_seq=closed_seq,
        task=task.name,
        instructions=tuple(dict.fromkeys((task.instruction, *task.paraphrases))),
        online=manifest.header.purpose != "demonstration",
        outcome=manifest.outcome,
        judge=manifest.judge,
        purpose=manifest.header.purpose,
        complete=manifest.complete,
        control_mode=column("control_mode"),
        before_takeover=column("before_takeover"),
        has_image=np.concatenate(has_image),
        policy_number=column("policy_number"),
        parts=tuple(PartSpan(ref.sha256, ref.first_step, ref.steps) for ref in manifest.parts),
        payload_bytes=sum(ref.size_bytes for ref in manifest.parts),
        timeout_ticks=task.timeout_ticks,
    )


class StepRules(Protocol):
    """The learner's view of an episode."""

    def targets(self, record: EpisodeRecord) -> np.ndarray:
        """Return bool (t,): steps whose executed action may be learned from."""

    def samples(self, record: EpisodeRecord) -> np.ndarray:
        """Return bool (t,): steps at which a training sample may start."""
