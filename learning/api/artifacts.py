"""Weights over HTTP: whole or in ranges, immutable and cacheable; resumed where a way was cut."""

import re
from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

from learning import blobs
from learning.exceptions import BlobMissing

# Read from the store and sent at a time; what fits is sent whole.
CHUNK_BYTES = 1024 * 1024
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def serve_weights(request: HttpRequest, sha256: str, what: str) -> HttpResponseBase:
    """Return a stored artifact: safetensors, whole or one range of bytes.

    `ETag` is the sha256, and the content never changes. A range that cannot be satisfied is 416;
    several ranges at once, or an `If-Range` that does not match, are answered with everything.

    Args:
        request: GET or HEAD.
        sha256: Of an artifact that the caller found a row for.
        what: Whose weights, in words.

    Raises:
        BlobMissing: It is not in the store.
        StoreUnavailable: As the store raises it.
    """
    etag = f'"{sha256}"'
    if etag in request.headers.get("If-None-Match", ""):
        return _headers(HttpResponse(status=304), etag)
    store = blobs.store()
    size = store.size(sha256)
    if size is None:
        raise BlobMissing(f"the weights of {what} are not in the store")
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
