"""Value functions of a learner: asked for, watched, cancelled; and the share that is positive."""

from datetime import datetime
from typing import Annotated, Any

from django.http import HttpRequest, HttpResponseBase
from ninja import Router, Schema
from pydantic import Field

from fleet.models import Role
from learning import tasks
from learning.api.artifacts import serve_weights
from learning.api.auth import ANYONE, operator_of
from learning.models import ThresholdVersion, ValueVersion
from learning.selectors.learners import learner_named
from learning.selectors.values import value_numbered, value_versions, value_with_weights
from learning.services.values import cancel_value, move_threshold, request_value

router = Router(tags=["values"], auth=ANYONE)
# Mounted at /values/: what robots fetch names no learner.
weights_router = Router(tags=["values"], auth=ANYONE)


class ThresholdOut(Schema):
    """Which share of steps is positive; thresholds by task once they are derived."""

    number: int
    shares: dict[str, Any]
    epsilons: dict[str, float]
    derived_at: datetime | None


class ValueOut(Schema):
    """A value function; `correlation` is Spearman's on held-out episodes, mean over tasks."""

    number: int
    state: str
    progress: float
    reason: str
    sha256: str
    fitted_seq: int
    episodes: int
    frames: int
    correlation: float | None
    by_task: dict[str, float | None]
    created_at: datetime
    ended_at: datetime | None
    thresholds: list[ThresholdOut]


class ValueIn(Schema):
    """What to fit; options of `FitConfig`, `horizon`, and `shares`."""

    config: dict[str, Any] = {}


class SharesIn(Schema):
    """Share of each task's steps that a threshold leaves positive; less for easy tasks."""

    positive: float = Field(0.4, gt=0, lt=1)
    easy: float = Field(0.1, gt=0, lt=1)
    easy_tasks: list[str] = []
    by_task: dict[str, Annotated[float, Field(gt=0, lt=1)]] = {}


@router.get("/{slug:name}/values", response=list[ValueOut])
def list_values(request: HttpRequest, name: str) -> list[dict[str, Any]]:
    """List a learner's value functions, newest first."""
    operator_of(request)
    return [_value_out(value) for value in value_versions(learner_named(name))]


@router.post("/{slug:name}/values", response=ValueOut)
def ask_for_value(request: HttpRequest, name: str, wanted: ValueIn) -> dict[str, Any]:
    """Fit a new one, unless one is due or running; needs the role lead."""
    operator_of(request, Role.LEAD)
    value = request_value(learner_named(name), wanted.config)
    tasks.enqueue_value_work()
    return _value_out(value)


@router.post("/{slug:name}/values/{int:number}/cancel", response=ValueOut)
def cancel(request: HttpRequest, name: str, number: int) -> dict[str, Any]:
    """Stop a job within about a second; needs the role lead."""
    operator_of(request, Role.LEAD)
    return _value_out(cancel_value(value_numbered(learner_named(name), number)))


@weights_router.api_operation(["GET", "HEAD"], "/{sha256}/weights", include_in_schema=True)
def weights(request: HttpRequest, sha256: str) -> HttpResponseBase:
    """Return the weights of a finished value function, as those of a policy are returned."""
    value = value_with_weights(sha256)
    return serve_weights(request, sha256, f"value function {value.number}")


@router.post("/{slug:name}/thresholds", response=ThresholdOut)
def set_threshold(request: HttpRequest, name: str, shares: SharesIn) -> dict[str, Any]:
    """Move the threshold; indicators follow without running the network. Needs the role lead."""
    operator_of(request, Role.LEAD)
    threshold = move_threshold(learner_named(name), shares.model_dump())
    tasks.enqueue_value_work()
    return _threshold_out(threshold)


def _threshold_out(threshold: ThresholdVersion) -> dict[str, Any]:
    return {
        "number": threshold.number,
        "shares": threshold.shares,
        "epsilons": threshold.epsilons,
        "derived_at": threshold.derived_at,
    }


def _value_out(value: ValueVersion) -> dict[str, Any]:
    return {
        **{name: getattr(value, name) for name in ValueOut.model_fields if name != "thresholds"},
        "thresholds": [_threshold_out(t) for t in value.thresholds.all()],
    }
