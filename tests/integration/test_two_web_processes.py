"""A robot on one web process, its operator and viewers on another: Redis in between, all real."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect

from fleet.protocol import browser as b
from fleet.protocol import codec
from fleet.protocol import messages as m
from fleet.protocol.control import Mode
from tests import live
from tests.fleet.peers import SPEC

pytestmark = pytest.mark.slow
T = TypeVar("T", bound=m.Message)
WAIT_S = 30.0
_to_robot = msgspec.msgpack.Decoder(m.ToRobot)


@pytest.fixture(scope="module")
def two(
    seeded_var: Path, redis_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[live.LiveServer, live.LiveServer]]:
    var = live.copy_installation(seeded_var, tmp_path_factory.mktemp("two") / "var")
    # Its own database on the shared server: channels are not per database, so robots of other
    # installations must not have the same names while this one runs. Tests run one at a time.
    with (
        live.live_server(var, redis_url=redis_server) as near,
        live.live_server(var, redis_url=redis_server) as far,
    ):
        yield near, far


class End:
    """One end of a real socket."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, message: m.Message) -> None:
        text = isinstance(message, b.FromBrowser | b.FromViewer)
        await self.socket.send(codec.encode_text(message) if text else codec.encode_link(message))

    async def until(
        self, kind: type[T], condition: Callable[[T], bool] = lambda message: True
    ) -> T:
        async with asyncio.timeout(WAIT_S):
            while True:
                data = await self.socket.recv()
                message = (
                    _to_robot.decode(data)
                    if isinstance(data, bytes)
                    else codec.decode_to_browser(data)
                )
                if isinstance(message, kind) and condition(message):
                    return message


class Arm(End):
    """robot-1, beating."""

    mode, epoch, seq = Mode.AUTONOMOUS, 0, 0

    async def hello(self) -> None:
        hello = m.Hello(
            protocol=1,
            robot="robot-1",
            spec=SPEC,
            agent_version="test",
            t_wall_ns=time.time_ns(),
            mode=self.mode,
            epoch=self.epoch,
        )
        await self.socket.send(codec.encode_link(hello))
        await self.until(m.Welcome)

    async def beat(self) -> None:
        while True:
            self.seq += 1
            heartbeat = m.Heartbeat(
                seq=self.seq,
                t_mono_ns=time.monotonic_ns(),
                t_wall_ns=time.time_ns(),
                mode=self.mode,
                epoch=self.epoch,
                policy=None,
            )
            await self.socket.send(codec.encode_link(heartbeat))
            await asyncio.sleep(0.2)

    async def answer(self, command: m.Message, **fields: object) -> None:
        answer = m.Acknowledged(command=type(command).__name__, mode=self.mode, **fields)
        await self.socket.send(codec.encode_link(answer))


@pytest.fixture
async def arm(two: tuple[live.LiveServer, live.LiveServer]) -> AsyncIterator[Arm]:
    near, _ = two
    headers = {"Authorization": f"Bearer {near.robot_token()}"}
    async with connect(
        f"{near.ws_url}/ws/robot/", additional_headers=headers, close_timeout=1
    ) as socket:
        arm = Arm(socket)
        await arm.hello()
        beating = asyncio.create_task(arm.beat())
        yield arm
        beating.cancel()


@pytest.fixture
async def operator(two: tuple[live.LiveServer, live.LiveServer], arm: Arm) -> AsyncIterator[End]:
    _, far = two
    headers = {"Authorization": f"Bearer {far.operator_token()}"}
    async with connect(
        f"{far.ws_url}/ws/operator/", additional_headers=headers, close_timeout=1
    ) as socket:
        operator = End(socket)
        await operator.send(b.Watch(every=True))
        await operator.until(
            b.RobotState,
            lambda s: s.robot == "robot-1" and s.connection == "online" and s.heartbeat,
        )
        yield operator


async def take_over(operator: End, arm: Arm) -> int:
    await operator.send(b.TakeOver(robot="robot-1"))
    answer = await operator.until(b.TakeoverAnswer)
    assert answer.lease is not None, answer.reason
    granted = await arm.until(m.LeaseGranted)
    assert granted.lease.epoch == answer.lease.epoch
    arm.mode, arm.epoch = Mode.TAKEOVER, granted.lease.epoch
    await arm.answer(granted, epoch=arm.epoch)
    return answer.lease.epoch


async def test_commands_and_their_answers_cross(arm: Arm, operator: End):
    epoch = await take_over(operator, arm)
    await operator.until(b.RobotState, lambda s: s.lease is not None and s.lease.epoch == epoch)
    for seq in range(1, 20):
        await operator.send(
            b.Drive(robot="robot-1", epoch=epoch, seq=seq, action=(0.1, 0.2), t_client_ms=seq)
        )
        teleop = await arm.until(m.Teleop)
        assert teleop.seq == seq
        await arm.answer(teleop, seq=seq, epoch=epoch, t_client_ms=teleop.t_client_ms)
        answer = await operator.until(
            b.CommandAnswer, lambda a, seq=seq: a.answer.command == "Teleop" and a.answer.seq == seq
        )
        assert answer.answer.accepted
    await operator.send(b.HandBack(robot="robot-1", epoch=epoch))
    ended = await arm.until(m.LeaseEnded)
    assert ended.how == "hand_back"
    arm.mode = Mode.AUTONOMOUS
    await arm.answer(ended, epoch=epoch)
    await operator.until(b.RobotState, lambda s: s.lease is None)


