import copy

import msgspec
import pytest
from django.contrib.sessions.models import Session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.models import Operator
from fleet.protocol import browser as b
from fleet.protocol import codec
from fleet.protocol import messages as m
from fleet.protocol.control import Lease
from fleet.services import robots
from fleet.services.live.answers import ANSWER_WITHIN_S
from fleet.services.live.hub import Hub
from fleet.services.live.threads import in_thread
from fleet.services.policies import assign_policy
from tests.factories import Cast, make_robot
from tests.fleet.peers import OperatorPeer, RobotPeer, ViewerPeer, policy, settled


@pytest.mark.parametrize("kind", [OperatorPeer, ViewerPeer])
async def test_somebody_who_is_not_signed_in_is_turned_away(hub, opened, kind):
    peer = await opened(kind())
    assert await peer.closed() == m.CloseCode.UNAUTHENTICATED


@pytest.mark.parametrize("kind", [OperatorPeer, ViewerPeer])
async def test_an_account_that_is_no_operator_is_turned_away(hub, opened, crew: Cast, kind):
    peer = await opened(kind(crew.outsider))
    assert await peer.closed() == m.CloseCode.UNAUTHENTICATED


@pytest.mark.parametrize("kind", [OperatorPeer, ViewerPeer])
@pytest.mark.parametrize(
    "origin", ["", "null", "http://evil.example", "http://localhost.evil.example"]
)
async def test_a_page_of_another_site_cannot_use_a_session(hub, opened, crew, kind, origin: str):
    peer = await opened(kind(crew.operator, origin=origin))
    assert await peer.closed() == m.CloseCode.UNAUTHENTICATED


async def test_a_host_that_is_not_ours_is_refused(hub, opened, crew):
    peer = OperatorPeer(crew.operator, origin="http://rebound.example")
    peer.headers[0] = (b"host", b"rebound.example")
    await opened(peer)
    assert await peer.closed() == m.CloseCode.UNAUTHENTICATED


@pytest.mark.parametrize("token", ["wrong", "arm-01"])
async def test_an_unknown_token_is_refused(hub, opened, arm, script, token: str):
    peer = await opened(OperatorPeer(token=token))
    assert await peer.closed() == m.CloseCode.UNAUTHENTICATED


async def test_signing_out_ends_the_socket(hub: Hub, opened, crew: Cast):
    peer = await opened(OperatorPeer(crew.operator))
    await settled(lambda: len(hub.operators) == 1)
    (link,) = hub.operators
    await link.revalidate()
    await peer.watch()
    await in_thread(lambda: Session.objects.all().delete())
    await link.revalidate()
    assert await peer.closed() == m.CloseCode.FORBIDDEN


async def test_a_changed_role_counts_without_a_new_connection(hub: Hub, robot, opened, crew: Cast):
    peer = await opened(OperatorPeer(crew.operator))
    await peer.watch()
    (link,) = hub.operators
    await in_thread(lambda: Operator.objects.filter(pk=crew.operator.pk).update(role="viewer"))
    await link.revalidate()
    await peer.send(b.HoldRobot(robot="arm-01"))
    answer = await peer.until(b.CommandAnswer)
    assert "role operator" in answer.answer.reason


async def test_a_snapshot_shows_every_robot_also_those_that_never_connected(
    hub, robot, opened, crew
):
    await in_thread(make_robot, "arm-02")
    peer = await opened(OperatorPeer(crew.viewer))
    snapshot = await peer.watch()
    assert [s.robot for s in snapshot.robots] == ["arm-01", "arm-02"]
    assert [s.connection for s in snapshot.robots] == ["online", "offline"]
    assert (snapshot.operator, snapshot.operator_kind) == ("viewer", "human")


async def test_a_watch_of_some_robots_is_about_those_only(hub, robot, scripted, opened):
    await in_thread(make_robot, "arm-02")
    snapshot = await scripted.watch(every=False, robots=("arm-02",))
    assert [s.robot for s in snapshot.robots] == ["arm-02"]
    await robot.heartbeat()
    other = await opened(RobotPeer("arm-02"))
    await other.hello()
    assert (
        await scripted.until(b.RobotState, lambda s: s.connection == "online")
    ).robot == "arm-02"


