"""Real agents killed with SIGKILL in the middle of episodes: is half an episode ever visible?

Each agent is `fleet.agent.__main__` with a robot's own configuration and spool, forked from a
process that has imported it already: a hundred imports of torch and MuJoCo would take the time of
the whole benchmark. Restarted agents find what the dead one left in the spool and upload it.
"""

import asyncio
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from fleet.protocol import browser as b
from tests.bench.clients import OperatorClient, operator

# The benchmark itself too: each child imports it again, and then finds all of it there.
PRELOAD = (
    "fleet.agent.__main__",
    "fleet.agent.drivers.metaworld",
    "metaworld",
    "tests.bench.__main__",
)
START_S = 30.0


def _agent(config: str, server: str, log: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ["fleet.agent", "--config", config, "--server", server]
    from fleet.agent.__main__ import main

    code = main()
    sys.stdout.flush()
    os._exit(code)


def _start(var: Path, server: str, robot: str) -> ForkServerProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))
    config = next((var / "robots").glob(f"{robot}.*"))
    log = var / "logs" / f"killed-{robot}.log"
    process = context.Process(target=_agent, args=(str(config), server, str(log)), daemon=True)
    process.start()
    return process


async def _keep_going(client: OperatorClient, robot: str) -> None:
    while True:
        await client.go_on(robot)
        await asyncio.sleep(0.5)


async def _kill_one(
    client: OperatorClient, var: Path, server: str, robot: str, chance: random.Random
) -> str | None:
    """Start an agent, kill it in an episode; return that episode's uid, None when none began."""
    begun_ns = time.time_ns()
    process = await asyncio.to_thread(_start, var, server, robot)
    going = asyncio.create_task(_keep_going(client, robot))
    try:
        ticks = chance.randint(3, 60)
        seen = await client.wait_for(
            b.RobotTelemetry,
            lambda t: (
                t.robot == robot
                and t.telemetry.t_wall_ns > begun_ns
                and bool(t.telemetry.episode)
                and t.telemetry.tick >= ticks
            ),
            timeout_s=START_S,
        )
        return seen.telemetry.episode
    except TimeoutError:
        return None
    finally:
        going.cancel()
        process.kill()
        await asyncio.to_thread(process.join)


async def _drain(client: OperatorClient, var: Path, server: str, robot: str) -> bool:
    """Run the agent once more until its spool is empty but for the episode under way."""
    begun_ns = time.time_ns()
    process = await asyncio.to_thread(_start, var, server, robot)
    try:
        await client.wait_for(
            b.RobotState,
            lambda s: (
                s.robot == robot
                and s.heartbeat is not None
                and s.heartbeat.t_wall_ns > begun_ns
                and s.heartbeat.spool_episodes <= 1
            ),
            timeout_s=60,
        )
    except TimeoutError:
        return False
    finally:
        process.terminate()
        await asyncio.to_thread(process.join, 15)
        process.kill()
    return True


async def measure(
    url: str, *, token: str, var: Path, robots: Sequence[str], kills: int, budget_s: float
) -> tuple[list[str], bool]:
    """Kill agents of `robots`, all side by side.

    Returns:
        The uid of each episode an agent was killed in, and whether every spool drained afterwards.
    """
    until = time.monotonic() + budget_s
    each = -(-kills // len(robots))

    async with operator(url, token, telemetry=True) as client:

        async def of(robot: str) -> list[str]:
            chance = random.Random(robot)
            killed: list[str] = []
            while len(killed) < each and time.monotonic() < until:
                uid = await _kill_one(client, var, url, robot, chance)
                if uid is not None:
                    killed.append(uid)
            return killed

        killed = await asyncio.gather(*(of(robot) for robot in robots))
        drained = await asyncio.gather(*(_drain(client, var, url, robot) for robot in robots))
    return [uid for part in killed for uid in part], all(drained)
