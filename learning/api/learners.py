"""Learners: their state and curves; start and pause."""

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Query, Router, Schema
from pydantic import Field

from fleet.models import Role
from learning import tasks
from learning.api.auth import ANYONE, operator_of
from learning.api.policies import VersionOut, version_out
from learning.models import Learner
from learning.selectors.episodes import last_closed_seq
from learning.selectors.learners import latest_version, learner_named, metrics_tail
from learning.services.learners import pause_learner, start_learner

router = Router(tags=["learners"], auth=ANYONE)


class LearnerOut(Schema):
    """A learner at a glance; `busy` while a round runs."""

    name: str
    algorithm: str
    state: str
    busy: bool
    step: int
    rounds: int
    checkpoint_step: int
    trained_seq: int
    closed_seq: int
    note: str
    last_error: str
    config: dict[str, Any]
    version: VersionOut | None


class MetricOut(Schema):
    """One point of the curves."""

    step: int
    at: datetime
    values: dict[str, Any]


class LearnerDetailOut(LearnerOut):
    """A learner with the tail of its curves, oldest first."""

    metrics: list[MetricOut]


class Tail(Schema):
    """How much of the curves."""

    metrics: int = Field(100, ge=0, le=5000)


@router.get("", response=list[LearnerOut])
def list_learners(request: HttpRequest) -> list[dict[str, Any]]:
    """List the learners."""
    operator_of(request)
    return [_learner_out(learner) for learner in Learner.objects.all()]


@router.get("/{slug:name}", response=LearnerDetailOut)
def get_learner(request: HttpRequest, name: str, tail: Query[Tail]) -> dict[str, Any]:
    """Return one learner with the last points of its curves."""
    operator_of(request)
    learner = learner_named(name)
    points = metrics_tail(learner, points=tail.metrics)
    return _learner_out(learner) | {
        "metrics": [{"step": p.step, "at": p.at, "values": p.values} for p in points]
    }


@router.post("/{slug:name}/start", response=LearnerOut)
def start(request: HttpRequest, name: str) -> dict[str, Any]:
    """Let it train; needs the role lead."""
    operator_of(request, Role.LEAD)
    learner = start_learner(name)
    tasks.enqueue_due_rounds()
    return _learner_out(learner)


@router.post("/{slug:name}/pause", response=LearnerOut)
def pause(request: HttpRequest, name: str) -> dict[str, Any]:
    """Stop training within a second, with a checkpoint; needs the role lead."""
    operator_of(request, Role.LEAD)
    return _learner_out(pause_learner(name))


def _learner_out(learner: Learner) -> dict[str, Any]:
    version = latest_version(learner)
    return {
        "name": learner.name,
        "algorithm": learner.algorithm,
        "state": learner.state,
        "busy": learner.busy,
        "step": learner.step,
        "rounds": learner.rounds,
        "checkpoint_step": learner.checkpoint_step,
        "trained_seq": learner.trained_seq,
        "closed_seq": last_closed_seq(),
        "note": learner.note,
        "last_error": learner.last_error,
        "config": learner.config,
        "version": version_out(version) if version else None,
    }
