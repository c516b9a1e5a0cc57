import functools
import time

import pytest

from fleet.models import PolicyReport, Robot
from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.control import Mode
from fleet.services import robots
from fleet.services.live.hub import Hub
from fleet.services.live.ledger import REPEAT_AFTER_S, REPEAT_KNOWN_AFTER_S
from fleet.services.live.threads import in_thread
from fleet.services.policies import assign_policy, pin_robots, unpin_robots
from tests.factories import make_robot, make_task
from tests.fleet.peers import SPEC, OperatorPeer, RobotPeer, policy, settled


async def row(name: str = "arm-01") -> Robot:
    return await in_thread(Robot.objects.get, name=name)


async def flushed(hub: Hub) -> None:
    """Let what was heard be written."""
    hub.slow_tick()
    task = hub.ledger._writing
    if task is not None:
        await task


async def beaten(robot: RobotPeer, hub: Hub, **fields: object) -> None:
    """Send a heartbeat and wait until the server has it."""
    heartbeat = await robot.heartbeat(**fields)
    await settled(lambda: _newest(hub, robot) == heartbeat.seq)


def _newest(hub: Hub, robot: RobotPeer) -> int:
    heartbeat = hub.states.get(robot.robot).heartbeat
    return heartbeat.seq if heartbeat else 0


def telemetry(tick: int) -> m.Telemetry:
    return m.Telemetry(
        seq=tick, t_wall_ns=0, mode=Mode.AUTONOMOUS, epoch=0, tick=tick,
        state=(0.0, 1.0), action=(0.0, 0.0), policy_action=(0.0, 0.0), privileged=(9.0,),
    )  # fmt: skip


@pytest.mark.parametrize("token", ["", "wrong", "arm-02"])
async def test_a_robot_without_a_valid_token_is_turned_away(hub, opened, arm, token: str):
    await in_thread(make_robot, "arm-02", enabled=False)
    peer = RobotPeer("arm-01")
    peer.headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {token}".encode())]
    await opened(peer)
    assert await peer.closed() == m.CloseCode.UNAUTHENTICATED


async def test_a_hello_is_answered_with_the_epoch_and_the_assignment(hub, opened, arm):
    task = await in_thread(make_task, "reach")
    robot = await opened(RobotPeer("arm-01"))
    welcome = await robot.hello()
    assert welcome.protocol == m.PROTOCOL_VERSION
    assignment = await robot.until(m.Assignment)
    assert [spec.name for spec in assignment.tasks] == [task.name]
    assert assignment.evaluate_every == 6
    assert assignment.eval_seeds
    assert assignment.train_seed not in assignment.eval_seeds
    stored = await row()
    assert stored.connected_at is not None
    assert stored.spec["embodiment"] == "test-arm"


async def test_a_robot_cannot_use_the_name_of_another(hub, opened, arm):
    robot = await opened(RobotPeer("arm-01"))
    hello = m.Hello(protocol=1, robot="arm-02", spec=SPEC, agent_version="", t_wall_ns=0)
    await robot.send(hello)
    assert await robot.closed() == m.CloseCode.FORBIDDEN


async def test_a_robot_of_another_protocol_version_is_told_so(hub, opened, arm):
    robot = await opened(RobotPeer("arm-01"))
    await robot.send(m.Hello(protocol=99, robot="arm-01", spec=SPEC, agent_version="", t_wall_ns=0))
    assert await robot.closed() == m.CloseCode.PROTOCOL_VERSION


async def test_nothing_counts_before_the_hello(hub: Hub, opened, arm):
    robot = await opened(RobotPeer("arm-01"))
    await robot.heartbeat()
    refused = await robot.until(m.Refused)
    assert "Hello" in refused.reason
    assert "arm-01" not in hub.links


async def test_heartbeats_are_written_at_most_once_a_second_and_the_newest_counts(
    hub: Hub, robot, monkeypatch
):
    writes = []
    store = robots.store_heartbeats
    monkeypatch.setattr(
        robots, "store_heartbeats", lambda heard: (writes.append(heard), store(heard))[1]
    )
    for tick in range(20):
        await beaten(robot, hub, tick=tick)
    await beaten(robot, hub, tick=99, mode=Mode.HOLDING, purpose="eval", epoch=3)
    await flushed(hub)
    await flushed(hub)
    assert len(writes) == 1
    stored = await row()
    assert (stored.mode, stored.purpose, stored.epoch) == ("holding", "eval", 3)
    assert stored.last_heartbeat_at is not None


