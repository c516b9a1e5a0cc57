"""The real system for browser tests: Redis, migrated database, daphne and simulated robots.

Everything is a subprocess and everything is seeded by management commands: Playwright's sync API
runs an event loop in the test process, where the ORM refuses to work.
"""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from scripts.embedded_redis import free_port

ROOT = Path(__file__).resolve().parents[2]
START_S = 150.0


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = START_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} within {seconds} s")
        time.sleep(0.05)


class Site:
    def __init__(self, var: Path, redis_url: str) -> None:
        self.var = var
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.env = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("SOP_", "DATABASE", "DJANGO", "PYTEST", "PYTHONDEV"))
        } | {
            "DJANGO_SETTINGS_MODULE": "sop_web.settings",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "SOP_VAR": str(var),
            "REDIS_URL": redis_url,
            "OMP_NUM_THREADS": "1",
            "MUJOCO_GL": "osmesa",
            "PYOPENGL_PLATFORM": "osmesa",
        }

    def manage(self, *arguments: str) -> None:
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, env=self.env, cwd=ROOT, capture_output=True, check=False)
        assert done.returncode == 0, f"{arguments}: {done.stderr.decode()[-2000:]}"

    def run(self, code: str) -> None:
        """Run Python in a process of the system, where the ORM works."""
        self.manage("shell", "--no-imports", "-c", code)

    def start(self, name: str, *arguments: str) -> None:
        with (self.var / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *arguments], env=self.env, cwd=ROOT, stdout=log, stderr=log
            )

    def start_web(self) -> None:
        self.start(
            "web", "-m", "daphne", "--bind", "127.0.0.1", "--port", str(self.port),
            "--verbosity", "0", "sop_web.asgi:application",
        )  # fmt: skip
        wait_until(self.answers, f"daphne answers (see {self.var}/web.log)")

    def start_robot(self, name: str) -> None:
        config = self.var / "robots" / f"{name}.json"
        self.start(name, "-m", "fleet.agent", "--config", str(config), "--server", self.url)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/login/", timeout=2) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def suspend(self, name: str) -> None:
        """Freeze a process without closing its sockets: what a hung machine looks like."""
        self.processes[name].send_signal(signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGCONT)

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        # Nothing here is worth a graceful end, and daphne takes seconds for one.
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()
