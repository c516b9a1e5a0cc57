"""Policies out: the list of versions, and their weights in ranges, immutable and cacheable."""

import re
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from ninja import Query, Router, Schema
from pydantic import Field

from learning import blobs
from learning.api.auth import ANYONE, operator_of
from learning.exceptions import BlobMissing
from learning.models import PolicyVersion
from learning.selectors.learners import learner_named, published, published_artifact

router = Router(tags=["policies"], auth=ANYONE)

# Read from the store and sent at a time; what fits is sent whole.
CHUNK_BYTES = 1024 * 1024
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


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
    etag = f'"{sha256}"'
    if etag in request.headers.get("If-None-Match", ""):
        return _headers(HttpResponse(status=304), etag)
    store = blobs.store()
    size = store.size(sha256)
    if size is None:
        raise BlobMissing(f"the weights of version {version.number} are not in the store")
    span: tuple[int, int] | None = (0, size)
    status = 200
    wanted = request.headers.get("Range")
    if wanted is not None and request.headers.get("If-Range", etag) == etag:
        span, status = _span(wanted, size)
    if span is None:
        response = HttpResponse(status=416)
        response["Content-Range"] = f"bytes */{size}"
        return _headers(response, etag)
    response = _content(request, store, sha256, *span)
    response.status_code = status
    if status == 206:
        response["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{size}"
    response["Content-Length"] = str(span[1] - span[0])
    return _headers(response, etag)


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


def _span(wanted: str, size: int) -> tuple[tuple[int, int] | None, int]:
    match = _RANGE.fullmatch(wanted.strip())
    if match is None or not any(match.groups()):
        # Malformed, another unit, or several ranges: RFC 9110 lets a server ignore the header.
        return (0, size), 200
    first, last = match.groups()
    if first == "":
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
        if last and int(last) < start:
            return (0, size), 200
    return (None, 416) if start >= size or start >= end else ((start, end), 206)


def _content(
    request: HttpRequest, store: blobs.BlobStore, sha256: str, start: int, end: int
) -> HttpResponse | StreamingHttpResponse:
    kind = "application/octet-stream"
    if request.method == "HEAD" or start == end:
        return HttpResponse(b"", content_type=kind)
    if end - start <= CHUNK_BYTES:
        return HttpResponse(store.get_range(sha256, start, end), content_type=kind)

    def chunks() -> Iterator[bytes]:
        for at in range(start, end, CHUNK_BYTES):
            yield store.get_range(sha256, at, min(end, at + CHUNK_BYTES))

    async def chunks_async() -> AsyncIterator[bytes]:
        # A synchronous iterator would be read to its end into memory by the ASGI handler.
        for at in range(start, end, CHUNK_BYTES):
            yield await sync_to_async(store.get_range)(sha256, at, min(end, at + CHUNK_BYTES))

    return StreamingHttpResponse(
        chunks_async() if isinstance(request, ASGIRequest) else chunks(), content_type=kind
    )


def _headers(response: HttpResponseBase, etag: str) -> HttpResponseBase:
    response["ETag"] = etag
    response["Accept-Ranges"] = "bytes"
    response["Cache-Control"] = "private, max-age=31536000, immutable"
    return response
