import math

import pytest

from fleet.models import LeaseEnd, TakeoverLease
from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.control import LEASE_TTL_S, Mode
from fleet.services.live.hub import Hub
from fleet.services.live.threads import in_thread
from tests.factories import Cast
from tests.fleet.peers import OperatorPeer, RobotPeer, settled


def drive(epoch: int, seq: int = 1, **fields: object) -> b.Drive:
    values = {"robot": "arm-01", "epoch": epoch, "seq": seq, "action": (0.5, -0.5)}
    return b.Drive(**values | fields)


async def leases() -> list[TakeoverLease]:
    return await in_thread(lambda: list(TakeoverLease.objects.order_by("epoch")))


async def ended(how: LeaseEnd) -> None:
    """Wait until the newest lease's row says how it ended."""
    row = None
    for _ in range(1000):
        row = (await leases())[-1]
        if row.ended_at is not None:
            break
    assert row is not None
    assert row.how == how


async def test_a_takeover_reaches_the_robot_and_a_command_comes_back_accepted(
    robot: RobotPeer, scripted: OperatorPeer
):
    answer = await scripted.take_over(robot)
    assert answer.lease is not None
    assert (answer.lease.epoch, answer.lease.holder_kind) == (1, "scripted")

    await scripted.send(drive(1, seq=7, t_client_ms=12.5))
    teleop = await robot.take(m.Teleop)
    assert (teleop.epoch, teleop.seq, teleop.action) == (1, 7, (0.5, -0.5))
    relayed = await scripted.until(b.CommandAnswer, lambda a: a.answer.command == "Teleop")
    assert relayed.answer.accepted
    assert (relayed.answer.seq, relayed.answer.t_client_ms) == (7, 12.5)


async def test_everybody_sees_who_holds_the_robot(robot, scripted, opened, crew: Cast):
    watcher = await opened(OperatorPeer(crew.viewer))
    await watcher.watch()
    await scripted.take_over(robot)
    state = await watcher.until(b.RobotState, lambda s: s.lease is not None)
    assert (state.lease.holder, state.lease.holder_kind) == ("script", "scripted")


async def test_only_one_operator_holds_a_robot(robot, scripted, opened, crew: Cast):
    await scripted.take_over(robot)
    other = await opened(OperatorPeer(crew.operator))
    await other.watch()
    answer = await other.take_over(robot)
    assert answer.lease is None
    assert "held by script" in answer.reason


async def test_a_second_window_of_the_same_operator_may_not_drive(robot, scripted, opened):
    await scripted.take_over(robot)
    window = await opened(OperatorPeer(token="script-token"))
    await window.send(drive(1))
    answer = await window.until(b.CommandAnswer)
    assert not answer.answer.accepted
    assert "another window" in answer.answer.reason


@pytest.mark.parametrize("role", ["viewer", "labeller"])
async def test_those_who_may_not_drive_get_no_lease(robot, opened, crew: Cast, role: str):
    peer = await opened(OperatorPeer(getattr(crew, role)))
    await peer.watch()
    answer = await peer.take_over(robot)
    assert answer.lease is None
    assert "role operator" in answer.reason


@pytest.mark.parametrize("role", ["operator", "lead", "admin"])
async def test_those_who_may_drive_get_the_lease(robot, opened, crew: Cast, role: str):
    peer = await opened(OperatorPeer(getattr(crew, role)))
    await peer.watch()
    answer = await peer.take_over(robot)
    assert answer.lease is not None
    assert answer.lease.holder == role


async def test_a_command_without_a_lease_is_refused_and_not_sent(robot, scripted):
    await scripted.send(drive(1))
    answer = await scripted.until(b.CommandAnswer)
    assert not answer.answer.accepted
    assert answer.answer.command == "Teleop"
    await scripted.take_over(robot)
    await scripted.send(drive(2, seq=2))
    answer = await scripted.until(b.CommandAnswer, lambda a: a.answer.seq == 2)
    assert "epoch 2 holds no lease" in answer.answer.reason
    await scripted.send(drive(1, seq=3))
    assert (await robot.until(m.Teleop)).seq == 3


