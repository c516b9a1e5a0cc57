"""How soon an operator sees that a robot asks for help: `help_p95_ms`."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fleet.protocol import browser as b
from tests.bench.clients import OperatorClient, operator

ANSWER_S = 5.0
# Between two asks: a robot says something new at most once a tick, and nobody asks faster.
PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as an operator saw it."""

    # From the robot's decision, by its own clock on the same machine.
    seen_ms: float
    # From the moment at which somebody asked for it on another socket.
    asked_ms: float


async def _ask(
    asker: OperatorClient, observer: OperatorClient, robot: str, *, wanted: bool
) -> Seen | None:
    """Ask for help, or take it back; return when the observer saw it, None when it did not."""
    asked_ns = time.time_ns()
    arrived_ns = 0

    def changed(state: b.HelpState) -> bool:
        nonlocal arrived_ns
        arrived_ns = time.time_ns()
        asks = "explicit" in state.reasons and state.status == "open"
        # A need's number is the robot's clock in microseconds when its newest reason came.
        fresh = 1000 * state.number > asked_ns - 1_000_000
        return state.robot == robot and (asks and fresh if wanted else not asks)

    waiting = asyncio.create_task(observer.wait_for(b.HelpState, changed, timeout_s=ANSWER_S))
    await asyncio.sleep(0)
    await asker.send(b.AskHelp(robot=robot, wanted=wanted, reason="benchmark"))
    try:
        state = await waiting
    except TimeoutError:
        return None
    return Seen((arrived_ns - 1000 * state.number) / 1e6, (arrived_ns - asked_ns) / 1e6)


async def measure(
    url: str, *, token: str, robots: Sequence[str], asks: int, budget_s: float
) -> tuple[list[Seen], int]:
    """Ask for help with one robot after the other.

    Returns:
        What was seen, and how many asks were not seen within ANSWER_S.
    """
    until = time.monotonic() + budget_s
    seen: list[Seen] = []
    lost = 0
    async with operator(url, token) as observer, operator(url, token) as asker:
        await asyncio.sleep(1.5)
        for robot in itertools.islice(itertools.cycle(robots), asks):
            if time.monotonic() > until:
                break
            one = await _ask(asker, observer, robot, wanted=True)
            if one is None:
                lost += 1
            else:
                seen.append(one)
            await _ask(asker, observer, robot, wanted=False)
            await asyncio.sleep(PAUSE_S)
    return seen, lost
