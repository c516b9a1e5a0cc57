"""From asking for a robot to having it: the lease's answer, and the robot under a person."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from fleet.protocol import browser as b
from fleet.protocol.control import Mode
from tests.bench.clients import OperatorClient, operator

PAUSE_S = 0.5


@dataclass(slots=True)
class Grants:
    """What was measured, milliseconds from the question; and how many were refused."""

    granted_ms: list[float] = field(default_factory=list)
    human_ms: list[float] = field(default_factory=list)
    refused: int = 0


async def _one(client: OperatorClient, robot: str, found: Grants) -> None:
    state = client.states.get(robot)
    beat = state.heartbeat if state else None
    if beat is None or beat.mode is not Mode.AUTONOMOUS or beat.purpose == "eval":
        await client.go_on(robot)
        return
    human = asyncio.create_task(
        client.wait_for(
            b.RobotState,
            lambda s: (
                s.robot == robot
                and s.heartbeat is not None
                and s.heartbeat.mode in (Mode.HANDOVER, Mode.TAKEOVER)
            ),
        )
    )
    started = time.perf_counter()
    try:
        epoch = await client.take_over(robot)
        found.granted_ms.append(1e3 * (time.perf_counter() - started))
        await human
        found.human_ms.append(1e3 * (time.perf_counter() - started))
    except (RuntimeError, TimeoutError):
        found.refused += 1
        human.cancel()
        return
    await client.send(b.HandBack(robot=robot, epoch=epoch))


async def measure(
    url: str, *, token: str, robots: Sequence[str], grants: int, budget_s: float
) -> Grants:
    """Take robots over one after the other, `grants` times, and hand each back at once."""
    found = Grants()
    until = time.monotonic() + budget_s
    async with operator(url, token) as client:
        number = 0
        while len(found.human_ms) < grants and time.monotonic() < until:
            await asyncio.sleep(PAUSE_S)
            await _one(client, robots[number % len(robots)], found)
            number += 1
    return found