@pytest.mark.parametrize("age_ms", [501.0, 1e9, -1.0])
async def test_driving_by_stale_video_is_refused(robot, scripted, age_ms: float):
    await scripted.take_over(robot)
    await scripted.send(drive(1, frame_age_ms=age_ms))
    answer = await scripted.until(b.CommandAnswer, lambda a: a.answer.command == "Teleop")
    assert "stale video" in answer.answer.reason
    await scripted.send(drive(1, seq=2, frame_age_ms=500.0))
    assert (await robot.until(m.Teleop)).seq == 2


async def test_an_action_that_is_not_finite_never_reaches_the_robot(hub: Hub, robot, scripted):
    await scripted.take_over(robot)
    link = hub.takeovers.holder_of("arm-01", 1)
    for value in (math.nan, math.inf):
        answer = hub.takeovers.drive(link, drive(1, action=(value, 0.0)))
        assert answer is not None
        assert "not finite" in answer.answer.reason
    await scripted.raw('{"type":"Drive","robot":"arm-01","epoch":1,"seq":1,"action":[1e999,0]}')
    assert await scripted.until(m.Refused)


async def test_handing_back_returns_the_robot_to_its_policy(robot, scripted):
    await scripted.take_over(robot)
    await scripted.send(b.HandBack(robot="arm-01", epoch=1))
    assert (await robot.take(m.LeaseEnded)).how == "hand_back"
    answer = await scripted.until(b.CommandAnswer, lambda a: a.answer.command == "LeaseEnded")
    assert answer.answer.mode is Mode.AUTONOMOUS
    await ended(LeaseEnd.HAND_BACK)


async def test_a_robot_can_be_taken_again_at_once_under_a_higher_epoch(robot, scripted):
    for epoch in (1, 2, 3):
        answer = await scripted.take_over(robot)
        assert answer.lease.epoch == epoch
        await scripted.send(b.HandBack(robot="arm-01", epoch=epoch))
        await robot.take(m.LeaseEnded)


async def test_when_the_holder_disconnects_the_robot_is_told_to_hold(robot, scripted):
    await scripted.take_over(robot)
    await scripted.close()
    assert (await robot.take(m.LeaseEnded)).how == "lost"
    await ended(LeaseEnd.LOST)
    await robot.heartbeat()
    assert await robot.quiet()  # nothing tells it to resume


async def test_a_silent_holder_loses_the_lease(hub: Hub, clock, robot, scripted):
    await scripted.take_over(robot)
    clock.advance(LEASE_TTL_S - 0.1)
    hub.tick()
    assert hub.takeovers.holder_of("arm-01", 1)
    clock.advance(0.2)
    hub.tick()
    assert (await robot.take(m.LeaseEnded)).how == "lost"
    await ended(LeaseEnd.EXPIRED)


async def test_any_command_or_keep_alive_renews_the_lease(hub: Hub, clock, robot, scripted):
    await scripted.take_over(robot)
    before = (await leases())[0].expires_at
    for seq, message in enumerate([b.KeepLease(robot="arm-01", epoch=1), drive(1, seq=9)]):
        clock.advance(LEASE_TTL_S - 0.1)
        await scripted.send(message)
        await scripted.send(m.Ping(t_sender_ns=seq))
        await scripted.until(m.Pong, lambda pong, seq=seq: pong.t_sender_ns == seq)
        hub.tick()
        assert hub.takeovers.holder_of("arm-01", 1)
    for _ in range(1000):
        if (await leases())[0].expires_at > before:
            break
    else:
        pytest.fail("the row was not renewed")


async def test_a_lease_that_the_robot_does_not_take_ends(robot, scripted):
    await scripted.send(b.TakeOver(robot="arm-01"))
    granted = await robot.until(m.LeaseGranted)
    await robot.send(
        m.Acknowledged(
            command="LeaseGranted",
            epoch=granted.lease.epoch,
            accepted=False,
            reason="this is an evaluation episode",
            mode=Mode.AUTONOMOUS,
        )
    )
    answer = await scripted.until(b.CommandAnswer)
    assert not answer.answer.accepted
    await scripted.until(b.RobotState, lambda s: s.lease is None and s.revision > 0)
    await ended(LeaseEnd.REFUSED)


