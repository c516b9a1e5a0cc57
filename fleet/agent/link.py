"""The control link: one WebSocket to the server, in a thread of its own.

The loop and the other threads put messages into an `Outbox`; one writer sends them. State
overwrites its slot, so a slow network lowers rates and never raises latency; answers and reports
are queued. Commands go straight to the arbiter as they arrive.
"""

import asyncio
import contextlib
import logging
import random
import threading
from collections import deque
from typing import Protocol

import websockets
from websockets.asyncio.client import ClientConnection, connect

from fleet.agent.clock import Clock
from fleet.agent.outbox import Outbox
from fleet.agent.priority import in_real_time
from fleet.agent.uploader import backoff_s
from fleet.protocol import messages as m
from fleet.protocol.codec import BadMessage, decode_to_robot, encode_link

log = logging.getLogger(__name__)

# Nothing heard for this long: the connection is taken for dead and made anew.
SILENCE_S = 5.0
# Wait before trying again when the server says no: a person must act first.
REFUSED_BACKOFF_S = 15.0
# A connection that lasted this long was a good one: the next failure is the first again.
SETTLED_S = 5.0
_REFUSALS = frozenset(
    (
        m.CloseCode.UNAUTHENTICATED,
        m.CloseCode.FORBIDDEN,
        m.CloseCode.PROTOCOL_VERSION,
        # Another agent uses this robot's name and token; two must not take turns.
        m.CloseCode.REPLACED,
    )
)
_CLOCK_SAMPLES = 10


class Side(Protocol):
    """What the link asks of the agent; all are called from the link's thread and must not block."""

    def hello(self) -> m.Hello:
        """Return the first message of a connection."""

    def heartbeat(self, seq: int) -> m.Heartbeat:
        """Return what the robot is now."""

    def heard(self) -> None:
        """Note that the server is there."""

    async def received(self, message: m.ToRobot) -> None:
        """Take one message of the server."""


