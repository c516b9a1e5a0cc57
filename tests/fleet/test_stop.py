import msgspec
import pytest
from django.db import DatabaseError

from fleet.models import Robot
from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.control import Mode
from fleet.services import events, stops
from fleet.services.live.hub import Hub
from fleet.services.live.pending_stops import REPEAT_S
from fleet.services.live.threads import in_thread
from tests.factories import Cast, make_robot
from tests.fleet.peers import OperatorPeer, RobotPeer, settled


async def row(name: str = "arm-01") -> Robot:
    return await in_thread(Robot.objects.get, name=name)


@pytest.mark.parametrize("role", ["viewer", "labeller", "operator", "lead", "admin"])
async def test_any_operator_may_stop_every_robot(robot, opened, crew: Cast, role: str):
    peer = await opened(OperatorPeer(getattr(crew, role)))
    await peer.watch()
    await peer.send(b.StopRobots(every=True))
    assert (await robot.take(m.Stop)).by == role
    await peer.until(b.RobotState, lambda s: s.stop_pending)
    state = await peer.until(b.RobotState, lambda s: not s.stop_pending)
    assert state.heartbeat.mode is Mode.STOPPED


async def test_a_stop_is_repeated_until_the_robot_acknowledges_it(hub: Hub, clock, robot, scripted):
    await scripted.send(b.StopRobots(robots=("arm-01",)))
    first = await robot.until(m.Stop)
    for _ in range(3):
        clock.advance(REPEAT_S)
        hub.tick()
        assert (await robot.until(m.Stop)).stop_id == first.stop_id
    await robot.send(m.Acknowledged(command="Stop", stop_id="another", mode=Mode.AUTONOMOUS))
    clock.advance(REPEAT_S)
    hub.tick()
    await robot.take(m.Stop)
    await settled(lambda: hub.stops.pending("arm-01") is None)
    clock.advance(10 * REPEAT_S)
    hub.tick()
    assert await robot.quiet()


async def test_a_stop_does_not_wait_for_the_database(hub, robot, scripted, monkeypatch):
    def down(**kwargs: object) -> None:
        raise DatabaseError("away")

    monkeypatch.setattr(stops, "mark_stop", down)
    monkeypatch.setattr(stops, "stop_acknowledged", down)
    await scripted.send(b.StopRobots(every=True))
    await robot.take(m.Stop)
    await scripted.until(b.RobotState, lambda s: s.heartbeat.mode is Mode.STOPPED)


async def test_a_robot_that_was_away_is_stopped_when_it_connects(hub: Hub, opened, arm, script):
    operator = await opened(OperatorPeer(token="script-token"))
    await operator.watch()
    await operator.send(b.StopRobots(robots=("arm-01",)))
    await operator.until(b.RobotState, lambda s: s.stop_pending)
    robot = await opened(RobotPeer("arm-01"))
    await robot.greet()
    await robot.take(m.Stop)
    await operator.until(b.RobotState, lambda s: not s.stop_pending)


async def test_a_stop_survives_the_process_that_took_it(hub: Hub, opened, arm, crew: Cast):
    stop = await in_thread(stops.request_stop, by=crew.viewer, every=True)
    hub.stops.__init__(hub)  # what another process, or this one started anew, knows
    robot = await opened(RobotPeer("arm-01"))
    await robot.greet()
    assert (await robot.take(m.Stop)).stop_id == stop.stop_id
    await settled(lambda: hub.stops.pending("arm-01") is None)
    for _ in range(1000):
        if not (await row()).stop_requested:
            break
    else:
        pytest.fail("the row still says that the stop is due")


async def test_the_plain_form_stops_robots_too(hub: Hub, robot, scripted, crew: Cast):
    stop = await in_thread(stops.request_stop, by=crew.viewer, robots=("arm-01",))
    assert (await robot.take(m.Stop)).stop_id == stop.stop_id


