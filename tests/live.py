"""The real web process, started as a subprocess on a port of its own, migrated and seeded.

Tests talk to it over HTTP and sockets only; its database is its own.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.embedded_redis import free_port

ROOT = Path(__file__).resolve().parent.parent
START_S = 100.0


def environment(var: Path, redis_url: str = "") -> dict[str, str]:
    """What a process of this installation runs with; nothing of the test's own settings."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SOP_", "DATABASE_URL"))}
    return env | {
        "DJANGO_SETTINGS_MODULE": "sop_web.settings",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "SOP_VAR": str(var),
        "REDIS_URL": redis_url,
    }


def manage(var: Path, *arguments: str, redis_url: str = "") -> str:
    """Run a management command to its end and return what it printed."""
    result = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment(var, redis_url),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def seed(var: Path, *, robots: int = 2, operators: int = 1) -> None:
    """Migrate and seed an installation; passwords equal the user names."""
    var.mkdir(parents=True, exist_ok=True)
    manage(var, "migrate", "-v0")
    manage(
        var,
        "seed_demo",
        f"--robots={robots}",
        f"--operators={operators}",
        "--insecure-demo-passwords",
    )


@dataclass
class LiveServer:
    """One running web process and the secrets of its installation."""

    var: Path
    port: int
    redis_url: str
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.var / f"web-{self.port}.log").read_text()

    def robot_config(self, robot: str = "robot-1") -> Path:
        return self.var / "robots" / f"{robot}.json"

    def robot_token(self, robot: str = "robot-1") -> str:
        return json.loads(self.robot_config(robot).read_text())["token"]

    def operator_token(self, name: str = "script-1") -> str:
        entries = json.loads((self.var / "operators.json").read_text())
        return next(entry["token"] for entry in entries if entry["name"] == name)

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End the process; how=SIGKILL as a crash would."""
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def live_server(var: Path, *, redis_url: str = "", port: int = 0) -> Iterator[LiveServer]:
    """Run daphne on a seeded installation for the length of the block."""
    port = port or free_port()
    with (var / f"web-{port}.log").open("ab") as log:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "daphne", "--bind", "127.0.0.1", "--port", str(port),
                "--verbosity", "0", "--websocket_timeout", "-1", "sop_web.asgi:application",
            ],
            cwd=ROOT,
            env=environment(var, redis_url),
            stdout=log,
            stderr=log,
        )  # fmt: skip
    server = LiveServer(var, port, redis_url, process)
    try:
        deadline = time.monotonic() + START_S
        while not answers(f"{server.url}/readyz"):
            assert process.poll() is None, server.log
            assert time.monotonic() < deadline, server.log
            time.sleep(0.05)
        yield server
    finally:
        server.stop()


def copy_installation(seeded: Path, to: Path) -> Path:
    """Return a copy of a seeded installation, with its paths put right."""
    shutil.copytree(seeded, to)
    for path in (to / "robots").glob("*.json"):
        path.write_text(path.read_text().replace(str(seeded), str(to)))
    return to
