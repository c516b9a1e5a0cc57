"""Robots that do nothing but show pictures: `python -m tests.bench.cameras`, one process.

They speak the control link as an agent does, but have no control loop, so that many of them fit on
a machine. A frame's `seq` is the wall clock when it was sent, in microseconds: whoever shows it
knows how long it took. A line on standard input sets the frames a second of each camera.
"""

import argparse
import asyncio
import json
import random
import sys
import time
import uuid
from pathlib import Path

import msgspec
from websockets.asyncio.client import ClientConnection, connect

from fleet.protocol import messages as m
from fleet.protocol.codec import decode_to_robot, encode_link
from fleet.protocol.control import Mode
from fleet.protocol.episode import open_part
from fleet.protocol.simulation import robot_spec

SPEC = robot_spec("image")
TASKS = ("drawer-open", "door-open", "push", "window-close")


def pictures(demonstrations: Path) -> list[bytes]:
    """Return JPEGs of one demonstration, as its robot took them."""
    part = open_part(str(sorted(demonstrations.glob("*/*.arrow"))[0]))
    jpegs = [part.image(SPEC.cameras[0].name, row) for row in range(part.table.num_rows)]
    return [jpeg for jpeg in jpegs if jpeg]


class CameraRobot:
    """One robot that holds and shows its camera to whoever watches."""

    def __init__(
        self, name: str, token: str, jpegs: list[bytes], *, draw: random.Random | None = None
    ) -> None:
        """Take `draw` for a robot that works and whose tile changes."""
        self.name, self._token, self._jpegs = name, token, jpegs
        self._draw = draw
        self._request = m.FeedRequest()
        self._episode, self._recent = str(uuid.uuid4()), ""

    async def run(self, url: str, fps: "Fps", phase: float) -> None:
        """Connect and show pictures until cancelled."""
        async with connect(
            url.replace("http", "ws", 1) + "/ws/robot/",
            additional_headers={"Authorization": f"Bearer {self._token}"},
            max_size=m.MAX_LINK_MESSAGE_BYTES,
            compression=None,
        ) as socket:
            hello = m.Hello(
                protocol=m.PROTOCOL_VERSION,
                robot=self.name,
                spec=SPEC,
                agent_version="bench",
                t_wall_ns=time.time_ns(),
            )
            await socket.send(encode_link(hello))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(socket))
                group.create_task(self._beat(socket))
                group.create_task(self._show(socket, fps, phase))

    async def _listen(self, socket: ClientConnection) -> None:
        async for data in socket:
            assert isinstance(data, bytes)
            message = decode_to_robot(data)
            if isinstance(message, m.FeedRequest):
                self._request = message
            elif isinstance(message, m.Ping):
                pong = m.Pong(t_sender_ns=message.t_sender_ns, t_wall_ns=time.time_ns())
                await socket.send(encode_link(pong))

    async def _beat(self, socket: ClientConnection) -> None:
        seq = 0
        while True:
            beat = m.Heartbeat(
                seq=seq,
                t_mono_ns=time.monotonic_ns(),
                t_wall_ns=time.time_ns(),
                mode=Mode.HOLDING,
                epoch=0,
                policy=None,
                # Robot and server have one clock here; 0 would mean that it is not known.
                clock_offset_ns=1,
            )
            if self._draw is not None:
                beat = self._at_work(beat, self._draw)
            await socket.send(encode_link(beat))
            seq += 1
            await asyncio.sleep(m.HEARTBEAT_S)

    def _at_work(self, beat: m.Heartbeat, draw: random.Random) -> m.Heartbeat:
        # A new episode every six seconds or so; one beat in thirty finds it holding.
        if draw.random() < 1 / 6:
            self._episode = str(uuid.UUID(int=draw.getrandbits(128)))
            self._recent = (self._recent + draw.choice("sssf"))[-20:]
        return msgspec.structs.replace(
            beat,
            mode=Mode.AUTONOMOUS if draw.random() > 1 / 30 else Mode.HOLDING,
            task=TASKS[int(self._episode[:2], 16) % len(TASKS)],
            instruction="put it where it belongs",
            episode=self._episode,
            recent=self._recent,
            rtt_ms=draw.uniform(2, 60),
        )

    async def _show(self, socket: ClientConnection, fps: "Fps", phase: float) -> None:
        due = time.monotonic() + phase / fps.now
        number = 0
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            # Frames that are late are left out, as an agent leaves them out.
            due = max(due, time.monotonic() - 1 / fps.now) + 1 / fps.now
            for camera, size in self._request.frames:
                now_ns = time.time_ns()
                frame = m.Frame(
                    camera=camera,
                    size=size,
                    seq=now_ns // 1000,
                    t_wall_ns=now_ns,
                    jpeg=self._jpegs[number % len(self._jpegs)],
                )
                await socket.send(encode_link(frame))
                number += 1


class Fps:
    """Frames a second of every camera; changed while they run."""

    now = 10.0


async def _follow_input(fps: Fps) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        fps.now = float(line)


async def run(
    url: str, configurations: list[Path], jpegs: list[bytes], *, lively: bool = False
) -> None:
    """Run every robot until standard input ends."""
    fps = Fps()
    robots = []
    for index, path in enumerate(configurations):
        told = json.loads(path.read_text())
        draw = random.Random(index) if lively else None
        robot = CameraRobot(told["robot"], told["token"], jpegs, draw=draw)
        robots.append(asyncio.create_task(robot.run(url, fps, index / len(configurations))))
    ended = asyncio.create_task(_follow_input(fps))
    # A robot that fails ends the process with its reason.
    done, _ = await asyncio.wait([ended, *robots], return_when=asyncio.FIRST_COMPLETED)
    for robot in robots:
        robot.cancel()
    for task in done:
        task.result()


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cameras", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--demonstrations", type=Path, required=True)
    parser.add_argument("--lively", action="store_true", help="robots whose tiles change")
    parser.add_argument("configurations", type=Path, nargs="+", help="of the robots")
    given = parser.parse_args()
    jpegs = pictures(given.demonstrations)
    asyncio.run(run(given.url, given.configurations, jpegs, lively=given.lively))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
