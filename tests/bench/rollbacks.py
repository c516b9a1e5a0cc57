"""From a lead's click to every robot being told: `rollback_announce_p95_s`."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from tests.bench.clients import OperatorClient, operator

ANSWER_S = 15.0
PAUSE_S = 0.2


@dataclass(slots=True)
class Rollbacks:
    """What was measured, seconds from the click; and how many were not seen by everybody."""

    announced_s: list[float] = field(default_factory=list)
    answered_s: list[float] = field(default_factory=list)
    lost: int = 0


async def _signed_in(client: httpx.AsyncClient, name: str, password: str) -> None:
    await client.get("/login/")
    form = {"username": name, "password": password}
    answer = await client.post("/login/", data=form, headers=_token(client))
    if answer.status_code != 302:
        raise RuntimeError(f"{name} could not sign in: {answer.status_code}")


def _token(client: httpx.AsyncClient) -> dict[str, str]:
    return {"X-CSRFToken": client.cookies.get("csrftoken", "")}


async def _told(watcher: OperatorClient, robots: Sequence[str], number: int) -> None:
    while any(
        watcher.states.get(robot) is None or watcher.states[robot].assigned_number != number
        for robot in robots
    ):
        await asyncio.sleep(0.002)


async def measure(
    url: str,
    *,
    token: str,
    login: tuple[str, str],
    learner: str,
    numbers: Sequence[int],
    robots: Sequence[str],
    rollbacks: int,
) -> Rollbacks:
    """Roll the fleet back to each of `numbers` in turn, `rollbacks` times.

    Publishes wait meanwhile; the learner is automatic again at the end. Seen is a robot when an
    operator's socket says that it was told.
    """
    found = Rollbacks()
    async with (
        operator(url, token) as watcher,
        httpx.AsyncClient(base_url=url, timeout=ANSWER_S) as lead,
    ):
        await _signed_in(lead, *login)
        for number in itertools.islice(itertools.cycle(numbers), rollbacks + 1):
            clicked = time.perf_counter()
            waiting = asyncio.create_task(_told(watcher, robots, number))
            answer = await lead.post(
                f"/policies/{learner}/{number}/rollback/", headers=_token(lead)
            )
            answered_s = time.perf_counter() - clicked
            if answer.status_code != 302:
                raise RuntimeError(f"v{number} was not rolled back: {answer.status_code}")
            try:
                await asyncio.wait_for(waiting, ANSWER_S)
                found.announced_s.append(time.perf_counter() - clicked)
                found.answered_s.append(answered_s)
            except TimeoutError:
                found.lost += 1
            await asyncio.sleep(PAUSE_S)
        form = {"mode": "automatic"}
        await lead.post(f"/policies/{learner}/mode/", data=form, headers=_token(lead))
    # The first one also ends what was announced before.
    del found.announced_s[:1], found.answered_s[:1]
    return found