async def test_people_may_not_read_privileged_state(hub, robot, opened, crew: Cast):
    peer = await opened(OperatorPeer(crew.admin))
    await peer.send(b.Watch(every=True, telemetry=True, privileged=True))
    assert (await peer.until(m.Refused)).code == "not_allowed"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (b.HoldRobot(robot="arm-01"), m.Hold),
        (b.ResumeRobot(robot="arm-01"), m.Resume),
        (b.Judge(robot="arm-01", outcome="failure", episode="e"), m.MarkOutcome),
        (b.ReleaseRobot(robot="arm-01"), m.Release),
    ],
)
async def test_a_command_reaches_the_robot_and_its_answer_comes_back(
    hub, robot, opened, crew: Cast, asked, told
):
    peer = await opened(OperatorPeer(crew.operator))
    await peer.watch()
    await peer.send(asked)
    command = await robot.take(told)
    answer = await peer.until(b.CommandAnswer)
    assert answer.answer.accepted
    assert (answer.answer.command, answer.answer.seq) == (told.__name__, command.seq)
    if told is m.MarkOutcome:
        assert (command.judge, command.outcome) == ("operator:operator", "failure")


@pytest.mark.parametrize("role", ["viewer", "labeller"])
@pytest.mark.parametrize(
    "asked",
    [
        b.HoldRobot(robot="arm-01"),
        b.ResumeRobot(robot="arm-01"),
        b.Judge(robot="arm-01", outcome="success"),
        b.ReleaseRobot(robot="arm-01"),
    ],
)
async def test_those_who_may_not_drive_command_nothing(hub, robot, opened, crew, role, asked):
    peer = await opened(OperatorPeer(getattr(crew, role)))
    await peer.watch()
    await peer.send(asked)
    answer = await peer.until(b.CommandAnswer)
    assert not answer.answer.accepted
    await robot.until(m.Assignment)
    assert await robot.quiet()


async def test_only_the_holder_judges_a_held_robot(hub, robot, scripted, opened, crew: Cast):
    await scripted.take_over(robot)
    other = await opened(OperatorPeer(crew.operator))
    await other.watch()
    await other.send(b.Judge(robot="arm-01", outcome="success"))
    assert "held by script" in (await other.until(b.CommandAnswer)).answer.reason
    await scripted.send(b.Judge(robot="arm-01", outcome="success"))
    assert (await robot.take(m.MarkOutcome)).judge == "operator:script"


async def test_a_robot_that_does_not_answer_is_reported(hub: Hub, clock, robot, scripted):
    await scripted.send(b.HoldRobot(robot="arm-01"))
    await robot.until(m.Hold)
    clock.advance(ANSWER_WITHIN_S)
    hub.tick()
    answer = await scripted.until(b.CommandAnswer)
    assert answer.answer.reason == "the robot did not answer"


async def test_a_robot_that_is_away_cannot_be_commanded(hub, arm, opened, script):
    peer = await opened(OperatorPeer(token="script-token"))
    await peer.watch()
    await peer.send(b.HoldRobot(robot="arm-01"))
    assert "not connected" in (await peer.until(b.CommandAnswer)).answer.reason
    await peer.send(b.TakeOver(robot="arm-01"))
    assert "not connected" in (await peer.until(b.TakeoverAnswer)).reason


async def test_pings_are_answered(scripted):
    await scripted.send(m.Ping(t_sender_ns=5))
    assert (await scripted.until(m.Pong)).t_sender_ns == 5


async def test_the_fleets_settings_follow_the_snapshot_and_their_changes(hub, scripted):
    await scripted.send(b.Watch(every=True))
    assert (await scripted.until(b.FleetState)).scripted_paused is False
    await in_thread(robots.change_settings, scripted_paused=True)
    assert (await scripted.until(b.FleetState, lambda s: s.scripted_paused)).paused is False


# ---- rubbish -------------------------------------------------------------------------------------

RUBBISH = [
    "",
    "null",
    "[]",
    "{}",
    '{"type":"Nonsense"}',
    '{"type":"Drive"}',
    '{"type":"Drive","robot":"arm-01","epoch":-1,"seq":1,"action":[0]}',
    '{"type":"Drive","robot":"arm-01","epoch":1,"seq":1,"action":[]}',
    '{"type":"Drive","robot":"arm-01","epoch":1,"seq":1,"action":["x"]}',
    '{"type":"TakeOver","robot":"../etc"}',
    '{"type":"TakeOver","robot":""}',
    '{"type":"StopRobots","robots":"all"}',
    '{"type":"Judge","robot":"arm-01","outcome":"brilliant"}',
    '{"type":"Heartbeat","seq":1}',
    "[" * 5000,
    '{"type":"Watch","robots":[' + '"a",' * 2000 + '"a"]}',
    "x" * (b.MAX_BROWSER_MESSAGE_BYTES + 1),
]