class LinkClock:
    """Round trip and clock offset from pings: the offset of the fastest recent one counts."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=_CLOCK_SAMPLES)
        # Last round trip, milliseconds.
        self.rtt_ms = 0.0
        # Server wall clock minus robot wall clock.
        self.offset_ns = 0

    def welcome(self, server_wall_ns: int, robot_wall_ns: int) -> None:
        """Take a first, rough offset; wrong by at most the way here."""
        self._samples.clear()
        self.offset_ns = server_wall_ns - robot_wall_ns

    def pong(self, *, sent_ns: int, now_ns: int, server_wall_ns: int, robot_wall_ns: int) -> None:
        """Take the answer to a ping sent at `sent_ns` on the monotonic clock."""
        rtt_ns = now_ns - sent_ns
        if rtt_ns < 0:
            return
        self.rtt_ms = rtt_ns / 1e6
        self._samples.append((self.rtt_ms, server_wall_ns + rtt_ns // 2 - robot_wall_ns))
        self.offset_ns = min(self._samples)[1]


class Link:
    """Keeps the control link up.

    Args:
        server: Base URL (http or https), without a trailing slash.
        token: The robot's bearer token.
        side: The agent.
        outbox: What to send.
        realtime: Schedule the thread before everything else on the machine, if allowed.
    """

    def __init__(
        self,
        *,
        server: str,
        token: str,
        side: Side,
        outbox: Outbox,
        clock: Clock,
        realtime: bool = False,
    ) -> None:
        self._url = "ws" + server.removeprefix("http") + "/ws/robot/"
        self._headers = {"Authorization": f"Bearer {token}"}
        self._side = side
        self._outbox = outbox
        self._clock = clock
        self._realtime = realtime
        self.timing = LinkClock()
        self.connected = False
        self._thread = threading.Thread(target=self._main, name="link", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._stopping = threading.Event()
        self._heard_ns = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Close the link and end the thread."""
        self._stopping.set()
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _main(self) -> None:
        if self._realtime:
            in_real_time()
        asyncio.run(self._keep())

    async def _keep(self) -> None:
        self._stop = stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._stopping.is_set():
            return
        failures, rng = 0, random.Random()
        while not stop.is_set():
            wait_s = 0.0
            try:
                async with connect(
                    self._url,
                    additional_headers=self._headers,
                    max_size=m.MAX_LINK_MESSAGE_BYTES,
                    compression=None,
                    open_timeout=5,
                    close_timeout=1,
                    ping_interval=None,
                ) as socket:
                    begun_ns = self._clock.monotonic_ns()
                    await self._serve(socket, stop)
                    reason = f"closed ({socket.close_code} {socket.close_reason})"
                    if socket.close_code in _REFUSALS:
                        wait_s = REFUSED_BACKOFF_S
                    if self._clock.monotonic_ns() - begun_ns > SETTLED_S * 1e9:
                        # A server that closes at once must not be asked again at once.
                        failures = 0
            except websockets.InvalidStatus as error:
                reason = f"the server answered {error.response.status_code}"
                if error.response.status_code in (401, 403):
                    wait_s = REFUSED_BACKOFF_S
                    reason += ": check the robot's name and token"
            except (OSError, TimeoutError, websockets.WebSocketException) as error:
                reason = f"{type(error).__name__}: {error}"
            failures += 1
            if failures == 1:
                log.warning("link: down, %s", reason)
            wait_s = max(wait_s, min(5.0, backoff_s(failures, rng)))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), wait_s)

    async def _serve(self, socket: ClientConnection, stop: asyncio.Event) -> None:
        wake = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wake_writer() -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(wake.set)

        self._outbox.attach(wake_writer)
        self._heard_ns = self._clock.monotonic_ns()
        try:
            await socket.send(encode_link(self._side.hello()))
            self.connected = True
            jobs = [
                asyncio.ensure_future(job)
                for job in (
                    self._read(socket),
                    self._write(socket, wake),
                    self._beat(),
                    stop.wait(),
                )
            ]
            done, pending = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            for job in pending:
                job.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            for job in done:
                if job.exception() and not isinstance(
                    job.exception(), websockets.ConnectionClosed | TimeoutError
                ):
                    log.error("link: failed", exc_info=job.exception())
        finally:
            self.connected = False
            self._outbox.detach()

    async def _read(self, socket: ClientConnection) -> None:
        async for data in socket:
            self._heard_ns = self._clock.monotonic_ns()
            self._side.heard()
            if isinstance(data, str):
                data = data.encode()
            try:
                message = decode_to_robot(data)
            except BadMessage as error:
                self._outbox.put_answer(
                    m.Acknowledged(accepted=False, command="unknown", reason=str(error)[:500])
                )
                continue
            await self._take(message)

    async def _take(self, message: m.ToRobot) -> None:
        match message:
            case m.Ping():
                self._outbox.put_answer(
                    m.Pong(t_sender_ns=message.t_sender_ns, t_wall_ns=self._clock.wall_ns())
                )
            case m.Pong():
                self.timing.pong(
                    sent_ns=message.t_sender_ns,
                    now_ns=self._clock.monotonic_ns(),
                    server_wall_ns=message.t_wall_ns,
                    robot_wall_ns=self._clock.wall_ns(),
                )
            case m.FeedRequest():
                self._outbox.ask_feed(message)
            case m.Refused():
                log.warning("link: the server refused a message: %s", message.reason)
            case m.Welcome():
                log.info("link: up")
                self.timing.welcome(message.t_wall_ns, self._clock.wall_ns())
                await self._side.received(message)
            case _:
                await self._side.received(message)

    async def _write(self, socket: ClientConnection, wake: asyncio.Event) -> None:
        while True:
            await wake.wait()
            wake.clear()
            while (message := self._outbox.take()) is not None:
                try:
                    await socket.send(encode_link(message))
                except websockets.ConnectionClosed:
                    if isinstance(message, m.PolicyReport):
                        self._outbox.put_back(message)
                    raise

    async def _beat(self) -> None:
        seq = 0
        while True:
            if self._clock.monotonic_ns() - self._heard_ns > SILENCE_S * 1e9:
                raise TimeoutError("nothing heard from the server")
            self._outbox.put_state("heartbeat", self._side.heartbeat(seq))
            self._outbox.put_answer(m.Ping(t_sender_ns=self._clock.monotonic_ns()))
            seq += 1
            await asyncio.sleep(m.HEARTBEAT_S)
