"""A small real gateway: the server's end of one robot's control link, driven by a test."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from websockets.asyncio.server import ServerConnection, serve

from fleet.protocol import messages as m
from fleet.protocol.codec import decode_from_robot, encode_link


class Gateway:
    """Greets the robot, answers pings, and keeps what it says."""

    def __init__(self) -> None:
        self.got: list[m.Message] = []
        self.changed = threading.Condition()
        self.greeting: list[m.Message] = []
        self.loop = asyncio.new_event_loop()
        self.socket: ServerConnection | None = None
        self.url = ""
        self.connections = 0

    async def handle(self, socket: ServerConnection) -> None:
        async for data in socket:
            assert isinstance(data, bytes)
            message = decode_from_robot(data)
            if isinstance(message, m.Hello):
                greeting = [m.Welcome(protocol=1, t_wall_ns=time.time_ns()), *self.greeting]
                for answer in greeting:
                    await socket.send(encode_link(answer))
                with self.changed:
                    self.socket = socket
                    self.connections += 1
            if isinstance(message, m.Ping):
                pong = m.Pong(t_sender_ns=message.t_sender_ns, t_wall_ns=time.time_ns())
                await socket.send(encode_link(pong))
            with self.changed:
                self.got.append(message)
                self.changed.notify_all()

    def send(self, message: m.Message) -> None:
        assert self.socket is not None
        future = asyncio.run_coroutine_threadsafe(self.socket.send(encode_link(message)), self.loop)
        future.result(20)

    def cut(self) -> None:
        """Break the connection without a word."""
        assert self.socket is not None
        transport = self.socket.transport
        self.loop.call_soon_threadsafe(transport.abort)

    def clear(self) -> None:
        with self.changed:
            self.got.clear()


def wait_for(
    gateway: Gateway, kind: type, when: Callable[[m.Message], bool] = lambda message: True
) -> m.Message:
    """Return the first message of `kind` for which `when` holds, waiting until it comes."""

    def found() -> m.Message | None:
        matching = (g for g in gateway.got if isinstance(g, kind) and when(g))
        return next(matching, None)

    with gateway.changed:
        gateway.changed.wait_for(lambda: found() is not None, 30)
        message = found()
    assert message is not None, f"no such {kind.__name__} came"
    return message


@contextmanager
def gateway() -> Iterator[Gateway]:
    """Run a gateway in a thread."""
    gate = Gateway()
    started, stop = threading.Event(), asyncio.Event()

    async def main() -> None:
        async with serve(gate.handle, "127.0.0.1", 0, max_size=None) as listening:
            port = next(iter(listening.sockets)).getsockname()[1]
            gate.url = f"http://127.0.0.1:{port}"
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: gate.loop.run_until_complete(main()), daemon=True)
    thread.start()
    assert started.wait(20)
    try:
        yield gate
    finally:
        gate.loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        gate.loop.close()
