"""A hub whose time stands still unless a test moves it, and the peers that talk to it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from fleet.models import Operator, Robot
from fleet.services.live import hub as hub_module
from fleet.services.live.hub import Hub
from tests.factories import Cast, make_cast, make_operator, make_robot
from tests.fleet.peers import OperatorPeer, Peer, RobotPeer, ViewerPeer

P = TypeVar("P", bound=Peer)


class Clock:
    """Monotonic seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def hub(transactional_db: None, clock: Clock) -> AsyncIterator[Hub]:
    hub = hub_module.use(Hub(monotonic=clock))
    hub.start(timers=False)
    yield hub
    await hub.stop()
    # Channels' communicators keep their thread's connection open, and PostgreSQL then cannot drop
    # the test database.
    await sync_to_async(connections.close_all)()


@pytest.fixture
def arm(transactional_db: None) -> Robot:
    return make_robot("arm-01")


@pytest.fixture
def crew(transactional_db: None) -> Cast:
    return make_cast()


@pytest.fixture
def script(transactional_db: None) -> Operator:
    return make_operator("script", token="script-token")


@pytest.fixture
async def opened(hub: Hub) -> AsyncIterator[Callable[[P], Awaitable[P]]]:
    """Open peers that are closed when the test ends."""
    peers: list[Peer] = []

    async def open_peer(peer: P) -> P:
        peers.append(peer)
        await peer.open()
        return peer

    yield open_peer
    for peer in peers:
        # Some were closed by the test or by the server.
        with contextlib.suppress(Exception, asyncio.CancelledError):
            await peer.close()


@pytest.fixture
async def robot(opened: Callable[[Peer], Awaitable[Peer]], arm: Robot) -> RobotPeer:
    """arm-01, connected, introduced and beating."""
    robot = await opened(RobotPeer("arm-01"))
    await robot.hello()
    await robot.heartbeat()
    return robot


@pytest.fixture
async def scripted(
    opened: Callable[[Peer], Awaitable[Peer]], script: Operator, robot: RobotPeer
) -> OperatorPeer:
    """A scripted operator that watches everything."""
    peer = await opened(OperatorPeer(token="script-token"))
    await peer.watch()
    return peer


@pytest.fixture
async def viewer(
    opened: Callable[[Peer], Awaitable[Peer]], script: Operator, robot: RobotPeer
) -> ViewerPeer:
    return await opened(ViewerPeer(token="script-token"))
