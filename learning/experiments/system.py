"""Start the whole product headless for an experiment, talk to it as a client, and stop all of it.

The system runs under its own supervisor (`scripts/run.py`) in a folder and on a port of its own,
so that an experiment neither meets nor disturbs a system somebody else runs on this machine.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from learning.experiments.ledger import Ledger

ROOT = Path(__file__).resolve().parent.parent.parent
SUPERVISOR = ROOT / "scripts" / "run.py"
# Migrations, seeds, demonstrations and their import, on a busy machine.
PREPARE_S = 900.0
STOP_S = 40.0
# What outlives the supervisor gets this long to end by itself.
STRAY_S = 5.0


class SystemFailed(RuntimeError):
    """The system ended, or did not become ready; the text says where to read why."""


@dataclass(frozen=True, slots=True)
class System:
    """A running system as a client sees it."""

    url: str
    var: Path
    # Wall clock when its processes were started: nothing was learned before.
    started_s: float
    # Seconds from there until every robot was live.
    ready_s: float
    pid: int

    @property
    def ledger(self) -> Ledger:
        """The system's database."""
        return Ledger(self.var / "sop.sqlite3")

    @property
    def robots(self) -> dict[str, Path]:
        """Each simulated robot's configuration file, by name."""
        return {path.stem: path for path in sorted((self.var / "robots").glob("*.*"))}

    def robot_token(self) -> str:
        """Return the bearer token of a robot, as its configuration has it."""
        path = next(iter(self.robots.values()))
        if path.suffix == ".toml":
            return str(tomllib.loads(path.read_text())["token"])
        return str(json.loads(path.read_text())["token"])

    def operator_token(self, index: int = 0) -> str:
        """Return the bearer token of a scripted operator."""
        operators = json.loads((self.var / "operators.json").read_text())
        return str([one["token"] for one in operators if one["kind"] == "scripted"][index])

    def login(self, role: str) -> tuple[str, str]:
        """Return name and password of the seeded person with `role`. Raises KeyError."""
        lines = (self.var / "logins.txt").read_text().splitlines()
        logins = dict(line.split("\t")[:2] for line in lines if "\t" in line)
        return role, logins[role]

    def weights(self, sha256: str) -> bytes:
        """Return the whole artifact of a version: over HTTP, with its base, as a robot gets it."""
        from learning.core.policies.base import whole_artifact

        return whole_artifact(self._object(sha256), lambda base: self._object(base.sha256))

    def _object(self, sha256: str) -> bytes:
        answer = httpx.get(
            f"{self.url}/api/policies/{sha256}/weights",
            headers={"Authorization": f"Bearer {self.robot_token()}"},
            follow_redirects=True,
            timeout=30,
        )
        return answer.raise_for_status().content

    def processes(self) -> list[psutil.Process]:
        """Return the supervisor and everything it started."""
        try:
            supervisor = psutil.Process(self.pid)
            return [supervisor, *supervisor.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def process(self, *words: str) -> psutil.Process:
        """Return the Python process whose command line holds every one of `words`.

        Raises:
            SystemFailed: There is none.
        """
        for process in self.processes():
            try:
                line = process.cmdline()
            except psutil.Error:
                continue
            python = line and "python" in Path(line[0]).name
            if python and all(any(word in part for part in line) for word in words):
                return process
        raise SystemFailed(f"no process with {words} runs")


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let a second Ctrl-C wait: an interrupted clean-up would leave processes running."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the supervisor and whatever of its processes outlives it."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    _, alive = psutil.wait_procs(children, timeout=STRAY_S)
    for child in alive:
        child.kill()
    psutil.wait_procs(alive, timeout=5)


@contextmanager
def running_system(
    var: Path,
    *,
    robots: int,
    operators: int,
    environment: Mapping[str, str] | None = None,
    arguments: tuple[str, ...] = (),
) -> Iterator[System]:
    """Run the whole system in `var` for the life of the context.

    Args:
        var: Its folder; made when missing. A used one goes on where it was.
        robots: How many simulated robots.
        operators: How many scripted operators.
        environment: Added to this process's own.
        arguments: More options of `scripts/run.py`.

    Raises:
        SystemFailed: It ended or was not ready in time.
    """
    var.mkdir(parents=True, exist_ok=True)
    ready = var / "ready.json"
    ready.unlink(missing_ok=True)
    command = [
        sys.executable,
        str(SUPERVISOR),
        *("--var", str(var), "--port", "0", "--ready-file", str(ready), "--quiet"),
        *("--robots", str(robots), "--operators", str(operators), *arguments),
    ]
    with (var / "run.log").open("ab") as log:
        # Its own session: an interrupt of ours is passed on once, by us, as a request to stop.
        process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + PREPARE_S
        while not ready.exists():
            if process.poll() is not None:
                raise SystemFailed(f"the system ended with {process.returncode}: see {var}/run.log")
            if time.monotonic() > until:
                raise SystemFailed(f"the system was not ready in {PREPARE_S:.0f} s: see {var}/logs")
            time.sleep(0.1)
        told = json.loads(ready.read_text())
        ready_s = float(told["seconds"])
        started_s = ready.stat().st_mtime - ready_s
        yield System(str(told["url"]), var, started_s, ready_s, process.pid)
    finally:
        with _undisturbed():
            _stop(process)
