"""Clients of the running system for benchmarks: operator and viewer sockets, asyncio."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from websockets.asyncio.client import ClientConnection, connect

from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.codec import decode_to_browser, encode_text, unpack_frame
from fleet.protocol.control import Mode

T = TypeVar("T", bound=m.Message)


class OperatorClient:
    """An operator socket whose messages are handed out by type, newest state kept."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.states: dict[str, b.RobotState] = {}
        self.listeners: list[Callable[[m.Message], None]] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for data in self.socket:
            message = decode_to_browser(data)
            if isinstance(message, b.Snapshot):
                self.states |= {state.robot: state for state in message.robots}
            elif isinstance(message, b.RobotState):
                self.states[message.robot] = message
            for listener in list(self.listeners):
                listener(message)

    async def send(self, message: m.Message) -> None:
        """Send one message."""
        await self.socket.send(encode_text(message))

    async def wait_for(
        self, kind: type[T], wanted: Callable[[T], bool] = lambda _: True, *, timeout_s: float = 10
    ) -> T:
        """Return the next message of `kind` that is wanted. Raises TimeoutError."""
        found: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def listen(message: m.Message) -> None:
            if isinstance(message, kind) and not found.done() and wanted(message):
                found.set_result(message)

        self.listeners.append(listen)
        try:
            return await asyncio.wait_for(found, timeout_s)
        finally:
            self.listeners.remove(listen)

    async def take_over(self, robot: str, *, timeout_s: float = 10) -> int:
        """Take a robot over and return the lease's epoch. Raises TimeoutError, RuntimeError."""
        waiting = asyncio.create_task(
            self.wait_for(b.TakeoverAnswer, lambda a: a.robot == robot, timeout_s=timeout_s)
        )
        await asyncio.sleep(0)
        await self.send(b.TakeOver(robot=robot))
        answer = await waiting
        if answer.lease is None:
            raise RuntimeError(f"{robot}: {answer.reason}")
        return answer.lease.epoch

    async def go_on(self, robot: str) -> bool:
        """Resume a robot that holds and that nobody has; say whether it acts by itself.

        It may hold from an earlier run: what an operator left does not wake by a restart.
        """
        state = self.states.get(robot)
        if state is None or state.heartbeat is None or state.lease is not None:
            return False
        if state.heartbeat.mode is Mode.HOLDING:
            await self.send(b.ResumeRobot(robot=robot))
        return state.heartbeat.mode is Mode.AUTONOMOUS

    def cut(self) -> None:
        """Cut the connection as a pulled cable does: no closing handshake, nothing flushed."""
        self._reader.cancel()
        self.socket.transport.abort()

    async def close(self) -> None:
        """End the connection in order."""
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await self._reader
        await self.socket.close()


def _headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def open_operator(url: str, token: str, *, telemetry: bool = False) -> OperatorClient:
    """Return a client that watches every robot."""
    socket = await connect(
        url.replace("http", "ws", 1) + "/ws/operator/",
        additional_headers=_headers(token),
        max_size=m.MAX_LINK_MESSAGE_BYTES,
        compression=None,
    )
    client = OperatorClient(socket)
    await client.send(b.Watch(every=True, telemetry=telemetry))
    return client


@asynccontextmanager
async def operator(
    url: str, token: str, *, telemetry: bool = False
) -> AsyncIterator[OperatorClient]:
    """Give a client for the life of the context."""
    client = await open_operator(url, token, telemetry=telemetry)
    try:
        yield client
    finally:
        await client.close()


async def watch_thumbnails(
    url: str, token: str, feeds: tuple[tuple[str, str, m.FeedSize], ...], ages_ms: list[float]
) -> None:
    """Show frames like a page does, returning each one's credit at once, until cancelled.

    Args:
        url: The system's address.
        token: An operator's.
        feeds: (robot, camera, size) to watch.
        ages_ms: Gets the age of each frame when the server sent it.
    """
    async with connect(
        url.replace("http", "ws", 1) + "/ws/feed/",
        additional_headers=_headers(token),
        max_size=m.MAX_LINK_MESSAGE_BYTES,
        compression=None,
    ) as socket:
        await socket.send(encode_text(b.WatchFrames(feeds=feeds)))
        async for data in socket:
            if isinstance(data, str):
                continue
            header, _ = unpack_frame(data)
            ages_ms.append(header.age_ms)
            shown = b.FrameShown(
                robot=header.robot, camera=header.camera, size=header.size, seq=header.seq
            )
            await socket.send(encode_text(shown))
