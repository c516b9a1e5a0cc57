"""The other ends of our sockets: a robot, an operator and a viewer, in the test's own process."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec
import pytest
from channels.testing import WebsocketCommunicator
from django.test import Client

from fleet.models import Operator
from fleet.protocol import browser as b
from fleet.protocol import codec
from fleet.protocol import messages as m
from fleet.protocol.control import Mode
from fleet.protocol.spec import Camera, PolicyRef, RobotSpec
from fleet.services.live.threads import in_thread
from sop_web.asgi import application

T = TypeVar("T", bound=m.Message)
WAIT_S = 10.0
SPEC = RobotSpec(
    embodiment="test-arm",
    control_hz=20.0,
    action_names=("x", "y"),
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    action_slew=(0.25, 0.25),
    state_names=("x", "y"),
    cameras=(
        Camera(name="front", width_px=32, height_px=24),
        Camera(name="wrist", width_px=32, height_px=24),
    ),
    simulated=True,
)
_from_server = msgspec.msgpack.Decoder(m.ToRobot)


def policy(number: int, *, parent: int | None = None) -> PolicyRef:
    sha256 = f"{number:064x}"
    return PolicyRef(
        number=number,
        sha256=sha256,
        url=f"/api/policies/{sha256}/weights",
        size_bytes=10,
        parent=parent,
    )


class Closed(AssertionError):
    """The server closed the socket; `code` says why."""

    def __init__(self, code: int) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


class Peer:
    path = ""

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self.headers = [(b"host", b"localhost"), *headers]

    async def open(self) -> "Peer":
        self._socket = WebsocketCommunicator(application, self.path, headers=self.headers)
        accepted, _ = await self._socket.connect(timeout=WAIT_S)
        assert accepted
        return self

    async def close(self) -> None:
        await self._socket.disconnect(timeout=WAIT_S)

    async def raw(self, data: str | bytes) -> None:
        kind = "text" if isinstance(data, str) else "bytes"
        await self._socket.send_input({"type": "websocket.receive", kind: data})

    def _decode(self, data: str | bytes) -> object:
        raise NotImplementedError

    async def next(self, *, within_s: float = WAIT_S) -> object:
        event = await self._socket.receive_output(timeout=within_s)
        if event["type"] == "websocket.close":
            raise Closed(event["code"])
        data = event.get("text")
        return self._decode(event["bytes"] if data is None else data)

    async def until(
        self, kind: type[T], condition: Callable[[T], bool] = lambda message: True
    ) -> T:
        """The next message of this kind for which the condition holds; others are passed over."""
        while True:
            message = await self.next()
            if isinstance(message, kind) and condition(message):
                return message

    async def closed(self) -> int:
        """The code with which the server closes."""
        while True:
            try:
                await self.next()
            except Closed as end:
                return end.code

    async def quiet(self) -> bool:
        """Whether nothing comes; what is under way is given a moment."""
        if await self._socket.receive_nothing(timeout=0.05):
            return True
        pytest.fail(f"came: {await self.next()}")


class RobotPeer(Peer):
    path = "/ws/robot/"

    def __init__(self, robot: str, *, token: str = "") -> None:
        super().__init__([(b"authorization", b"Bearer " + (token or robot).encode())])
        self.robot = robot
        self.seq = 0
        self.epoch = 0
        self.mode = Mode.AUTONOMOUS
        self.policy: PolicyRef | None = None

    def _decode(self, data: str | bytes) -> object:
        assert isinstance(data, bytes)
        return _from_server.decode(data)

    async def send(self, message: m.Message) -> None:
        await self.raw(codec.encode_link(message))

    async def hello(self, **fields: object) -> m.Welcome:
        await self.greet(**fields)
        return await self.until(m.Welcome)

    async def greet(self, **fields: object) -> None:
        """Say hello and wait for nothing: a stop may come before the welcome."""
        values = {
            "protocol": m.PROTOCOL_VERSION,
            "robot": self.robot,
            "spec": SPEC,
            "agent_version": "test",
            "t_wall_ns": time.time_ns(),
            "policy": self.policy,
            "epoch": self.epoch,
            "mode": self.mode,
        }
        await self.send(m.Hello(**values | fields))

    async def heartbeat(self, **fields: object) -> m.Heartbeat:
        self.seq += 1
        values = {
            "seq": self.seq,
            "t_mono_ns": time.monotonic_ns(),
            "t_wall_ns": time.time_ns(),
            "mode": self.mode,
            "epoch": self.epoch,
            "policy": self.policy,
        }
        heartbeat = m.Heartbeat(**values | fields)
        await self.send(heartbeat)
        return heartbeat

    async def take(self, kind: type[T]) -> T:
        """Wait for a command of this kind, obey it and answer as a robot does."""
        command = await self.until(kind)
        lease = getattr(command, "lease", None)
        match command:
            case m.LeaseGranted():
                self.epoch, self.mode = command.lease.epoch, Mode.TAKEOVER
            case m.LeaseEnded(how="hand_back") | m.Resume():
                self.mode = Mode.AUTONOMOUS
            case m.LeaseEnded() | m.Hold() | m.Release():
                self.mode = Mode.HOLDING
            case m.Stop():
                self.mode = Mode.STOPPED
        await self.send(
            m.Acknowledged(
                seq=getattr(command, "seq", 0),
                epoch=lease.epoch if lease else getattr(command, "epoch", 0),
                command=type(command).__name__,
                mode=self.mode,
                stop_id=getattr(command, "stop_id", ""),
                t_client_ms=getattr(command, "t_client_ms", 0.0),
            )
        )
        return command


class PersonPeer(Peer):
    """Signed in by session, or by token when the operator is a script."""

    def __init__(
        self, user: object = None, *, token: str = "", origin: str = "http://localhost"
    ) -> None:
        headers = [(b"origin", origin.encode())] if origin else []
        if token:
            headers = [(b"authorization", b"Bearer " + token.encode())]
        super().__init__(headers)
        self.user = user.user if isinstance(user, Operator) else user

    async def open(self) -> "Peer":
        if self.user is not None:
            self.client = Client()
            await in_thread(self.client.force_login, self.user)
            session = self.client.cookies["sessionid"].value
            self.headers.append((b"cookie", f"sessionid={session}".encode()))
        return await super().open()

    async def send(self, message: m.Message) -> None:
        await self.raw(codec.encode_text(message))


class OperatorPeer(PersonPeer):
    path = "/ws/operator/"

    def _decode(self, data: str | bytes) -> object:
        assert isinstance(data, str)
        return codec.decode_to_browser(data)

    async def watch(self, **fields: object) -> b.Snapshot:
        await self.send(b.Watch(**{"every": True, **fields}))
        return await self.until(b.Snapshot)

    async def take_over(self, robot: RobotPeer) -> b.TakeoverAnswer:
        """Ask for the lease; the robot takes it when it was granted."""
        await self.send(b.TakeOver(robot=robot.robot))
        answer = await self.until(b.TakeoverAnswer)
        if answer.lease is not None:
            await robot.take(m.LeaseGranted)
        return answer


class ViewerPeer(PersonPeer):
    path = "/ws/feed/"

    def _decode(self, data: str | bytes) -> object:
        return codec.unpack_frame(data) if isinstance(data, bytes) else data

    async def frame(self) -> tuple[codec.FrameHeader, bytes]:
        while True:
            data = await self.next()
            if isinstance(data, tuple):
                return data


async def settled(condition: Callable[[], bool]) -> None:
    """Wait for a condition of this process's own state."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        await asyncio.sleep(0.005)
