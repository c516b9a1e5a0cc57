"""From an operator's last command to zero motion, over connections that are really cut.

Every cut is one of two kinds, in turn: the socket is aborted without a closing handshake, or the
operator goes silent with the socket open (what a frozen laptop or a dead radio look like, and the
dead-man's own case). Motion is what the robot reports of its applied action at each tick, on its
own clock, which is this machine's.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from fleet.protocol import messages as m
from tests.bench.clients import OperatorClient, open_operator, operator

# Driven for this long before each cut: past the handover, with a full pipeline of commands.
DRIVE_S = 0.6
PERIOD_S = 0.05
# Full speed in one direction, back in the next: the arm stays inside its workspace.
SPEED = 0.5


@dataclass(slots=True)
class Cut:
    """One cut: what the robot did after the last command of an operator."""

    robot: str
    aborted: bool
    last_command_ns: int = 0
    still_ns: int | None = None
    moved: bool = False
    episode: str = ""
    waiting: asyncio.Event = field(default_factory=asyncio.Event)

    def see(self, telemetry: m.Telemetry) -> None:
        """Take one tick in: the last moment with motion, and the first without after it."""
        motion = max(abs(x) for x in telemetry.action[:3])
        if not self.last_command_ns:
            self.moved = self.moved or motion > 0
            self.episode = telemetry.episode
        elif telemetry.episode != self.episode:
            # The episode ended in these milliseconds, and with it the motion; a scene that is
            # being reset reports no ticks.
            self.waiting.set()
        elif telemetry.t_wall_ns >= self.last_command_ns and motion == 0.0:
            self.still_ns = self.still_ns or telemetry.t_wall_ns
            self.waiting.set()

    @property
    def stop_ms(self) -> float | None:
        """Milliseconds from the last command to the first tick without motion."""
        if self.still_ns is None or not self.moved:
            return None
        return (self.still_ns - self.last_command_ns) / 1e6


async def _drive(client: OperatorClient, robot: str, epoch: int, sign: float) -> int:
    """Drive for DRIVE_S; return when the last command was sent, on the wall clock."""
    sent_ns = 0
    until = time.monotonic() + DRIVE_S
    seq = 0
    while time.monotonic() < until:
        seq += 1
        sent_ns = time.time_ns()
        await client.send(
            m.Drive(
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
        if isinstance(message, m.RobotTelemetry) and message.robot == robot:
            cut.see(message.telemetry)

    client = await open_operator(url, token)
    try:
        try:
            epoch = await client.take_over(robot)
        except (RuntimeError, TimeoutError):
            return None
        observer.listeners.append(see)
        try:
            last_ns = await _drive(client, robot, epoch, 1.0 if number % 4 < 2 else -1.0)
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
    url: str, *, token: str, robots: Sequence[str], cuts: int, budget_s: float
) -> tuple[list[tuple[int, float]], int]:
    """Cut `cuts` connections, all robots at once.

    Returns:
        When the last command of each cut was sent, on the wall clock in nanoseconds, and the
        milliseconds from there to zero motion; and how many cuts count for nothing: the robot
        never moved, its episode ended first, or no tick without motion was seen in five seconds.
    """
    until = time.monotonic() + budget_s
    each = -(-cuts // len(robots))
    async with operator(url, token, telemetry=True) as observer:
        await asyncio.sleep(1.5)
        results = await asyncio.gather(
            *(_robot(url, token, observer, robot, each, until) for robot in robots)
        )
    every = [cut for part in results for cut in part]
    stops = [(cut.last_command_ns, stop) for cut in every if (stop := cut.stop_ms) is not None]
    return stops, len(every) - len(stops)
