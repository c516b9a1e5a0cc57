import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve

from fleet.agent.clock import RealClock
from fleet.agent.link import Link, LinkClock
from fleet.agent.outbox import MAX_REPORTS, Outbox
from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.codec import decode_from_robot, encode_link
from fleet.protocol.control import Mode
from tests.fakes import SPEC

WELCOME = m.Welcome(protocol=1, t_wall_ns=0)


class RecordingSide:
    """An agent that writes down what the link brings."""

    def __init__(self) -> None:
        self.got: list[m.ToRobot] = []
        self.changed = threading.Condition()

    def hello(self) -> m.Hello:
        return m.Hello(protocol=1, robot="r", spec=SPEC, agent_version="1", t_wall_ns=0)

    def heartbeat(self, seq: int) -> m.Heartbeat:
        return m.Heartbeat(
            seq=seq, t_mono_ns=0, t_wall_ns=0, mode=Mode.HOLDING, epoch=0, policy=None
        )

    def heard(self) -> None:
        pass

    async def received(self, message: m.ToRobot) -> None:
        with self.changed:
            self.got.append(message)
            self.changed.notify_all()

    def wait_for(self, kind: type) -> None:
        with self.changed:
            found = self.changed.wait_for(lambda: any(isinstance(g, kind) for g in self.got), 20)
        assert found, f"no {kind.__name__} came"


Handler = Callable[[ServerConnection], Awaitable[None]]


@contextmanager
def server(handler: Handler) -> Iterator[str]:
    """Run a WebSocket server in a thread; give its base URL."""
    loop = asyncio.new_event_loop()
    ready: "asyncio.Future[int]" = loop.create_future()
    stop = asyncio.Event()

    async def main() -> None:
        async with serve(handler, "127.0.0.1", 0, max_size=None) as listening:
            ready.set_result(next(iter(listening.sockets)).getsockname()[1])
            started.set()
            await stop.wait()

    started = threading.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    assert started.wait(20)
    try:
        yield f"http://127.0.0.1:{ready.result()}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()


@contextmanager
def linked(url: str) -> Iterator[tuple[Link, RecordingSide, Outbox]]:
    side, outbox = RecordingSide(), Outbox()
    link = Link(server=url, token="tok", side=side, outbox=outbox, clock=RealClock())
    link.start()
    try:
        yield link, side, outbox
    finally:
        link.stop(20)


async def send(socket: ServerConnection, message: m.ToRobot) -> None:
    await socket.send(encode_link(message))


async def until(socket: ServerConnection, kind: type):
    while True:
        message = decode_from_robot(await socket.recv())
        if isinstance(message, kind):
            return message


def test_the_first_message_is_hello_and_the_token_rides_in_the_handshake():
    seen: dict = {}
    done = threading.Event()

    async def handler(socket: ServerConnection) -> None:
        seen["authorization"] = socket.request.headers["Authorization"]
        seen["path"] = socket.request.path
        seen["first"] = decode_from_robot(await socket.recv())
        await send(socket, WELCOME)
        seen["beat"] = await until(socket, m.Heartbeat)
        done.set()
        await socket.wait_closed()

    with server(handler) as url, linked(url) as (_, side, _):
        assert done.wait(20)
        side.wait_for(m.Welcome)
    assert seen["authorization"] == "Bearer tok"
    assert seen["path"] == "/ws/robot/"
    assert isinstance(seen["first"], m.Hello)
    assert seen["first"].protocol == m.PROTOCOL_VERSION


def test_a_lost_connection_is_made_anew_and_reports_are_sent_on_the_next_one():
    connections = []
    reported = threading.Event()

    async def handler(socket: ServerConnection) -> None:
        connections.append(1)
        await until(socket, m.Hello)
        if len(connections) == 1:
            await socket.close(1011, "going down")
            return
        await send(socket, WELCOME)
        await until(socket, m.PolicyReport)
        reported.set()
        await socket.wait_closed()

    with server(handler) as url, linked(url) as (_, side, outbox):
        side.wait_for(m.Welcome)
        outbox.put_report(m.PolicyReport(number=1, sha256="0" * 64, status="applied", t_wall_ns=0))
        assert reported.wait(20)
    assert len(connections) == 2


def test_what_is_not_understood_is_answered_and_the_connection_stays():
    answers = []
    done = threading.Event()

    async def handler(socket: ServerConnection) -> None:
        await until(socket, m.Hello)
        for rubbish in (b"\xc1\xff", b"", encode_link(b.KeepLease(robot="r", epoch=1)), "text"):
            await socket.send(rubbish)
            answers.append(await until(socket, m.Acknowledged))
        await send(socket, WELCOME)
        done.set()
        await socket.wait_closed()

    with server(handler) as url, linked(url) as (_, side, _):
        assert done.wait(20)
        side.wait_for(m.Welcome)
    assert len(answers) == 4
    assert not any(answer.accepted for answer in answers)
    assert all(answer.reason for answer in answers)


