"""Durable ingest: object, then row, then acknowledgement; then the robot deletes its copy.

A crash between two of the steps repeats harmlessly: an object without a row is written again or
swept, a row that was not acknowledged is found again. A row without an object cannot happen.
"""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import numpy as np
from django.db import DataError, IntegrityError, transaction
from django.utils import timezone

from fleet.models import Robot, Task
from fleet.protocol.control import ControlLabel
from fleet.protocol.episode import (
    MAX_PART_BYTES,
    BadEpisode,
    EpisodeHeader,
    EpisodeManifest,
    Part,
    encode_manifest,
    open_part,
    sha256_of,
    to_builtins,
)
from fleet.services import events
from learning import blobs
from learning.exceptions import (
    Conflict,
    EpisodeClosed,
    Forbidden,
    HashMismatch,
    MissingParts,
    TooLarge,
    Unprocessable,
)
from learning.models import Episode, EpisodePart, Intervention
from learning.models.episodes import Purpose
from learning.services import rollups
from learning.services.corrections import settle
from learning.services.cursor import next_seq

logger = logging.getLogger(__name__)

# Tells whoever waits that an episode closed; the rows are the truth, a lost note costs a poll.
EPISODES = "sop:episodes"
# Slower than any robot; keeps an absurd manifest out of the sums of human time.
MAX_CONTROL_PERIOD_S = 60.0


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored part: its row, and whether this call stored it."""

    part: EpisodePart
    created: bool


class EpisodeClosedNote(msgspec.Struct, frozen=True, kw_only=True):
    """On `sop:episodes`: an episode closed."""

    episode: str
    seq: int
    task: str
    purpose: str


def store_part(*, uid: UUID, index: int, data: bytes, sha256: str, robot: Robot | None) -> Stored:
    """Store part `index` of episode `uid`; afterwards its bytes and its row are durable.

    Called twice with the same content, it returns the first row. Locks the episode's row while it
    writes. `robot` is the sender; None is for demonstrations, which no robot of the fleet recorded.

    Raises:
        TooLarge: Over `MAX_PART_BYTES`.
        HashMismatch: The content is not what `sha256` says.
        Unprocessable: Not a part, of another episode or index, or of an unknown task.
        Forbidden: The episode is another robot's.
        EpisodeClosed: Closed without such a part.
        Conflict: Another content is stored for this index.
        StoreUnavailable: Send it again later.
    """
    if len(data) > MAX_PART_BYTES:
        raise TooLarge(f"a part of {len(data)} bytes is over the limit of {MAX_PART_BYTES}")
    if sha256_of(data) != sha256:
        raise HashMismatch(f"content is not what its sha256 says ({sha256})")
    known = _known_part(uid, index, sha256, robot)
    if known is not None:
        return Stored(known, created=False)
    try:
        part = open_part(data)
    except BadEpisode as error:
        raise Unprocessable(str(error)) from None
    if part.header.episode != str(uid) or part.index != index:
        raise Unprocessable(
            f"content is part {part.index} of episode {part.header.episode},"
            f" sent as part {index} of {uid}"
        )
    _check_sender(part.header, robot)
    task = _task(part.header)
    blobs.store().put(data, sha256=sha256)
    return _write_part(part, task=task, sha256=sha256, size_bytes=len(data), robot=robot)


def close_episode(*, uid: UUID, manifest: EpisodeManifest, robot: Robot | None) -> Episode:
    """Close an episode: from now on learners see it, and nothing of it changes any more.

    Called twice with the same manifest, it returns the first result. Locks the episode's row, then
    the cursor's, both until commit, so `closed_seq` grows in commit order. Publishes
    `EpisodeClosedNote` on `sop:episodes` on commit.

    Raises:
        MissingParts: Some of the manifest's parts are not stored.
        EpisodeClosed: Closed before by another manifest.
        Forbidden: The episode is another robot's.
        Conflict: Parts are stored that the manifest does not name.
        Unprocessable: The manifest contradicts its parts or itself.
    """
    if manifest.header.episode != str(uid):
        raise Unprocessable(f"the manifest is of episode {manifest.header.episode}, not {uid}")
    _check_sender(manifest.header, robot)
    _check_spans(manifest)
    digest = hashlib.sha256(encode_manifest(manifest)).hexdigest()
    task = _task(manifest.header)
    with transaction.atomic():
        episode = Episode.objects.select_for_update().filter(uid=uid).first()
        if episode is None:
            if manifest.parts:
                raise MissingParts([part.index for part in manifest.parts])
            episode = _open_episode(manifest.header, task=task, robot=robot)
        _check_owner(episode, robot)
        if episode.closed:
            if episode.manifest_sha256 != digest:
                raise EpisodeClosed(f"episode {uid} was closed by another manifest")
            return episode
        _check_header(episode, manifest.header, task)
        parts = _parts_of(episode, manifest)
        _fill_in(episode, manifest, parts)
        episode.manifest_sha256 = digest
        episode.closed_seq = next_seq()
        with _rules(), transaction.atomic():
            episode.save()
            interventions = [
                Intervention(
                    episode=episode,
                    start=span.start,
                    end=span.end,
                    lease_epoch=span.epoch,
                    operator=span.operator,
                    operator_kind=span.operator_kind,
                    doubt=span.doubt,
                    value=span.value,
                )
                for span in manifest.interventions
            ]
            Intervention.objects.bulk_create(interventions)
            settle(episode)
            rollups.count_episode(episode, interventions)
        note = EpisodeClosedNote(
            episode=str(uid), seq=episode.closed_seq, task=task.name, purpose=episode.purpose
        )
        events.publish_on_commit(EPISODES, msgspec.json.encode(note))
    if episode.mixed_versions:
        logger.error("episode %s has autonomous steps of more than one policy version", uid)
    return episode


def _known_part(uid: UUID, index: int, sha256: str, robot: Robot | None) -> EpisodePart | None:
    episode = Episode.objects.filter(uid=uid).first()
    if episode is None:
        return None
    _check_owner(episode, robot)
    part = episode.parts.filter(index=index).first()
    if part is not None:
        if part.sha256 != sha256:
            raise Conflict(f"part {index} of {uid} is stored with another content")
        return part
    if episode.closed:
        raise EpisodeClosed(f"episode {uid} is closed and has no part {index}")
    return None


def _write_part(
    part: Part, *, task: Task, sha256: str, size_bytes: int, robot: Robot | None
) -> Stored:
    modes = part.array("control_mode")
    numbers = part.array("policy_number")[modes == ControlLabel.POLICY]
    with transaction.atomic():
        episode = _open_episode(part.header, task=task, robot=robot)
        # Closing locks the same row: a part is stored before the close, or refused.
        episode = Episode.objects.select_for_update().get(pk=episode.pk)
        _check_owner(episode, robot)
        known = episode.parts.filter(index=part.index).first()
        if known is not None:
            if known.sha256 != sha256:
                raise Conflict(f"part {part.index} of {episode.uid} is stored with another content")
            return Stored(known, created=False)
        if episode.closed:
            raise EpisodeClosed(f"episode {episode.uid} is closed and has no part {part.index}")
        _check_header(episode, part.header, task)
        row = episode.parts.create(
            index=part.index,
            sha256=sha256,
            size_bytes=size_bytes,
            first_step=part.first_step,
            steps=part.table.num_rows,
            human_steps=int((modes == ControlLabel.HUMAN).sum()),
            transition_steps=int((modes == ControlLabel.TRANSITION).sum()),
            policy_numbers=[int(number) for number in np.unique(numbers[numbers >= 0])],
        )
    return Stored(row, created=True)


def _open_episode(header: EpisodeHeader, *, task: Task, robot: Robot | None) -> Episode:
    with _rules(), transaction.atomic():
        episode, _ = Episode.objects.get_or_create(
            uid=UUID(header.episode),
            defaults={
                "robot": robot,
                "task": task,
                "purpose": header.purpose,
                "seed": header.seed,
                "instruction": header.instruction,
                "policy_number": header.policy_number,
                "policy_sha256": header.policy_sha256,
                "trial": _trial(header),
                "started_at": _wall(header.started_wall_ns),
            },
        )
    return episode


@contextmanager
def _rules() -> Iterator[None]:
    try:
        yield
    except (IntegrityError, DataError, OverflowError, ValueError) as error:
        # A seed over 64 bits, a NUL in a name: well-formed on the wire, not storable.
        raise Unprocessable("a value breaks a rule of the database") from error


def _parts_of(episode: Episode, manifest: EpisodeManifest) -> list[EpisodePart]:
    stored = {part.index: part for part in episode.parts.all()}
    missing = [
        ref.index
        for ref in manifest.parts
        if ref.index not in stored or stored[ref.index].sha256 != ref.sha256
    ]
    if missing:
        raise MissingParts(missing)
    if len(stored) != len(manifest.parts):
        raise Conflict(f"{len(stored)} parts are stored, the manifest names {len(manifest.parts)}")
    for ref in manifest.parts:
        part = stored[ref.index]
        if (part.first_step, part.steps) != (ref.first_step, ref.steps):
            raise Unprocessable(f"part {ref.index} does not hold the steps the manifest says")
    return list(stored.values())


def _fill_in(episode: Episode, manifest: EpisodeManifest, parts: list[EpisodePart]) -> None:
    numbers = {number for part in parts for number in part.policy_numbers}
    episode.state = Episode.State.CLOSED
    episode.closed_at = timezone.now()
    episode.ended_at = _wall(manifest.ended_wall_ns)
    episode.outcome = manifest.outcome
    episode.judge = manifest.judge
    episode.steps = manifest.steps
    episode.human_steps = sum(part.human_steps for part in parts)
    episode.transition_steps = sum(part.transition_steps for part in parts)
    episode.control_period_s = manifest.control_period_s
    episode.human_s = (episode.human_steps + episode.transition_steps) * manifest.control_period_s
    episode.mixed_versions = len(numbers) > 1
    episode.complete = manifest.complete
    episode.link = to_builtins(manifest.link)


def _check_sender(header: EpisodeHeader, robot: Robot | None) -> None:
    if robot is None:
        if header.purpose != Purpose.DEMONSTRATION:
            raise Forbidden("only demonstrations come without a robot")
    elif header.robot != robot.name:
        raise Forbidden(f"the episode is of robot {header.robot}, sent by {robot.name}")


def _check_owner(episode: Episode, robot: Robot | None) -> None:
    if episode.robot_id != (robot.pk if robot is not None else None):
        raise Forbidden(f"episode {episode.uid} is another robot's")


def _check_header(episode: Episode, header: EpisodeHeader, task: Task) -> None:
    stored = (
        episode.task_id, episode.purpose, episode.seed, episode.policy_number, episode.trial
    )  # fmt: skip
    said = (task.pk, header.purpose, header.seed, header.policy_number, _trial(header))
    if stored != said:
        raise Unprocessable(
            "task, purpose, seed, policy or trial differ from the episode's other parts"
        )


def _check_spans(manifest: EpisodeManifest) -> None:
    if not 0 < manifest.control_period_s <= MAX_CONTROL_PERIOD_S:
        raise Unprocessable(f"control_period_s must be in (0, {MAX_CONTROL_PERIOD_S}]")
    end = 0
    for span in manifest.interventions:
        if span.start < end or span.end <= span.start or span.end > manifest.steps:
            raise Unprocessable(f"intervention {span.start}-{span.end} is empty or out of place")
        end = span.end


def _task(header: EpisodeHeader) -> Task:
    task = Task.objects.filter(name=header.task.name).first()
    if task is None:
        raise Unprocessable(f"no task is named {header.task.name!r} here")
    return task


def _trial(header: EpisodeHeader) -> UUID | None:
    if not header.trial:
        return None
    try:
        return UUID(header.trial)
    except ValueError:
        raise Unprocessable(f"{header.trial!r} names no trial") from None


def _wall(wall_ns: int) -> datetime:
    try:
        return datetime.fromtimestamp(wall_ns / 1e9, tz=UTC)
    except (ValueError, OverflowError, OSError):
        raise Unprocessable(f"{wall_ns} is not a time") from None
