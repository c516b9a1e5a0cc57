"""What a person sees of a recorded episode: its steps as series, who had control, what it is worth.

Read from the stored parts and the newest sidecar; the web process loads no torch for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any
from uuid import UUID

import numpy as np
from django.conf import settings

from fleet.protocol.control import ControlLabel
from fleet.protocol.episode import BadEpisode, Part, open_part
from learning import blobs
from learning.exceptions import LearningError, NotFound, Unprocessable
from learning.models import Episode, Sidecar, ValueVersion

# Steps of an episode that a replay shows; the rest is said to be cut off. 1000 s at 20 Hz.
MAX_STEPS = 20_000
# A drop of value is the difference of the means of this many steps before and after.
DROP_WINDOW = 10
# In units of returns, where a failure costs 0.5: less is noise and no suggestion.
MIN_DROP = 0.05
# Parts are immutable and mapped, not copied: keeping them open costs addresses, not memory.
_OPEN_PARTS = 64
_CONTROL = {
    ControlLabel.POLICY: "policy",
    ControlLabel.HUMAN: "human",
    ControlLabel.TRANSITION: "handover",
    ControlLabel.NONE: "nobody",
}


@dataclass(frozen=True, slots=True)
class Derived:
    """What a sidecar says; advantages and indicators only where they fit the outcome in force.

    Or what the robot computed at the time: values alone, NaN where it had none.
    """

    columns: dict[str, np.ndarray]
    value_number: int
    threshold_number: int | None
    epsilon: float | None
    correlation: float | None
    # Whether the robot computed it at the time, and nobody since.
    recorded: bool = False


@lru_cache(maxsize=_OPEN_PARTS)
def _open(store_url: str, sha256: str) -> Part:
    # By store, so that two stores in one process (tests) do not share what they have.
    return open_part(str(blobs.store().local_path(sha256)))


def part_of(sha256: str) -> Part:
    """Return a stored part, memory-mapped.

    Raises:
        BlobMissing, StoreUnavailable: As the store raises them.
        Unprocessable: The stored object is damaged.
    """
    try:
        return _open(settings.SOP_STORE_URL, sha256)
    except BadEpisode as error:
        raise Unprocessable(f"the stored part {sha256[:12]} cannot be read: {error}") from None


def closed_episode(uid: UUID) -> Episode:
    """Return a closed episode with its parts and the outcome in force. Raises NotFound."""
    episode = (
        Episode.objects.select_related("robot", "task")
        .prefetch_related("parts", "interventions")
        .filter(uid=uid, state=Episode.State.CLOSED)
        .first()
    )
    if episode is None:
        raise NotFound(f"there is no finished episode {uid}; it may still be uploading")
    return episode


def replay_of(episode: Episode, *, blind: bool = False) -> dict[str, Any]:
    """Return all that a replay of a `closed_episode` shows but its pictures, ready for JSON.

    Args:
        episode: Of `closed_episode`.
        blind: Leave out every judgement, and what is derived with one: for a labeller who has
            not judged it yet.

    Raises:
        BlobMissing, StoreUnavailable, Unprocessable: As `part_of` raises them.
    """
    parts = [part_of(row.sha256) for row in sorted(episode.parts.all(), key=lambda p: p.index)]
    shown = min(episode.steps, MAX_STEPS)
    header = parts[0].header if parts else None
    cameras = [
        {"name": camera.name, "title": camera.title or camera.name}
        for camera in (header.spec.cameras if header else ())
        if any(part.table[f"image.{camera.name}"].null_count < len(part.table) for part in parts)
    ]
    derived = _derived(episode, blind=blind) or _recorded(parts, shown)
    value = derived.columns.get("value") if derived else None
    return {
        "uid": str(episode.uid),
        "task": episode.task.name,
        "instruction": episode.instruction,
        "robot": episode.robot.name if episode.robot else None,
        "purpose": episode.purpose,
        "policy_number": episode.policy_number,
        "started_at": episode.started_at.isoformat(),
        "steps": shown,
        "recorded_steps": episode.steps,
        "control_period_s": episode.control_period_s,
        "complete": episode.complete,
        "cameras": cameras,
        "control": control_spans(_joined(parts, "control_mode", shown)),
        "interventions": [
            {
                "start": span.start,
                "end": span.end,
                "operator": span.operator,
                "operator_kind": span.operator_kind,
                "doubt": span.doubt,
                "value": span.value,
            }
            for span in episode.interventions.all()
        ],
        "action_names": list(header.spec.action_names) if header else [],
        "action": _numbers(_joined(parts, "action", shown)),
        "state_names": list(header.spec.state_names[:8]) if header else [],
        "state": _numbers(_joined(parts, "state", shown)[:, :8]) if parts else [],
        "doubt": _series(_joined(parts, "doubt", shown)),
        **_derived_series(derived, shown),
        "suggestion": largest_drop(_filled(value[:shown])) if value is not None else None,
        **({} if blind else _judgements(episode)),
        "blind": blind,
    }


def control_spans(modes: np.ndarray) -> list[dict[str, Any]]:
    """Return who had control as spans `start <= step < end`, without gaps."""
    if not len(modes):
        return []
    edges = [0, *(np.flatnonzero(np.diff(modes)) + 1).tolist(), len(modes)]
    return [
        {"who": _CONTROL.get(int(modes[start]), "nobody"), "start": start, "end": end}
        for start, end in pairwise(edges)
    ]


def largest_drop(value: np.ndarray) -> dict[str, Any] | None:
    """Return where the value fell most: the likely point of failure, or None where it fell little.

    The drop at step t is the mean of the `DROP_WINDOW` values before t less that of those from t
    on: single values jump from step to step. `drop` is in units of returns, which RECAP
    (arXiv:2511.14759) normalises to [-1, 0].
    """
    window = min(DROP_WINDOW, len(value) // 2)
    if window < 1 or not np.isfinite(value).all():
        return None
    total = np.concatenate(([0.0], np.cumsum(value, dtype=np.float64)))
    steps = np.arange(window, len(value) - window + 1)
    before = total[steps] - total[steps - window]
    after = total[steps + window] - total[steps]
    drops = (before - after) / window
    best = int(np.argmax(drops))
    if drops[best] < MIN_DROP:
        return None
    return {"step": int(steps[best]), "drop": round(float(drops[best]), 4)}


def _joined(parts: Sequence[Part], name: str, steps: int) -> np.ndarray:
    if not parts:
        return np.zeros((0, 0) if name in ("action", "state") else 0)
    found, have = [], 0
    for part in parts:
        if have >= steps:
            break
        found.append(part.array(name))
        have += len(found[-1])
    return np.concatenate(found)[:steps]


def _numbers(array: np.ndarray) -> list[Any]:
    # Four decimals: finer than a pixel of any strip, and a third of the bytes.
    rounded: list[Any] = np.round(array.astype(np.float64), 4).tolist()
    return rounded


def _series(array: np.ndarray) -> list[float | None] | None:
    """Return a column with null where it is not a number; None where it never is one."""
    if not np.isfinite(array).any():
        return None
    return [None if number != number else number for number in _numbers(array)]


def _derived(episode: Episode, *, blind: bool) -> Derived | None:
    rows = (
        Sidecar.objects.filter(episode=episode)
        .select_related("value", "threshold")
        .order_by("-value_id", "-id")
    )
    newest = list(rows[:20])
    if not newest:
        return None
    own = [row for row in newest if row.value_id == newest[0].value_id]
    fitting = [row for row in own if row.outcome == episode.outcome_in_force and row.threshold_id]
    fitting.sort(key=lambda row: row.threshold.number if row.threshold else 0)
    row = fitting[-1] if fitting and not blind else own[0]
    try:
        from learning.core.sidecar import BadSidecar, decode_annotation

        annotation = decode_annotation(blobs.store().get(row.sha256))
    except (LearningError, BadSidecar):
        # Values are an extra: a lost one must not keep people from the episode.
        return None
    columns = {"value": annotation.value}
    if fitting and not blind:
        columns |= {"advantage": annotation.advantage, "indicator": annotation.indicator}
    return Derived(
        columns,
        value_number=row.value.number,
        threshold_number=row.threshold.number if row.threshold and not blind else None,
        epsilon=annotation.origin.epsilon if fitting and not blind else None,
        correlation=row.value.correlation,
    )


def _recorded(parts: Sequence[Part], steps: int) -> Derived | None:
    header = parts[0].header if parts else None
    if header is None or not header.value_sha256:
        return None
    values = _joined(parts, "value", steps)
    if not np.isfinite(values).any():
        return None
    fitted = ValueVersion.objects.filter(sha256=header.value_sha256).first()
    return Derived(
        {"value": values},
        value_number=header.value_number or 0,
        threshold_number=None,
        epsilon=None,
        correlation=fitted.correlation if fitted else None,
        recorded=True,
    )


def _filled(values: np.ndarray) -> np.ndarray:
    """Return values in which one that is missing is the one before it, or the first there is."""
    known = np.isfinite(values)
    if not known.any():
        return values
    latest = np.maximum.accumulate(np.where(known, np.arange(len(values)), 0))
    filled: np.ndarray = values[np.maximum(latest, np.flatnonzero(known)[0])]
    return filled


def _derived_series(derived: Derived | None, steps: int) -> dict[str, Any]:
    names = ("value", "advantage", "indicator")
    if derived is None:
        return {**dict.fromkeys(names), "value_function": None}
    columns = derived.columns
    indicator = columns.get("indicator")
    return {
        "value": _series(columns["value"][:steps]),
        "advantage": _series(columns["advantage"][:steps]) if "advantage" in columns else None,
        "indicator": indicator[:steps].tolist() if indicator is not None else None,
        "value_function": {
            "number": derived.value_number,
            "threshold": derived.threshold_number,
            "epsilon": derived.epsilon,
            "correlation": derived.correlation,
            "recorded": derived.recorded,
        },
    }


def _judgements(episode: Episode) -> dict[str, Any]:
    own = episode.labels.filter(withdraws__isnull=True)
    labels = own.select_related("operator__user", "withdrawal").order_by("id")
    return {
        "outcome": episode.outcome_in_force,
        "robot_outcome": episode.outcome,
        "judge": episode.judge,
        "labels": [
            {
                "outcome": label.outcome,
                "failure_step": label.failure_step,
                "reason": label.get_reason_display(),
                "source": label.source,
                "stands": not hasattr(label, "withdrawal"),
                "operator": label.operator.name,
                "operator_kind": label.operator.kind,
                "note": label.note,
                "at": label.created_at.isoformat(),
            }
            for label in labels
        ],
    }