async def test_when_the_operator_on_the_other_process_leaves_the_robot_holds(
    arm: Arm, operator: End
):
    await take_over(operator, arm)
    await operator.socket.close()
    assert (await arm.until(m.LeaseEnded)).how == "lost"


async def test_a_stop_crosses_and_its_acknowledgement_comes_back(arm: Arm, operator: End):
    await operator.send(b.StopRobots(every=True))
    stop = await arm.until(m.Stop)
    again = await arm.until(m.Stop)
    assert again.stop_id == stop.stop_id
    arm.mode = Mode.STOPPED
    await arm.answer(stop, stop_id=stop.stop_id)
    await operator.until(
        b.RobotState,
        lambda s: s.robot == "robot-1" and not s.stop_pending and s.heartbeat.mode is Mode.STOPPED,
    )
    await operator.send(b.ReleaseRobot(robot="robot-1"))
    release = await arm.until(m.Release)
    arm.mode = Mode.HOLDING
    await arm.answer(release, seq=release.seq)
    assert (await operator.until(b.CommandAnswer)).answer.command == "Release"


async def test_frames_and_telemetry_cross_only_while_wanted(two, arm: Arm, operator: End):
    _, far = two
    headers = {"Authorization": f"Bearer {far.operator_token()}"}
    async with connect(
        f"{far.ws_url}/ws/feed/", additional_headers=headers, close_timeout=1
    ) as socket:
        viewer = End(socket)
        await viewer.send(b.WatchFrames(feeds=(("robot-1", "front", "thumbnail"),)))
        await operator.send(b.Watch(every=True, telemetry=True, privileged=True))
        asked = await arm.until(m.FeedRequest, lambda r: r.frames and r.telemetry and r.privileged)
        assert asked.frames == (("front", "thumbnail"),)

        async def film() -> None:
            for seq in range(1000):
                await arm.socket.send(
                    codec.encode_link(
                        m.Frame(
                            camera="front", size="thumbnail", seq=seq,
                            t_wall_ns=time.time_ns(), jpeg=b"jpeg",
                        )
                    )
                )  # fmt: skip
                await arm.socket.send(
                    codec.encode_link(
                        m.Telemetry(
                            seq=seq, t_wall_ns=time.time_ns(), mode=arm.mode, epoch=0, tick=seq,
                            state=(0.0, 0.0), action=(0.0, 0.0), policy_action=(0.0, 0.0),
                            privileged=(1.0,),
                        )
                    )
                )  # fmt: skip
                await asyncio.sleep(0.05)

        filming = asyncio.create_task(film())
        async with asyncio.timeout(WAIT_S):
            header, jpeg = codec.unpack_frame(await socket.recv())
        assert (header.robot, jpeg) == ("robot-1", b"jpeg")
        assert (await operator.until(b.RobotTelemetry)).telemetry.privileged == (1.0,)
        filming.cancel()
    await operator.send(b.Watch(every=True))
    # The other process says so no more, and its demand runs out.
    await arm.until(m.FeedRequest, lambda r: not r.frames and not r.telemetry)


async def test_an_assignment_made_by_a_worker_reaches_the_robot(two, arm: Arm):
    near, _ = two
    await asyncio.to_thread(
        live.manage,
        near.var,
        "shell",
        "-c",
        "from fleet.services.policies import assign_policy\n"
        "from fleet.protocol.spec import PolicyRef\n"
        f"ref = PolicyRef(number=3, sha256='{3:064x}', url='/x', size_bytes=3)\n"
        "assign_policy(ref, weights=b'abc')",
        redis_url=near.redis_url,
    )
    # A heartbeat in between may repeat the assignment first, which never carries the weights.
    announced = await arm.until(m.PolicyAnnouncement, lambda message: message.weights is not None)
    assert (announced.policy.number, announced.weights) == (3, b"abc")


async def test_a_robot_that_moves_to_the_other_process_is_driven_there(
    two, arm: Arm, operator: End
):
    _, far = two
    headers = {"Authorization": f"Bearer {far.robot_token()}"}
    async with connect(
        f"{far.ws_url}/ws/robot/", additional_headers=headers, close_timeout=1
    ) as socket:
        moved = Arm(socket)
        moved.epoch = arm.epoch
        await moved.hello()
        beating = asyncio.create_task(moved.beat())
        async with asyncio.timeout(WAIT_S):
            await arm.socket.wait_closed()
        assert arm.socket.close_code == m.CloseCode.REPLACED
        epoch = await take_over(operator, moved)
        await operator.send(b.Drive(robot="robot-1", epoch=epoch, seq=1, action=(0.0, 0.0)))
        assert (await moved.until(m.Teleop)).epoch == epoch
        beating.cancel()


async def test_a_request_for_help_is_seen_claimed_and_ended_across_processes(
    arm: Arm, operator: End
):
    def request(status: str) -> Callable[[b.HelpState], bool]:
        return lambda state: state.robot == "robot-1" and state.status == status

    need = m.HelpNeed(number=time.time_ns() // 1000, reasons=("doubt",), uncertainty=0.4)
    await arm.socket.send(codec.encode_link(need))
    assert (await operator.until(b.HelpState, request("open"))).number == need.number
    # Claimed on the process that has no robot, ended on the one that has.
    for _ in range(50):
        await operator.send(b.ClaimHelp(robot="robot-1"))
        answer = await operator.until(b.HelpState | m.Refused)
        if isinstance(answer, b.HelpState) and answer.status == "claimed":
            break
    assert answer.claimed_by
    over = m.HelpNeed(number=need.number, ended="helped")
    await arm.socket.send(codec.encode_link(over))
    assert (await operator.until(b.HelpState, request("resolved"))).note == "helped"
