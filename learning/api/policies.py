"""Policies out: the list of versions, and their weights in ranges, immutable and cacheable."""

from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from ninja import Query, Router, Schema
from pydantic import Field

from learning.api.artifacts import serve_weights
from learning.api.auth import ANYONE, operator_of
from learning.models import PolicyVersion
from learning.selectors.learners import learner_named, published, published_artifact

router = Router(tags=["policies"], auth=ANYONE)


class VersionOut(Schema):
    """A published or rejected version."""

    learner: str
    number: int
    parent: int | None
    sha256: str
    size_bytes: int
    step: int
    trained_seq: int
    state: str
    gate: dict[str, Any]
    created_at: datetime
    assigned_at: datetime | None


class Page(Schema):
    """Which versions: newest first, below `before`."""

    learner: str = Field(max_length=64)
    before: int | None = Field(None, ge=1, le=2**31 - 1)
    limit: int = Field(100, ge=1, le=1000)


@router.get("", response=list[VersionOut])
def list_versions(request: HttpRequest, page: Query[Page]) -> list[dict[str, Any]]:
    """List a learner's published versions, newest first."""
    operator_of(request)
    found = published(learner_named(page.learner)).select_related("learner", "parent")
    if page.before is not None:
        found = found.filter(number__lt=page.before)
    return [version_out(version) for version in found[: page.limit]]


# Robots probe with HEAD; both are the same handler.
@router.api_operation(["GET", "HEAD"], "/{sha256}/weights", include_in_schema=True)
def weights(request: HttpRequest, sha256: str) -> HttpResponseBase:
    """Return the weights of a published version: safetensors, whole or one range of bytes.

    `ETag` is the sha256, and the content never changes. A range that cannot be satisfied is 416;
    several ranges at once, or an `If-Range` that does not match, are answered with everything.
    """
    version = published_artifact(sha256)
    return serve_weights(request, sha256, f"version {version.number}")


def version_out(version: PolicyVersion) -> dict[str, Any]:
    """Return a version's row as the API shows it."""
    return {
        "learner": version.learner.name,
        "number": version.number,
        "parent": version.parent.number if version.parent else None,
        "sha256": version.sha256,
        "size_bytes": version.size_bytes,
        "step": version.step,
        "trained_seq": version.trained_seq,
        "state": version.state,
        "gate": version.gate,
        "created_at": version.created_at,
        "assigned_at": version.assigned_at,
    }
