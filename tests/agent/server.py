"""A small real HTTP server that keeps episodes as the product does, and fails when told to."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fleet.protocol.episode import decode_manifest, sha256_of

Failure = Callable[[str, str], "int | str | None"]


class Ingest:
    """What a server holds, what it was asked, and how it fails.

    `fail(method, path)` returns a status to answer with, "before" to cut the connection before the
    request is done, "after" to do it and cut the connection without an answer, or None.
    """

    def __init__(self) -> None:
        self.parts: dict[str, dict[int, bytes]] = {}
        self.closed: list[str] = []
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.files: dict[str, bytes] = {}
        self.ranges: list[str | None] = []
        self.cut_after_bytes: int | None = None
        self.fail: Failure = lambda method, path: None
        self.url = ""
        self.ignore_ranges = False
        self.failure_code = "injected"

    def fail_once(self, method: str, pattern: str, how: int | str, times: int = 1) -> None:
        left = [times]

        def fail(asked: str, path: str) -> int | str | None:
            if asked == method and re.search(pattern, path) and left[0]:
                left[0] -= 1
                return how
            return None

        self.fail = fail


@contextmanager
def serving() -> Iterator[Ingest]:
    ingest = Ingest()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, body: dict) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def cut(self) -> None:
            self.close_connection = True
            self.connection.close()

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            ingest.requests.append((self.command, self.path))
            ingest.headers.append(dict(self.headers.items()))
            failure = ingest.fail(self.command, self.path)
            if failure == "before":
                return self.cut()
            if isinstance(failure, int):
                return self.answer(failure, {"code": ingest.failure_code, "reason": "as told"})
            status, reply = self.do(body)
            if failure == "after":
                return self.cut()
            if isinstance(reply, bytes):
                return self.send_file(reply)
            return self.answer(status, reply)

        def do(self, body: bytes) -> tuple[int, dict | bytes]:
            if self.path in ingest.files:
                return 200, ingest.files[self.path]
            match = re.fullmatch(r"/api/episodes/([0-9a-f-]{36})(/parts/(\d+)|/close)?", self.path)
            if match is None:
                return 404, {"code": "unknown", "reason": "no such path"}
            uid, tail, index = match[1], match[2], match[3]
            stored = ingest.parts.setdefault(uid, {}) if self.command != "GET" else {}
            if self.command == "GET":
                state = "closed" if uid in ingest.closed else "open"
                if uid not in ingest.parts:
                    state = "unknown"
                return 200, {"state": state, "parts": sorted(ingest.parts.get(uid, {}))}
            if index is not None:
                if sha256_of(body) != self.headers["X-Content-SHA256"]:
                    return 422, {"code": "sha", "reason": "differs"}
                stored[int(index)] = body
                return 200, {"stored": True}
            assert tail == "/close"
            manifest = decode_manifest(body)
            missing = [p.index for p in manifest.parts if p.index not in stored]
            if missing:
                return 409, {"code": "missing", "reason": "parts", "missing": missing}
            if uid not in ingest.closed:
                ingest.closed.append(uid)
            return 200, {"closed": True}

        def send_file(self, data: bytes) -> None:
            wanted = self.headers.get("Range")
            ingest.ranges.append(wanted)
            start = 0
            if wanted and not ingest.ignore_ranges:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            if ingest.cut_after_bytes is not None:
                self.wfile.write(data[start : start + ingest.cut_after_bytes])
                self.wfile.flush()
                ingest.cut_after_bytes = None
                return self.cut()
            self.wfile.write(data[start:])
            return None

        do_GET = do_PUT = do_POST = handle_any  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    ingest.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield ingest
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