@pytest.mark.parametrize("text", RUBBISH, ids=range(len(RUBBISH)))
@pytest.mark.parametrize("kind", [OperatorPeer, ViewerPeer])
async def test_rubbish_is_answered_and_the_socket_stays(hub, opened, script, kind, text: str):
    peer = await opened(kind(token="script-token"))
    await peer.raw(text)
    assert "Refused" in str(await peer.next())
    await peer.send(m.Ping(t_sender_ns=1))
    assert "Pong" in str(await peer.next())


async def test_bytes_on_a_text_socket_are_refused(hub, opened, script):
    peer = await opened(OperatorPeer(token="script-token"))
    await peer.raw(b"\x00\x01")
    assert await peer.until(m.Refused)


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x81\xa4type\xa5Hello", b"\xff" * 100, b"\x93\x01\x02\x03"]
)
async def test_rubbish_from_a_robot_is_answered_and_the_link_stays(hub, robot, data: bytes):
    await robot.raw(data)
    assert (await robot.until(m.Refused)).code == "bad_message"
    await robot.send(m.Ping(t_sender_ns=1))
    await robot.until(m.Pong)


async def test_a_message_over_the_limit_is_refused(hub, robot):
    await robot.raw(bytes(m.MAX_LINK_MESSAGE_BYTES + 1))
    assert "limit" in (await robot.until(m.Refused)).reason


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=200))
def test_no_bytes_of_a_robot_raise_anything_but_a_refusal(data: bytes):
    try:
        codec.decode_from_robot(data)
    except codec.BadMessage:
        return
    assert msgspec.msgpack.decode(data)["type"]


# ---- snapshot == events --------------------------------------------------------------------------


class Page:
    """What a page knows: the snapshot, then events with a higher revision."""

    def __init__(self, snapshot: b.Snapshot) -> None:
        self.states = {state.robot: state for state in snapshot.robots}

    def apply(self, state: b.RobotState) -> None:
        known = self.states.get(state.robot)
        if known is None or state.revision > known.revision:
            self.states[state.robot] = state


async def test_a_snapshot_and_its_events_equal_a_fresh_snapshot(
    hub: Hub, clock, robot, scripted, opened, crew: Cast
):
    async def taken() -> None:
        await scripted.take_over(robot)

    async def handed_back() -> None:
        await scripted.send(b.HandBack(robot="arm-01", epoch=1))
        await robot.take(m.LeaseEnded)

    async def stopped() -> None:
        await scripted.send(b.StopRobots(every=True))
        await robot.take(m.Stop)

    async def released() -> None:
        await settled(lambda: hub.stops.pending("arm-01") is None)
        await scripted.send(b.ReleaseRobot(robot="arm-01"))
        await robot.take(m.Release)

    async def assigned() -> None:
        await in_thread(assign_policy, policy(7))

    async def silent() -> None:
        clock.advance(3.5)
        hub.tick()

    async def second_robot() -> None:
        await in_thread(make_robot, "arm-02")
        other = await opened(RobotPeer("arm-02"))
        await other.hello()
        await other.heartbeat()

    async def gone() -> None:
        await robot.close()

    watcher = await opened(OperatorPeer(crew.viewer))
    page = Page(await watcher.watch())
    for action in (
        robot.heartbeat, taken, handed_back, stopped, released, assigned, silent, robot.heartbeat,
        second_robot, gone,
    ):  # fmt: skip
        await action()
        fresh = await opened(OperatorPeer(crew.lead))
        truth = Page(await fresh.watch())
        # The watcher has everything once a ping it sends now is answered.
        await watcher.send(m.Ping(t_sender_ns=1))
        while not isinstance(message := await watcher.next(), m.Pong):
            if isinstance(message, b.RobotState):
                page.apply(message)
        before = copy.copy(page.states)
        truth_then = {s.robot: s for s in hub.states.snapshot()}
        assert before == truth_then
        for name, state in truth.states.items():
            assert state.revision <= before[name].revision


def test_an_event_older_than_the_snapshot_is_ignored():
    def state(revision: int, epoch: int) -> b.RobotState:
        lease = Lease(epoch=epoch, holder="a")
        return b.RobotState(robot="r", revision=revision, connection="online", lease=lease)

    page = Page(b.Snapshot(robots=(state(5, 2),)))
    page.apply(state(4, 1))
    page.apply(state(5, 1))
    assert page.states["r"].lease.epoch == 2
