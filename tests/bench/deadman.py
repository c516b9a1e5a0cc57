"""From an operator's last command to zero motion, over connections that are really cut.

Every cut is one of two kinds, in turn: the socket is aborted without a closing handshake, or the
operator goes silent with the socket open (what a frozen laptop or a dead radio look like, and the
dead-man's own case). Motion is what the robot recorded of its applied action at each tick, on its
own clock, which is this machine's. Telemetry alone would not do: it leaves ticks out when somebody
reads slowly, and the first one without motion may be among them.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.episode import open_part
from learning.experiments.ledger import Ledger
from tests.bench.clients import OperatorClient, open_operator, operator

# Driven for this long before each cut: past the handover, with a full pipeline of commands.
DRIVE_S = 0.6
PERIOD_S = 0.05
# Full speed in one direction, back in the next: the arm stays inside its workspace.
SPEED = 0.5
# An episode under way at the last cut is over after its timeout, and uploaded soon after.
EPISODES_S = 120.0


@dataclass(frozen=True, slots=True)
class Ticks:
    """The recorded control ticks of one episode."""

    step: np.ndarray  # int (n,)
    t_wall_ns: np.ndarray  # int (n,), when each began
    action: np.ndarray  # float (n, a), applied
    epoch: np.ndarray  # int (n,)


@dataclass(slots=True)
class Cut:
    """One cut: what the robot did after the last command of an operator."""

    robot: str
    aborted: bool
    episode: str = ""
    epoch: int = 0
    last_command_ns: int = 0
    # When each tick was over, by its number in the episode, for those that were seen.
    over_ns: dict[int, int] = field(default_factory=dict)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)

    def see(self, telemetry: m.Telemetry) -> None:
        """Take one tick in, until one without motion."""
        if not self.last_command_ns:
            self.episode = telemetry.episode.replace("-", "")
        if telemetry.episode.replace("-", "") != self.episode:
            # The episode ended in these milliseconds, and with it the motion; a scene that is
            # being reset reports no ticks.
            self.waiting.set()
            return
        # Telemetry is sent at the end of a tick and counts those that are over.
        self.over_ns[telemetry.tick - 1] = telemetry.t_wall_ns
        if self.last_command_ns and not any(telemetry.action[:3]):
            self.waiting.set()

    def stop_ms(self, ticks: Ticks) -> float | None:
        """Return milliseconds from the last command to the end of the first tick without motion.

        First after the last tick that moved by these commands: a gap between two of them is no
        stop. A tick that nobody saw took as long as the longest one seen. None when the robot never
        moved by these commands, or its episode ended before it stood.
        """
        moving = (np.abs(ticks.action[:, :3]) > 0).any(axis=1)  # (n,)
        driven = np.flatnonzero(moving & (ticks.epoch == self.epoch))
        still = np.flatnonzero(~moving & (ticks.t_wall_ns >= self.last_command_ns))
        still = still[still > driven.max(initial=-1)]
        if not driven.size or not still.size:
            return None
        began_ns = dict(zip(ticks.step.tolist(), ticks.t_wall_ns.tolist(), strict=True))
        took_ns = [over - began_ns[tick] for tick, over in self.over_ns.items() if tick in began_ns]
        tick = int(ticks.step[still[0]])
        over_ns = self.over_ns.get(tick, began_ns[tick] + max(took_ns, default=0))
        return (over_ns - self.last_command_ns) / 1e6


def recorded(ledger: Ledger, store: Path, uids: set[str]) -> dict[str, Ticks]:
    """Return the ticks of those episodes that have arrived, by uid (32 hexadecimal digits)."""
    objects = {path.name: path for path in store.rglob("*") if path.is_file()}
    parts: dict[str, list[tuple[np.ndarray, ...]]] = {}
    for uid, sha256 in ledger.rows(
        "SELECT e.uid, p.sha256 FROM learning_episode e"
        " JOIN learning_episodepart p ON p.episode_id = e.id"
        " WHERE e.state = 'closed' ORDER BY e.id, p.\"index\""
    ):
        if uid in uids:
            part = open_part(str(objects[sha256]))
            columns = ("step", "t_wall_ns", "action", "lease_epoch")
            parts.setdefault(uid, []).append(tuple(part.array(name) for name in columns))
    return {
        uid: Ticks(*(np.concatenate(column) for column in zip(*found, strict=True)))
        for uid, found in parts.items()
    }


async def _drive(client: OperatorClient, robot: str, epoch: int, sign: float) -> int:
    """Drive for DRIVE_S; return when the last command was sent, on the wall clock."""
    sent_ns = 0
    until = time.monotonic() + DRIVE_S
    seq = 0
    while time.monotonic() < until:
        seq += 1
        sent_ns = time.time_ns()
        await client.send(
            b.Drive(
                robot=robot,
                epoch=epoch,
                seq=seq,
                action=(sign * SPEED, 0.0, 0.0, 0.0),
                t_client_ms=1e3 * time.monotonic(),
            )
        )
        await asyncio.sleep(PERIOD_S)
    return sent_ns


async def _one(
    url: str, token: str, observer: OperatorClient, robot: str, number: int
) -> Cut | None:
    """Take over, drive, cut, watch the robot stop, and make it go on. None when it was refused."""
    state = observer.states.get(robot)
    heartbeat = state.heartbeat if state else None
    if heartbeat is None or heartbeat.purpose == "eval" or not heartbeat.episode:
        return None
    cut = Cut(robot, aborted=number % 2 == 0)

    def see(message: m.Message) -> None:
        if isinstance(message, b.RobotTelemetry) and message.robot == robot:
            cut.see(message.telemetry)

    client = await open_operator(url, token)
    try:
        try:
            cut.epoch = await client.take_over(robot)
        except (RuntimeError, TimeoutError):
            return None
        observer.listeners.append(see)
        try:
            last_ns = await _drive(client, robot, cut.epoch, 1.0 if number % 4 < 2 else -1.0)
            if cut.aborted:
                client.cut()
            cut.last_command_ns = last_ns
            await asyncio.wait_for(cut.waiting.wait(), 5)
        except TimeoutError:
            pass
        finally:
            observer.listeners.remove(see)
    finally:
        if not cut.aborted:
            await client.close()
    for _ in range(40):
        if await observer.go_on(robot):
            break
        await asyncio.sleep(0.25)
    return cut


async def _robot(
    url: str, token: str, observer: OperatorClient, robot: str, cuts: int, until: float
) -> list[Cut]:
    done: list[Cut] = []
    number = 0
    while len(done) < cuts and time.monotonic() < until:
        number += 1
        cut = await _one(url, token, observer, robot, number)
        if cut is None:
            await observer.go_on(robot)
            await asyncio.sleep(0.2)
        else:
            done.append(cut)
    return done


async def measure(
    url: str,
    *,
    token: str,
    ledger: Ledger,
    store: Path,
    robots: Sequence[str],
    cuts: int,
    budget_s: float,
) -> tuple[list[tuple[int, float]], int]:
    """Cut `cuts` connections, all robots at once.

    Returns:
        When the last command of each cut was sent, on the wall clock in nanoseconds, and the
        milliseconds from there to zero motion; and how many cuts count for nothing: the robot
        never moved, or its episode ended first or never arrived.
    """
    until = time.monotonic() + budget_s
    each = -(-cuts // len(robots))
    async with operator(url, token, telemetry=True) as observer:
        await asyncio.sleep(1.5)
        results = await asyncio.gather(
            *(_robot(url, token, observer, robot, each, until) for robot in robots)
        )
    every = [cut for part in results for cut in part]
    wanted = {cut.episode for cut in every if cut.episode}
    until = time.monotonic() + EPISODES_S
    episodes = recorded(ledger, store, wanted)
    while len(episodes) < len(wanted) and time.monotonic() < until:
        await asyncio.sleep(2)
        episodes = recorded(ledger, store, wanted)
    stops = [
        (cut.last_command_ns, stop)
        for cut in every
        if cut.episode in episodes and (stop := cut.stop_ms(episodes[cut.episode])) is not None
    ]
    return stops, len(every) - len(stops)
