"""RECAP's sidecar of an episode: return, value, advantage, indicator; and the file it lies in.

An episode is never changed. What is derived from it is an `Annotation`, one safetensors file that
names what it was derived with, so that each part can be derived again without the others: values
know no outcome and no threshold, advantages know no threshold. Without torch: the web process
reads sidecars, and counts what another threshold would say.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from learning.core.advantages import (
    HORIZON,
    Shares,
    forced_positive,
    indicators,
    n_step_advantages,
    penalty_share,
    returns,
    rewards,
    thresholds,
)
from learning.core.records import EpisodeRecord, Indicator

FORMAT_VERSION = 1


class BadSidecar(ValueError):
    """Bytes that are not a sidecar this code can read."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What an annotation was derived with."""

    format_version: int = FORMAT_VERSION
    episode: str
    # The outcome in force; another one makes another sidecar of the same values.
    outcome: str
    # Numbers of the value function and of the thresholds, as their owner counts them.
    value: int
    threshold: int
    # None: the task had no threshold, so there are no indicators.
    epsilon: float | None = None
    # N of the advantages.
    horizon: int = HORIZON


@dataclass(frozen=True, slots=True)
class Annotation:
    """Columns of one entry a step; without an outcome only `value` says anything."""

    origin: Origin
    # float32 (t,), see `learning.core.advantages`; NaN where nobody judged the episode.
    returned: np.ndarray
    value: np.ndarray
    advantage: np.ndarray
    # int8 (t,), `Indicator`.
    indicator: np.ndarray


def annotate(
    record: EpisodeRecord,
    value: np.ndarray,
    *,
    epsilons: Mapping[str, float],
    horizon: int = HORIZON,
    value_number: int = 0,
    threshold_number: int = 0,
) -> Annotation:
    """Return the annotation of an episode from its values; cheap, needs no network.

    Args:
        record: With the outcome in force.
        value: float32 (t,), of `values_of`.
        epsilons: Threshold by task. Without one, and without a judged outcome, no step gets an
            indicator: unlabelled episodes never train RECAP.
        horizon: N, in steps.
        value_number: Written into the origin.
        threshold_number: Written into the origin.
    """
    epsilon = epsilons.get(record.task)
    failure = penalty_share(record.outcome)
    steps = len(record)
    unknown = np.full(steps, np.nan, np.float32)
    returned, advantage = unknown, unknown
    indicator = np.full(steps, Indicator.NONE, np.int8)
    if failure is not None:
        returned = returns(steps, failure=failure, t_max=record.timeout_ticks)
        reward = rewards(steps, failure=failure, t_max=record.timeout_ticks)
        advantage = n_step_advantages(reward, value, horizon=horizon)
        if epsilon is not None:
            forced = forced_positive(record.purpose, record.control_mode)
            indicator = indicators(advantage, epsilon=epsilon, forced=forced)
    origin = Origin(
        episode=record.uid,
        outcome=record.outcome,
        value=value_number,
        threshold=threshold_number,
        epsilon=epsilon,
        horizon=horizon,
    )
    return Annotation(origin, returned, value, advantage, indicator)


def with_annotation(record: EpisodeRecord, annotation: Annotation) -> EpisodeRecord:
    """Return the record with its indicators, as a buffer takes it."""
    return dataclasses.replace(record, indicator=annotation.indicator)


def encode_annotation(annotation: Annotation) -> bytes:
    """Return an annotation as safetensors: columns, and its origin as JSON in the metadata."""
    columns = {
        "return": annotation.returned,
        "value": annotation.value,
        "advantage": annotation.advantage,
        "indicator": annotation.indicator,
    }
    meta = msgspec.json.encode(annotation.origin).decode()
    return bytes(save_arrays(columns, {"sidecar": meta}))


def decode_annotation(data: bytes) -> Annotation:
    """Return the annotation in `data`.

    Raises:
        BadSidecar: Not safetensors, another format, or columns that do not go together.
    """
    try:
        size = int.from_bytes(data[:8], "little")
        header = msgspec.json.decode(data[8 : 8 + size], type=dict)
        origin = msgspec.json.decode(header["__metadata__"]["sidecar"], type=Origin)
        columns = load_arrays(data)
        annotation = Annotation(
            origin, columns["return"], columns["value"], columns["advantage"], columns["indicator"]
        )
    except Exception as error:  # safetensors and msgspec each raise their own kinds
        raise BadSidecar(f"not a sidecar: {error}") from None
    if origin.format_version != FORMAT_VERSION:
        raise BadSidecar(f"format {origin.format_version}, this code reads {FORMAT_VERSION}")
    shapes = {column.shape for column in columns.values()}
    if len(shapes) != 1 or len(shapes.pop()) != 1:
        raise BadSidecar("its columns differ in length")
    return annotation


def epsilons_of(
    annotated: Sequence[tuple[EpisodeRecord, Annotation]], shares: Shares
) -> dict[str, float]:
    """Return the threshold of each task over judged episodes; see `advantages.thresholds`."""
    advantages: dict[str, list[np.ndarray]] = {}
    forced: dict[str, list[np.ndarray]] = {}
    for record, annotation in annotated:
        if penalty_share(record.outcome) is not None:
            advantages.setdefault(record.task, []).append(annotation.advantage)
            forced.setdefault(record.task, []).append(
                forced_positive(record.purpose, record.control_mode)
            )
    return thresholds(advantages, forced, shares)
