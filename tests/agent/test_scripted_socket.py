"""A scripted operator against a real socket server that plays the product's part."""

import asyncio
import contextlib
import json

import numpy as np
import pytest
from websockets.asyncio.server import serve

from fleet.agent.teleop import scripted
from fleet.agent.teleop.desk import Desk
from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.codec import decode_from_browser, encode_text
from fleet.protocol.control import Lease, Mode


def expert(task, privileged):
    return np.array([1.0, 0.0, 0.0, 0.0], np.float32)


def telemetry(tick):
    return b.RobotTelemetry(
        robot="a",
        telemetry=m.Telemetry(
            seq=tick,
            t_wall_ns=0,
            mode=Mode.AUTONOMOUS,
            epoch=0,
            tick=tick,
            state=(0.0,),
            action=(0.0,) * 4,
            policy_action=(-1.0, 0.0, 0.0, 0.0),
            episode="e",
            task="hammer",
            privileged=(0.0,) * 39,
        ),
    )


class Server:
    """Counts connections, keeps what came, and lets a robot disagree until it is driven."""

    def __init__(self, *, drop_first=False):
        self.headers = []
        self.messages = []
        self.driven = asyncio.Event()
        self._drop_first = drop_first

    async def handle(self, socket):
        self.headers.append(socket.request.headers.get("Authorization"))
        if self._drop_first and len(self.headers) == 1:
            await socket.close()
            return
        beat = m.Heartbeat(
            seq=0, t_mono_ns=0, t_wall_ns=0, mode=Mode.AUTONOMOUS, epoch=0, policy=None
        )
        state = b.RobotState(robot="a", revision=1, connection="online", heartbeat=beat)
        self.messages.append(decode_from_browser(await socket.recv()))
        await socket.send(encode_text(b.Snapshot(robots=(state,))))
        await socket.send("not a message")
        sending = asyncio.create_task(self._send(socket))
        try:
            async for data in socket:
                message = decode_from_browser(data)
                self.messages.append(message)
                if isinstance(message, b.TakeOver):
                    lease = Lease(epoch=5, holder="script", holder_kind="scripted")
                    await socket.send(encode_text(b.TakeoverAnswer(robot="a", lease=lease)))
                if isinstance(message, b.Drive):
                    self.driven.set()
        finally:
            sending.cancel()

    async def _send(self, socket):
        for tick in range(10_000):
            await socket.send(encode_text(telemetry(tick)))
            await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def operating(server):
    async with serve(server.handle, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        one = scripted.Credentials("script", "secret")
        running = asyncio.create_task(
            scripted.operate(f"http://127.0.0.1:{port}", one, Desk(expert))
        )
        try:
            yield
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(scripted, "FIRST_PAUSE_S", 0.01)


async def test_it_watches_everything_with_its_token_takes_over_and_drives():
    server = Server()
    async with operating(server):
        await asyncio.wait_for(server.driven.wait(), 10)
    assert server.headers == ["Bearer secret"]
    assert server.messages[0] == b.Watch(every=True, telemetry=True, privileged=True)
    assert b.TakeOver(robot="a") in server.messages
    drive = next(x for x in server.messages if isinstance(x, b.Drive))
    assert (drive.epoch, drive.action, drive.frame_age_ms) == (5, (1.0, 0.0, 0.0, 0.0), 0.0)


async def test_it_connects_again_by_itself():
    server = Server(drop_first=True)
    async with operating(server):
        await asyncio.wait_for(server.driven.wait(), 10)
    assert len(server.headers) == 2


def test_only_scripted_operators_are_read_from_the_file(tmp_path):
    path = tmp_path / "operators.json"
    entries = [
        {"name": "ann", "kind": "human", "password": "x"},
        {"name": "s1", "kind": "scripted", "token": "t1"},
        {"name": "s2", "token": "t2"},
    ]
    path.write_text(json.dumps(entries))
    assert scripted.read_credentials(path) == [
        scripted.Credentials("s1", "t1"),
        scripted.Credentials("s2", "t2"),
    ]


@pytest.mark.parametrize("text", ["", "3", '[{"name": "s"}]', '["s"]'])
def test_a_file_that_is_no_operators_file_is_named(tmp_path, text):
    path = tmp_path / "operators.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"operators\.json"):
        scripted.read_credentials(path)


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("http://127.0.0.1:8000", "ws://127.0.0.1:8000/ws/operator/"),
        ("https://console.example/", "wss://console.example/ws/operator/"),
    ],
)
def test_the_socket_is_where_the_server_is(server, url):
    assert scripted.socket_url(server) == url