async def test_a_silent_robot_turns_stale_then_offline_and_comes_back(
    hub: Hub, clock, robot, scripted
):
    for seconds, connection in ((3.1, "stale"), (3.0, "offline")):
        clock.advance(seconds)
        hub.tick()
        state = await scripted.until(b.RobotState, lambda s, c=connection: s.connection == c)
    await robot.heartbeat()
    back = await scripted.until(b.RobotState, lambda s: s.connection == "online")
    assert back.revision > state.revision


async def test_a_link_that_carries_nothing_is_closed(hub: Hub, clock, robot):
    clock.advance(6.1)
    hub.slow_tick()
    assert await robot.closed() == m.CloseCode.GOING_AWAY


async def test_a_second_connection_replaces_the_first(hub: Hub, robot, opened):
    again = await opened(RobotPeer("arm-01"))
    await again.hello()
    assert await robot.closed() == m.CloseCode.REPLACED
    await again.heartbeat(tick=5)
    await settled(lambda: hub.states.get("arm-01").heartbeat.tick == 5)
    assert hub.states.get("arm-01").connection == "online"


async def test_pings_are_answered_with_the_servers_clock(robot):
    await robot.send(m.Ping(t_sender_ns=7))
    pong = await robot.until(m.Pong)
    assert pong.t_sender_ns == 7
    assert abs(pong.t_wall_ns - time.time_ns()) < 60e9


# ---- policies -----------------------------------------------------------------------------------


async def test_an_assigned_version_is_announced_at_once_with_its_bytes(hub: Hub, robot):
    await in_thread(assign_policy, policy(3), weights=b"weights")
    announced = await robot.until(m.PolicyAnnouncement)
    assert announced == m.PolicyAnnouncement(policy=policy(3), weights=b"weights")
    assert hub.states.get("arm-01").assigned_number == 3


async def test_pages_see_a_pin_and_its_end_within_a_heartbeat(hub: Hub, robot):
    await in_thread(functools.partial(pin_robots, ["arm-01"], ref=policy(3), by="lead"))
    assert (await robot.until(m.PolicyAnnouncement)).policy == policy(3)
    await beaten(robot, hub)
    await flushed(hub)
    assert hub.states.get("arm-01").pinned
    await in_thread(unpin_robots, ["arm-01"])
    await beaten(robot, hub)
    await flushed(hub)
    assert not hub.states.get("arm-01").pinned


async def test_a_lost_announcement_costs_one_heartbeat(hub: Hub, robot, monkeypatch):
    monkeypatch.setattr("fleet.services.events.publish", lambda *a: None)
    await in_thread(assign_policy, policy(3), weights=b"weights")
    await beaten(robot, hub)
    await flushed(hub)
    announced = await robot.until(m.PolicyAnnouncement)
    assert announced == m.PolicyAnnouncement(policy=policy(3), weights=None)


async def test_a_robot_that_missed_a_version_is_told_on_hello(hub, opened, arm):
    await in_thread(assign_policy, policy(4))
    robot = await opened(RobotPeer("arm-01"))
    await robot.hello(policy=policy(2))
    assert (await robot.until(m.PolicyAnnouncement)).policy.number == 4


async def test_a_robot_that_runs_what_it_is_assigned_is_told_nothing(hub: Hub, opened, arm):
    await in_thread(assign_policy, policy(4))
    robot = await opened(RobotPeer("arm-01"))
    robot.policy = policy(4)
    await robot.hello()
    await robot.until(m.Assignment)
    await beaten(robot, hub)
    await flushed(hub)
    assert await robot.quiet()


async def test_an_announcement_is_repeated_but_not_while_the_robot_may_be_at_it(
    hub: Hub, clock, robot
):
    await in_thread(assign_policy, policy(3), weights=b"weights")
    await robot.until(m.PolicyAnnouncement)
    await beaten(robot, hub)
    await flushed(hub)
    assert await robot.quiet()
    clock.advance(REPEAT_AFTER_S)
    await beaten(robot, hub)
    await flushed(hub)
    assert (await robot.until(m.PolicyAnnouncement)).policy.number == 3
    await robot.send(
        m.PolicyReport(number=3, sha256=policy(3).sha256, status="rejected", t_wall_ns=1)
    )
    await settled(lambda: hub.ledger._announced["arm-01"][2])
    clock.advance(2 * REPEAT_AFTER_S)
    await beaten(robot, hub)
    await flushed(hub)
    assert await robot.quiet()
    clock.advance(REPEAT_KNOWN_AFTER_S)
    await beaten(robot, hub)
    await flushed(hub)
    assert await robot.until(m.PolicyAnnouncement)


