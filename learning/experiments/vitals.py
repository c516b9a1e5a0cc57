"""How a running system does: memory of every process, depth of queues and spools. Measured."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from learning.experiments.system import System

# Celery's queues, as the supervisor starts their workers.
QUEUES = ("default", "learner")
# What a command line says and which process that is.
_NAMES = (
    (r"daphne", "web"),
    (r"--queues default", "worker"),
    (r"--queues learner", "learner"),
    (r"sop_web beat", "beat"),
    (r"teleop\.scripted", "operators"),
    (r"robots/(robot-\d+)\.", ""),
    (r"redis-server", "redis"),
    (r"scripts/run\.py", "supervisor"),
)


@dataclass(frozen=True, slots=True)
class Vitals:
    """One look at a running system."""

    # Resident memory by process name; a process and its children of the same name are one.
    rss_mb: dict[str, float]
    pids: dict[str, int]
    # Messages waiting in each of Celery's queues; closed episodes waiting in robots' spools.
    queues: dict[str, int]
    spooled: int


def process_name(command: Sequence[str]) -> str | None:
    """Return which process of the system a command line is; None for shells and others."""
    if not command or Path(command[0]).name in ("sh", "bash", "dash"):
        return None
    line = " ".join(command)
    for pattern, name in _NAMES:
        if found := re.search(pattern, line):
            return name or found[1]
    return None


def look(system: System) -> Vitals:
    """Measure a running system."""
    rss_mb: dict[str, float] = {}
    pids: dict[str, int] = {}
    for process in system.processes():
        try:
            name = process_name(process.cmdline())
            used = process.memory_info().rss / 2**20
        except psutil.Error:
            continue
        if name is None:
            continue
        rss_mb[name] = rss_mb.get(name, 0.0) + used
        pids[name] = min(pids.get(name, process.pid), process.pid)
    told = json.loads((system.var / "ready.json").read_text())
    import redis  # this module is imported where no server library is

    with redis.Redis.from_url(told["redis_url"]) as client:
        queues = {queue: int(client.llen(queue)) for queue in QUEUES}
    spools = [json.loads(path.read_text())["spool"] for path in system.robots.values()]
    spooled = sum(
        1
        for spool in spools
        for folder in _folders(Path(spool))
        if (folder / "manifest.json").exists()
    )
    return Vitals(rss_mb, pids, queues, spooled)


def _folders(root: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(root) if entry.is_dir()]
    except FileNotFoundError:
        return []


def growth(
    looks: Sequence[dict[str, Any]], *, hours: Sequence[float], first_hour: float = 1.0
) -> dict[str, float]:
    """Return by how much each process grew after its first hour, relative.

    The median of the last tenth of the looks over the median of the tenth of an hour around the
    end of the first hour. A process that was started again counts from its last start; one that
    ran for less than two hours is left out.

    Args:
        looks: `Vitals` as JSON, in the order of time.
        hours: Of each look, since the system was started.
        first_hour: How much of the beginning does not count.
    """
    grown = {}
    for name in looks[-1]["rss_mb"]:
        pid = looks[-1]["pids"][name]
        own = [
            (hour, look["rss_mb"][name])
            for hour, look in zip(hours, looks, strict=True)
            if look["pids"].get(name) == pid
        ]
        began = own[0][0]
        if own[-1][0] - began < 2 * first_hour:
            continue
        width = first_hour / 10
        start = [mb for hour, mb in own if abs(hour - began - first_hour) <= width]
        late = [
            mb for hour, mb in own if hour >= own[-1][0] - max(width, 0.1 * (own[-1][0] - began))
        ]
        if start and late:
            grown[name] = median(late) / median(start) - 1
    return grown