async def test_an_evaluation_episode_is_not_offered_for_takeover(robot, scripted):
    await robot.heartbeat(purpose="eval")
    await scripted.until(b.RobotState, lambda s: s.heartbeat and s.heartbeat.purpose == "eval")
    answer = await scripted.take_over(robot)
    assert answer.lease is None
    assert "evaluation" in answer.reason


async def test_a_robot_that_is_driven_without_a_lease_is_told_to_hold(robot, scripted):
    await robot.heartbeat(mode=Mode.TAKEOVER, epoch=4)
    ended_ = await robot.until(m.LeaseEnded)
    assert (ended_.epoch, ended_.how) == (4, "lost")


async def test_a_robot_that_gave_up_the_takeover_itself_ends_the_lease(robot, scripted):
    await scripted.take_over(robot)
    await robot.heartbeat(mode=Mode.HOLDING, epoch=1)
    await scripted.until(
        b.RobotState, lambda s: s.lease is None and s.heartbeat.mode is Mode.HOLDING
    )
    await ended(LeaseEnd.LOST)


async def test_a_robot_that_reconnects_is_granted_the_same_lease_again(
    hub: Hub, robot, scripted, opened
):
    await scripted.take_over(robot)
    again = await opened(RobotPeer("arm-01"))
    again.epoch, again.mode = robot.epoch, robot.mode
    welcome = await again.hello()
    assert welcome.epoch == 1
    assert (await again.take(m.LeaseGranted)).lease.epoch == 1
    await scripted.send(drive(1))
    assert (await again.until(m.Teleop)).epoch == 1
    assert await robot.closed() == m.CloseCode.REPLACED


async def test_the_server_never_grants_at_or_below_what_a_robot_has_seen(
    hub: Hub, opened, arm, script
):
    robot = await opened(RobotPeer("arm-01"))
    assert (await robot.hello(epoch=41)).epoch == 41
    await robot.heartbeat(epoch=41)
    operator = await opened(OperatorPeer(token="script-token"))
    await operator.watch()
    assert (await operator.take_over(robot)).lease.epoch == 42


async def test_a_revoked_lease_stops_its_holder(hub: Hub, robot, scripted, crew: Cast):
    from fleet.services.takeover import revoke_lease

    await scripted.take_over(robot)
    assert await in_thread(revoke_lease, robot="arm-01", by=crew.lead)
    assert (await robot.take(m.LeaseEnded)).how == "lost"
    await settled(lambda: hub.takeovers.holder_of("arm-01", 1) is None)
    await scripted.send(drive(1))
    answer = await scripted.until(b.CommandAnswer, lambda a: a.answer.command == "Teleop")
    assert not answer.answer.accepted


async def test_a_lost_lease_leaves_other_robots_alone(hub: Hub, robot, scripted):
    answer = await scripted.take_over(robot)
    await scripted.send(b.TakeOver(robot="arm-99"))
    assert (await scripted.until(b.TakeoverAnswer)).lease is None
    assert hub.takeovers.holder_of("arm-01", answer.lease.epoch)


async def test_a_driver_at_rest_learns_how_late_commands_would_be(robot, scripted):
    await scripted.take_over(robot)
    await scripted.send(b.KeepLease(robot="arm-01", epoch=1, t_client_ms=77.5))
    assert (await robot.take(m.Probe)).t_client_ms == 77.5
    answer = await scripted.until(b.CommandAnswer, lambda a: a.answer.command == "Probe")
    assert (answer.answer.accepted, answer.answer.t_client_ms) == (True, 77.5)


async def test_nobody_probes_a_robot_that_somebody_else_holds(robot, scripted, opened, crew: Cast):
    await scripted.take_over(robot)
    other = await opened(OperatorPeer(crew.operator))
    await other.send(b.KeepLease(robot="arm-01", epoch=1, t_client_ms=1.0))
    answer = await other.until(b.CommandAnswer)
    assert "another window" in answer.answer.reason
    for rubbish in ('"soon"', "-1", "1e999", "null"):
        await other.raw(
            f'{{"type":"KeepLease","robot":"arm-01","epoch":1,"t_client_ms":{rubbish}}}'
        )
        assert (await other.until(m.Refused)).code == "bad_message"
    # Of all these, nothing reached the robot.
    await scripted.send(drive(1, seq=9))
    assert (await robot.next()).seq == 9
