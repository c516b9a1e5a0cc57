"""The fleet at work: jitter of its control loops, how fast episodes and versions travel."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.episode import open_part
from fleet.protocol.simulation import robot_spec
from learning.experiments.ledger import Ledger, seconds
from tests.bench.clients import operator, watch_thumbnails


@dataclass(slots=True)
class Window:
    """What was seen of the robots while they were watched."""

    seconds: float = 0.0
    # Every heartbeat's own p99 over its second of ticks, milliseconds.
    jitter_p99_ms: list[float] = field(default_factory=list)
    busy_p50_ms: list[float] = field(default_factory=list)
    ticks: int = 0
    missed_ticks: int = 0
    frame_ages_ms: list[float] = field(default_factory=list)


async def watch(url: str, token: str, *, seconds_: float) -> Window:
    """Watch every robot's thumbnails and telemetry for a while, and collect their heartbeats."""
    window = Window(seconds=seconds_)
    seen: set[tuple[str, int]] = set()

    def collect(message: m.Message) -> None:
        if not isinstance(message, b.RobotState) or message.heartbeat is None:
            return
        beat = message.heartbeat
        if (message.robot, beat.seq) in seen or not beat.loop.ticks:
            return
        seen.add((message.robot, beat.seq))
        window.jitter_p99_ms.append(beat.loop.jitter_p99_ms)
        window.busy_p50_ms.append(beat.loop.busy_p50_ms)
        window.ticks += beat.loop.ticks
        window.missed_ticks += beat.loop.missed_ticks

    async with operator(url, token, telemetry=True) as client:
        snapshot = await client.wait_for(b.Snapshot, timeout_s=10)
        robots = [state.robot for state in snapshot.robots]
        camera = robot_spec("image").cameras[0].name
        feeds = tuple((robot, camera, "thumbnail") for robot in robots)
        client.listeners.append(collect)
        viewer = asyncio.create_task(watch_thumbnails(url, token, feeds, window.frame_ages_ms))
        await asyncio.sleep(seconds_)
        viewer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await viewer
    return window


def lateness_of(t_ms: np.ndarray, period_ms: float) -> tuple[np.ndarray, np.ndarray]:
    """Return how late each tick of an episode began and how many are missing before it, each [n].

    No tick begins early, so the grid is the one on which the ticks are least late in the mean;
    the earliest alone would not do, because a tick late by more than half a period looks early.
    """
    phase = t_ms % period_ms  # (n,)
    late = (phase[None, :] - phase[:, None]) % period_ms  # of each tick, on each tick's grid
    grid = phase[np.argmin(late.mean(axis=1))]
    periods = np.diff(np.floor((t_ms - grid) / period_ms), prepend=np.nan)
    missing = np.maximum(0, np.nan_to_num(periods - 1)).astype(np.int64)
    return (phase - grid) % period_ms, missing


def lateness_ms(ledger: Ledger, store: Path, since: str) -> tuple[np.ndarray, np.ndarray]:
    """Return how late each control tick of the episodes since began, and when it was, each [n].

    In milliseconds and wall nanoseconds. A tick that was left out counts as late by one period.
    """
    objects = {path.name: path for path in store.rglob("*") if path.is_file()}
    rows = ledger.rows(
        "SELECT e.id, e.control_period_s, p.sha256 FROM learning_episode e"
        " JOIN learning_episodepart p ON p.episode_id = e.id"
        " WHERE e.state = 'closed' AND e.purpose != 'demonstration' AND e.started_at >= ?"
        ' ORDER BY e.id, p."index"',
        since,
    )
    episodes: dict[tuple[int, float], list[np.ndarray]] = {}
    for episode, period_s, sha256 in rows:
        part = open_part(str(objects[sha256]))
        clocks = np.stack((part.array("t_mono_ns"), part.array("t_wall_ns")))  # (2, n)
        episodes.setdefault((episode, period_s), []).append(clocks)
    late, at_ns = [np.zeros(0)], [np.zeros(0, np.int64)]
    for (_, period_s), parts in episodes.items():
        mono_ns, wall_ns = np.concatenate(parts, axis=1)
        own, missing = lateness_of(mono_ns / 1e6, 1e3 * period_s)
        late += [own, np.full(missing.sum(), 1e3 * period_s)]
        at_ns += [wall_ns, np.repeat(wall_ns, missing)]
    return np.concatenate(late), np.concatenate(at_ns)


def episode_to_gradient_s(ledger: Ledger, since: str) -> list[float]:
    """Return, of each corrected episode that was trained on, seconds from its end to that step."""
    rows = ledger.rows(
        "SELECT ended_at, first_trained_at FROM learning_episode"
        " WHERE purpose = 'train' AND human_steps > 0 AND first_trained_at IS NOT NULL"
        " AND ended_at >= ?",
        since,
    )
    return [(seconds(trained) or 0.0) - (seconds(ended) or 0.0) for ended, trained in rows]


def publish_transfer_s(ledger: Ledger, robots: int, since: str) -> list[float]:
    """Return, of each version, seconds from its row to the last robot that verified its bytes.

    A version that some robot never reported counts only when a later one overtook it there:
    robots fetch the newest. Such versions are left out.
    """
    rows = ledger.rows(
        "SELECT v.created_at, MAX(r.first), COUNT(*) FROM learning_policyversion v JOIN"
        " (SELECT number, sha256, robot_id, MIN(robot_wall_ns) AS first FROM fleet_policyreport"
        "  WHERE status = 'verified' GROUP BY number, sha256, robot_id) r"
        " ON r.number = v.number AND r.sha256 = v.sha256"
        " WHERE v.state = 'published' AND v.created_at >= ?"
        " GROUP BY v.id HAVING COUNT(*) >= ?",
        since,
        robots,
    )
    return [last_ns / 1e9 - (seconds(created) or 0.0) for created, last_ns, _ in rows]


def published(ledger: Ledger, since: str) -> int:
    """Count the versions published since."""
    return int(
        ledger.one(
            "SELECT COUNT(*) FROM learning_policyversion"
            " WHERE state = 'published' AND created_at >= ?",
            since,
        )
    )


def now_stamp() -> str:
    """Return the present as the database writes it."""
    return time.strftime("%Y-%m-%d %H:%M:%S.000000", time.gmtime())