def test_pings_go_both_ways_and_give_round_trip_and_clock_offset():
    done = threading.Event()
    ahead_ns = 5_000_000_000
    pongs = []

    async def handler(socket: ServerConnection) -> None:
        await until(socket, m.Hello)
        await send(socket, m.Welcome(protocol=1, t_wall_ns=RealClock().wall_ns() + ahead_ns))
        ping = await until(socket, m.Ping)
        await send(
            socket,
            m.Pong(t_sender_ns=ping.t_sender_ns, t_wall_ns=RealClock().wall_ns() + ahead_ns),
        )
        await send(socket, m.Ping(t_sender_ns=123))
        pongs.append(await until(socket, m.Pong))
        done.set()
        await socket.wait_closed()

    with server(handler) as url, linked(url) as (link, _, _):
        assert done.wait(20)
        assert link.timing.rtt_ms > 0
        assert link.timing.offset_ns == pytest.approx(ahead_ns, abs=2_000_000_000)
    assert pongs[0].t_sender_ns == 123


def test_what_people_watch_ends_with_the_connection():
    asked = threading.Event()
    go = threading.Event()

    async def handler(socket: ServerConnection) -> None:
        await until(socket, m.Hello)
        await send(socket, m.FeedRequest(frames=(("front", "full"),), telemetry=True))
        await send(socket, WELCOME)
        asked.set()
        while not go.is_set():
            await asyncio.sleep(0.005)
        await socket.close()

    with server(handler) as url, linked(url) as (_, side, outbox):
        side.wait_for(m.Welcome)
        assert outbox.feed.telemetry
        go.set()
        with outbox._changed:
            # `detach` clears the request; watch it the way the feed's thread does.
            while outbox._feed.frames:
                outbox._changed.wait(0.01)
        assert outbox.feed == m.FeedRequest()


def test_stopping_a_link_that_never_connected_ends_it():
    with linked("http://127.0.0.1:9") as (link, _, _):
        assert not link.connected
    assert not link._thread.is_alive()


# ---- the outbox ----------------------------------------------------------------------------------


def frame(seq: int, camera: str = "front") -> m.Frame:
    return m.Frame(camera=camera, size="full", seq=seq, t_wall_ns=0, jpeg=b"j")


def report(number: int) -> m.PolicyReport:
    return m.PolicyReport(number=number, sha256="0" * 64, status="applied", t_wall_ns=0)


def take_all(outbox: Outbox) -> list[m.Message]:
    taken = []
    while (message := outbox.take()) is not None:
        taken.append(message)
    return taken


def test_state_overwrites_its_slot_and_a_slow_network_lowers_the_rate_not_the_age():
    outbox = Outbox()
    for seq in range(1000):
        outbox.put_state("frame front", frame(seq))
        outbox.put_state("frame side", frame(seq, "side"))
    assert [(x.camera, x.seq) for x in take_all(outbox)] == [("front", 999), ("side", 999)]


def test_a_slot_that_is_filled_often_does_not_starve_the_others():
    outbox = Outbox()
    outbox.put_state("a", frame(0))
    outbox.put_state("b", frame(1))
    outbox.put_state("a", frame(2))
    assert outbox.take().seq == 2
    outbox.put_state("a", frame(3))
    assert outbox.take().seq == 1


def test_answers_go_before_reports_and_reports_before_state():
    outbox = Outbox()
    outbox.put_state("a", frame(0))
    outbox.put_report(report(1))
    outbox.put_answer(m.Acknowledged(seq=1))
    kinds = [type(message) for message in take_all(outbox)]
    assert kinds == [m.Acknowledged, m.PolicyReport, m.Frame]


def test_a_new_connection_keeps_reports_and_forgets_answers_and_state():
    outbox = Outbox()
    outbox.put_state("a", frame(0))
    outbox.put_answer(m.Acknowledged(seq=1))
    outbox.put_report(report(1))
    outbox.attach(lambda: None)
    assert [type(message) for message in take_all(outbox)] == [m.PolicyReport]


def test_reports_are_bounded_and_the_oldest_go_first():
    outbox = Outbox()
    for number in range(MAX_REPORTS + 10):
        outbox.put_report(report(number))
    taken = take_all(outbox)
    assert len(taken) == MAX_REPORTS
    assert taken[0].number == 10


# ---- the clock of the link -----------------------------------------------------------------------


def test_the_offset_is_that_of_the_fastest_recent_round_trip():
    timing = LinkClock()
    timing.welcome(1_000, 0)
    assert timing.offset_ns == 1_000
    timing.pong(sent_ns=0, now_ns=100_000_000, server_wall_ns=70_000_000, robot_wall_ns=0)
    assert timing.offset_ns == 120_000_000
    timing.pong(sent_ns=0, now_ns=2_000_000, server_wall_ns=70_000_000, robot_wall_ns=0)
    assert timing.offset_ns == 71_000_000
    timing.pong(sent_ns=0, now_ns=90_000_000, server_wall_ns=50_000_000, robot_wall_ns=0)
    assert timing.offset_ns == 71_000_000
    assert timing.rtt_ms == 90.0


def test_an_answer_from_before_the_ping_is_ignored():
    timing = LinkClock()
    timing.pong(sent_ns=10, now_ns=5, server_wall_ns=0, robot_wall_ns=0)
    assert timing.rtt_ms == 0.0
