"""Episodes in: the robots' resumable upload; and out: what closed, for scripts and experiments."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest
from ninja import Query, Router, Schema
from pydantic import Field

from fleet.models import Role
from fleet.protocol.episode import MAX_PART_BYTES, BadEpisode, decode_manifest
from learning import tasks
from learning.api.auth import ANYONE, ROBOT, operator_of, robot_of
from learning.exceptions import TooLarge, Unprocessable
from learning.models.labels import FailureReason, Judgement
from learning.selectors.episodes import closed_after, upload_cursor, with_interventions
from learning.services.evaluations import take_result
from learning.services.ingest import close_episode, store_part
from learning.services.labels import add_label

router = Router(tags=["episodes"])

# The largest manifest that its own limits allow, with room for unknown fields.
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
MAX_SEQ = 2**63 - 1
MAX_STEP = 2**31 - 1


class StoredOut(Schema):
    """A part is durable: the robot may delete its copy once the episode is closed."""

    stored: bool


class ClosedOut(Schema):
    """An episode is closed; `seq` is its place in the order of closing."""

    closed: bool
    seq: int


class CursorOut(Schema):
    """What the server has of an episode."""

    state: str
    parts: list[int]


class EpisodeOut(Schema):
    """A closed episode."""

    uid: UUID
    seq: int
    robot: str | None
    task: str
    purpose: str
    seed: int
    instruction: str
    policy_number: int | None
    mixed_versions: bool
    # In force: the last label's, else the robot's.
    outcome: str
    robot_outcome: str
    judge: str
    complete: bool
    steps: int
    human_steps: int
    transition_steps: int
    human_s: float
    duration_s: float
    interventions: int
    started_at: datetime
    ended_at: datetime
    closed_at: datetime
    first_trained_at: datetime | None
    first_trained_step: int | None


class EpisodesOut(Schema):
    """A page of closed episodes; ask again with `since_seq=next_seq`."""

    episodes: list[EpisodeOut]
    next_seq: int


class Since(Schema):
    """Which closed episodes."""

    since_seq: int = Field(0, ge=0, le=MAX_SEQ)
    limit: int = Field(200, ge=1, le=1000)
    purpose: str | None = None
    task: str | None = None


class LabelIn(Schema):
    """A judgement."""

    outcome: Judgement
    note: str = Field("", max_length=500, pattern=r"^[^\x00]*$")
    # Where it went wrong, for a failure, a partial success or a timeout.
    failure_step: int | None = Field(None, ge=0, le=MAX_STEP)
    reason: FailureReason | None = None


class LabelOut(Schema):
    """A stored judgement."""

    episode: UUID
    outcome: str
    operator: str
    created_at: datetime


@router.put("/{uuid:uid}/parts/{int:index}", auth=ROBOT, response=StoredOut)
def put_part(request: HttpRequest, uid: UUID, index: int) -> dict[str, Any]:
    """Store one part: an Arrow IPC file, with its sha256 in `X-Content-SHA256`."""
    data = _body(request, MAX_PART_BYTES)
    sha256 = request.headers.get("X-Content-SHA256", "")
    store_part(uid=uid, index=index, data=data, sha256=sha256, robot=robot_of(request))
    return {"stored": True}


@router.post("/{uuid:uid}/close", auth=ROBOT, response=ClosedOut)
def close(request: HttpRequest, uid: UUID) -> dict[str, Any]:
    """Close an episode with its manifest; all its parts must be stored."""
    try:
        manifest = decode_manifest(_body(request, MAX_MANIFEST_BYTES))
    except BadEpisode as error:
        raise Unprocessable(str(error)) from None
    episode = close_episode(uid=uid, manifest=manifest, robot=robot_of(request))
    take_result(episode)
    tasks.enqueue_due_rounds()
    return {"closed": True, "seq": episode.closed_seq}


@router.get("/{uuid:uid}", auth=ROBOT, response=CursorOut)
def cursor(request: HttpRequest, uid: UUID) -> dict[str, Any]:
    """Say where an upload may resume."""
    found = upload_cursor(uid, robot_of(request))
    return {"state": found.state, "parts": list(found.parts)}


@router.get("", auth=ANYONE, response=EpisodesOut)
def list_closed(request: HttpRequest, since: Query[Since]) -> dict[str, Any]:
    """List closed episodes in the order they closed."""
    operator_of(request)
    found = with_interventions(closed_after(since.since_seq))
    if since.purpose is not None:
        found = found.filter(purpose=since.purpose)
    if since.task is not None:
        found = found.filter(task__name=since.task)
    episodes = list(found[: since.limit])
    return {
        "episodes": [
            {
                "uid": e.uid,
                "seq": e.closed_seq,
                "robot": e.robot.name if e.robot else None,
                "task": e.task.name,
                "outcome": e.outcome_in_force,
                "robot_outcome": e.outcome,
                "interventions": e.intervention_count,
                "duration_s": e.duration_s,
                **{name: getattr(e, name) for name in _PLAIN},
            }
            for e in episodes
        ],
        "next_seq": episodes[-1].closed_seq if episodes else since.since_seq,
    }


_PLAIN = (
    "purpose", "seed", "instruction", "policy_number", "mixed_versions", "judge", "complete",
    "steps", "human_steps", "transition_steps", "human_s", "started_at", "ended_at", "closed_at",
    "first_trained_at", "first_trained_step",
)  # fmt: skip


@router.post("/{uuid:uid}/labels", auth=ANYONE, response=LabelOut)
def label(request: HttpRequest, uid: UUID, body: LabelIn) -> dict[str, Any]:
    """Judge a closed episode; the last label is the outcome in force."""
    operator = operator_of(request, Role.LABELLER)
    row = add_label(
        episode_uid=uid,
        operator=operator,
        outcome=body.outcome,
        note=body.note,
        failure_step=body.failure_step,
        reason=body.reason or "",
    )
    tasks.enqueue_derivation([row.episode_id])
    return {
        "episode": uid,
        "outcome": row.outcome,
        "operator": operator.name,
        "created_at": row.created_at,
    }


def _body(request: HttpRequest, limit_bytes: int) -> bytes:
    # Refused by its header before it is read, where the sender says its length.
    announced = request.headers.get("Content-Length", "")
    if announced.isdigit() and int(announced) > limit_bytes:
        raise TooLarge(f"a body of {announced} bytes is over the limit of {limit_bytes}")
    try:
        data = request.body
    except RequestDataTooBig:
        raise TooLarge(f"the body is over the limit of {limit_bytes} bytes") from None
    if len(data) > limit_bytes:
        raise TooLarge(f"a body of {len(data)} bytes is over the limit of {limit_bytes}")
    return data