async def test_a_version_announced_while_the_row_is_read_is_not_undone(
    hub: Hub, clock, robot, monkeypatch
):
    await in_thread(assign_policy, policy(3))
    assert (await robot.until(m.PolicyAnnouncement)).policy.number == 3
    clock.advance(10)
    store = robots.store_heartbeats

    def slow(heard: dict[str, robots.Heard]) -> dict[str, object]:
        old = store(heard)
        assign_policy(policy(4))
        return old

    monkeypatch.setattr(robots, "store_heartbeats", slow)
    await beaten(robot, hub)
    await flushed(hub)
    assert (await robot.until(m.PolicyAnnouncement)).policy.number == 4
    assert hub.states.get("arm-01").assigned_number == 4
    assert await robot.quiet()


async def test_every_report_of_a_robot_becomes_one_row(hub: Hub, robot):
    report = m.PolicyReport(
        number=3, sha256=policy(3).sha256, status="applied", t_wall_ns=1_700_000_000_000_000_000
    )
    for _ in range(3):
        await robot.send(report)
    await robot.send(m.Ping(t_sender_ns=1))
    await robot.until(m.Pong)
    for _ in range(1000):
        if rows := await in_thread(lambda: list(PolicyReport.objects.all())):
            break
    assert [(r.number, r.status) for r in rows] == [(3, "applied")]


async def test_the_row_says_what_a_robot_runs_and_since_when(hub: Hub, robot):
    since_ns = 1_700_000_000_000_000_000
    await beaten(robot, hub, policy=policy(5), policy_since_wall_ns=since_ns, clock_offset_ns=10**9)
    await flushed(hub)
    stored = await row()
    assert stored.reported_number == 5
    assert stored.reported_since.timestamp() == pytest.approx(1_700_000_001)
    await beaten(robot, hub, policy=policy(5), policy_since_wall_ns=since_ns + 5)
    await flushed(hub)
    assert (await row()).reported_since == stored.reported_since


async def test_changed_settings_reach_a_connected_robot(hub: Hub, robot):
    await robot.until(m.Assignment)
    await in_thread(robots.change_settings, evaluate_every=2, paused=True)
    assignment = await robot.until(m.Assignment)
    assert (assignment.evaluate_every, assignment.paused) == (2, True)


async def test_a_robot_of_which_nobody_takes_telemetry_is_not_asked_for_it(hub: Hub, robot):
    await robot.until(m.Assignment)
    hub.slow_tick()
    assert await robot.quiet()


async def test_telemetry_reaches_those_who_watch_it_without_what_is_privileged(
    hub: Hub, robot, opened, crew
):
    person = await opened(OperatorPeer(crew.viewer))
    await person.watch(telemetry=True)
    asked = await robot.until(m.FeedRequest)
    assert (asked.telemetry, asked.privileged) == (True, False)
    await robot.send(telemetry(tick=4))
    relayed = await person.until(b.RobotTelemetry)
    assert relayed.telemetry.tick == 4
    assert relayed.telemetry.privileged == ()


async def test_a_page_of_one_robot_takes_the_telemetry_of_no_other(hub: Hub, robot, opened, crew):
    here, elsewhere = await opened(OperatorPeer(crew.viewer)), await opened(OperatorPeer(crew.lead))
    # Both hear of the state of every robot.
    await elsewhere.watch(robots=("arm-02",), telemetry=True)
    await here.watch(robots=(robot.robot,), telemetry=True)
    await robot.until(m.FeedRequest, lambda r: r.telemetry)
    await robot.send(telemetry(tick=7))
    assert (await here.until(b.RobotTelemetry)).telemetry.tick == 7
    await elsewhere.watch(robots=(robot.robot,), telemetry=True)
    await robot.send(telemetry(tick=8))
    assert (await elsewhere.until(b.RobotTelemetry)).telemetry.tick == 8


async def test_a_script_may_read_privileged_state(hub: Hub, robot, scripted):
    await scripted.watch(telemetry=True, privileged=True)
    asked = await robot.until(m.FeedRequest, lambda r: r.telemetry)
    assert asked.privileged
    await robot.send(telemetry(tick=4))
    assert (await scripted.until(b.RobotTelemetry)).telemetry.privileged == (9.0,)
    await scripted.send(b.Watch())
    assert (await robot.until(m.FeedRequest)).telemetry is False