async def test_the_acknowledgement_may_be_written_before_the_request(arm, crew: Cast):
    stop = stops.new_stop("viewer")
    await in_thread(stops.stop_acknowledged, robot="arm-01", stop_id=stop.stop_id)
    await in_thread(stops.mark_stop, stop=stop, robots=None)
    assert (await row()).stop_requested == ""


async def test_a_later_stop_stays_due_when_an_earlier_one_is_acknowledged(arm):
    first, second = stops.new_stop("viewer"), stops.new_stop("lead")
    await in_thread(stops.mark_stop, stop=first, robots=None)
    await in_thread(stops.mark_stop, stop=second, robots=("arm-01",))
    await in_thread(stops.stop_acknowledged, robot="arm-01", stop_id=first.stop_id)
    assert (await row()).stop_requested == second.stop_id


async def test_stopping_some_leaves_the_others_alone(hub: Hub, robot, scripted, opened):
    await in_thread(make_robot, "arm-02")
    other = await opened(RobotPeer("arm-02"))
    await other.hello()
    await other.heartbeat()
    await scripted.send(b.StopRobots(robots=("arm-02",)))
    await other.take(m.Stop)
    await robot.heartbeat()
    assert hub.stops.pending("arm-01") is None


async def test_a_stop_ends_the_takeover(hub: Hub, robot, scripted):
    await scripted.take_over(robot)
    await scripted.send(b.StopRobots(every=True))
    await robot.take(m.Stop)
    assert hub.takeovers.holder_of("arm-01", 1) is None
    await scripted.send(b.TakeOver(robot="arm-01"))
    answer = await scripted.until(b.TakeoverAnswer)
    assert answer.lease is None
    assert "stop" in answer.reason


async def test_a_stopped_robot_is_released_by_an_operator_and_does_not_resume(robot, scripted):
    await scripted.send(b.StopRobots(every=True))
    await robot.take(m.Stop)
    await scripted.until(
        b.RobotState, lambda s: s.heartbeat.mode is Mode.STOPPED and not s.stop_pending
    )
    await scripted.send(b.ReleaseRobot(robot="arm-01"))
    assert (await robot.take(m.Release)).by == "script"
    state = await scripted.until(b.RobotState, lambda s: s.heartbeat.mode is Mode.HOLDING)
    assert not state.stop_pending


@pytest.mark.parametrize("role", ["viewer", "labeller"])
async def test_those_who_may_not_drive_may_not_release(robot, opened, crew: Cast, role: str):
    peer = await opened(OperatorPeer(getattr(crew, role)))
    await peer.watch()
    await peer.send(b.StopRobots(every=True))
    await robot.take(m.Stop)
    await peer.until(b.RobotState, lambda s: not s.stop_pending)
    await peer.send(b.ReleaseRobot(robot="arm-01"))
    answer = await peer.until(b.CommandAnswer)
    assert "role operator" in answer.answer.reason
    await robot.heartbeat()
    assert await robot.quiet()


async def test_a_stop_that_is_not_acknowledged_cannot_be_released(robot, scripted):
    await scripted.send(b.StopRobots(every=True))
    await robot.until(m.Stop)
    await scripted.send(b.ReleaseRobot(robot="arm-01"))
    answer = await scripted.until(b.CommandAnswer)
    assert "not acknowledged" in answer.answer.reason


async def test_the_copy_of_a_stop_that_comes_back_through_redis_is_no_new_stop(
    hub: Hub, robot, scripted
):
    stop = hub.stops.request(by="viewer", every=True)
    await robot.take(m.Stop)
    await settled(lambda: hub.stops.pending("arm-01") is None)
    hub.stops.apply(events.StopRequest(stop=stop, every=True))
    assert hub.stops.pending("arm-01") is None
    payload = msgspec.msgpack.encode(events.StopRequest(stop=stop, every=True))
    hub.exchange.received(events.STOPS, payload)
    assert await robot.quiet()
