"""Evaluations: ask for one, see how far it is and what it shows, cancel it."""

from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router, Schema
from pydantic import Field

from fleet.models import Role
from fleet.protocol.simulation import TRIAL_SEEDS
from learning.api.auth import ANYONE, operator_of
from learning.models import Evaluation
from learning.selectors.evaluations import (
    evaluation_of,
    progress,
    recent_evaluations,
    tasks_named,
    version_name,
    version_named,
)
from learning.selectors.exports import export
from learning.services.evaluations import cancel_evaluation, request_evaluation

router = Router(tags=["evaluations"], auth=ANYONE)

MAX_NUMBER = 2**31 - 1
TaskName = Annotated[str, Field(max_length=64, pattern=r"^[^\x00]*$")]


class VersionIn(Schema):
    """One version, by its learner and its number."""

    learner: str = Field(max_length=64, pattern=r"^[-\w]+$")
    number: int = Field(ge=1, le=MAX_NUMBER)


class EvaluationIn(Schema):
    """What is to be tried: see the fields of the page."""

    first: VersionIn
    second: VersionIn | None = None
    # None is every enabled task.
    tasks: list[TaskName] | None = Field(None, min_length=1, max_length=256)
    trials_per_task: int = Field(20, ge=1, le=MAX_NUMBER)
    first_seed: int = Field(TRIAL_SEEDS[0], ge=0, le=2**62)
    timeout_ticks: int | None = Field(None, ge=1, le=MAX_NUMBER)
    max_robots: int | None = Field(None, ge=1, le=32767)
    stop_when_decided: bool = False
    target: float | None = Field(None, ge=0, le=1)


class EvaluationOut(Schema):
    """An evaluation at a glance."""

    uid: UUID
    state: str
    note: str
    decision: str
    requested_by: str
    versions: list[str]
    trials: int
    done: int
    void: int
    running: int
    robots: list[str]
    excluded: dict[str, str]


class Newest(Schema):
    """How many."""

    limit: int = Field(50, ge=1, le=1000)


@router.get("", response=list[EvaluationOut])
def list_evaluations(request: HttpRequest, newest: Query[Newest]) -> list[dict[str, Any]]:
    """List evaluations, newest first."""
    operator_of(request)
    return [_out(evaluation) for evaluation in recent_evaluations()[: newest.limit]]


@router.post("", response=EvaluationOut)
def create(request: HttpRequest, body: EvaluationIn) -> dict[str, Any]:
    """Ask for an evaluation; needs the role lead. Idle robots begin at once."""
    operator = operator_of(request, Role.LEAD)
    evaluation = request_evaluation(
        operator=operator,
        first=version_named(body.first.learner, body.first.number),
        second=version_named(body.second.learner, body.second.number) if body.second else None,
        tasks=tasks_named(body.tasks),
        **body.model_dump(exclude={"first", "second", "tasks"}),
    )
    return _out(evaluation)


@router.get("/{uuid:uid}", response=dict[str, Any])
def get(request: HttpRequest, uid: UUID) -> dict[str, Any]:
    """Return an evaluation with its declaration, its results and every trial."""
    operator_of(request)
    return export(evaluation_of(uid))


@router.post("/{uuid:uid}/cancel", response=EvaluationOut)
def cancel(request: HttpRequest, uid: UUID) -> dict[str, Any]:
    """End it now and give its robots back; needs the role lead."""
    operator = operator_of(request, Role.LEAD)
    return _out(cancel_evaluation(evaluation_of(uid), operator=operator))


def _out(evaluation: Evaluation) -> dict[str, Any]:
    now = progress(evaluation)
    return {
        "uid": evaluation.uid,
        "state": evaluation.state,
        "note": evaluation.note,
        "decision": evaluation.decision,
        "requested_by": evaluation.requested_by.name,
        "versions": [version_name(version) for version in evaluation.versions],
        "trials": now.total,
        "done": now.done,
        "void": now.void,
        "running": now.running,
        "robots": list(now.robots),
        "excluded": evaluation.excluded,
    }
