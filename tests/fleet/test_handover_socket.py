"""A second operator watches, asks for control, and is handed it."""

import msgspec
import pytest

from fleet.models import LeaseEnd, TakeoverLease
from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.control import Lease
from fleet.services import events
from fleet.services.live.handovers import HEARD_FOR_S
from fleet.services.live.hub import Hub
from fleet.services.live.threads import in_thread
from tests.factories import Cast
from tests.fleet.conftest import Clock
from tests.fleet.peers import OperatorPeer, RobotPeer, settled


@pytest.fixture
async def holder(robot: RobotPeer, opened, crew: Cast) -> OperatorPeer:
    peer = await opened(OperatorPeer(crew.operator))
    await peer.watch()
    assert (await peer.take_over(robot)).lease is not None
    return peer


@pytest.fixture
async def second(robot: RobotPeer, opened, crew: Cast) -> OperatorPeer:
    peer = await opened(OperatorPeer(crew.lead))
    await peer.watch()
    return peer


async def asked(peer: OperatorPeer, *names: str) -> None:
    await peer.until(b.ControlAsked, lambda said: said.operators == names)


async def test_control_passes_to_whoever_asked_and_the_robot_holds_in_between(
    robot, holder, second
):
    await second.send(b.AskControl(robot="arm-01"))
    await asked(holder, "lead")
    await asked(second, "lead")
    await holder.send(b.PassControl(robot="arm-01", epoch=1, to="lead"))
    assert (await robot.take(m.LeaseEnded)).how == "lost"
    granted = await robot.take(m.LeaseGranted)
    assert (granted.lease.epoch, granted.lease.holder) == (2, "lead")
    answer = await second.until(b.TakeoverAnswer)
    assert answer.lease == granted.lease
    await asked(holder)  # nobody asks any more
    await second.send(b.Drive(robot="arm-01", epoch=2, seq=0, action=(0.5, 0.5)))
    assert (await robot.take(m.Teleop)).epoch == 2
    await holder.send(b.Drive(robot="arm-01", epoch=1, seq=9, action=(0.5, 0.5)))
    refused = await holder.until(b.CommandAnswer, lambda a: a.answer.command == "Teleop")
    assert not refused.answer.accepted
    rows = await in_thread(lambda: list(TakeoverLease.objects.order_by("epoch")))
    assert [(row.epoch, row.how) for row in rows] == [(1, LeaseEnd.PASSED), (2, "")]


async def test_only_the_holder_passes_and_only_to_somebody_who_asks(robot, holder, second):
    for peer, message, reason in (
        (holder, b.PassControl(robot="arm-01", epoch=1, to="lead"), "lead does not ask"),
        (holder, b.PassControl(robot="arm-01", epoch=7, to="lead"), "epoch 7 holds no lease"),
        (second, b.PassControl(robot="arm-01", epoch=1, to="lead"), "held from another window"),
    ):
        await peer.send(message)
        refused = await peer.until(b.CommandAnswer, lambda a: a.answer.command == "PassControl")
        assert reason in refused.answer.reason
    # The lease is as it was.
    await holder.send(b.Drive(robot="arm-01", epoch=1, seq=1, action=(0.5, 0.5)))
    assert (await robot.take(m.Teleop)).seq == 1


async def test_an_ask_ends_when_it_is_withdrawn_or_its_socket_closes(robot, holder, second):
    for _ in range(2):  # the second time it is still the same ask
        await second.send(b.AskControl(robot="arm-01"))
    await asked(holder, "lead")
    await second.send(b.AskControl(robot="arm-01", asking=False))
    await asked(holder)
    await second.send(b.AskControl(robot="arm-01"))
    await asked(holder, "lead")
    await second.close()
    await asked(holder)


async def test_asks_end_when_nobody_holds_the_robot_any_more(hub: Hub, robot, holder, second):
    await second.send(b.AskControl(robot="arm-01"))
    await asked(holder, "lead")
    await holder.send(b.HandBack(robot="arm-01", epoch=1))
    await robot.take(m.LeaseEnded)
    await settled(lambda: hub.states.get("arm-01").lease is None)
    hub.handovers.repeat()
    hub.handovers.repeat()
    await asked(second)


async def test_whoever_opens_the_page_later_is_told_who_asks(robot, holder, second, opened, crew):
    await second.send(b.AskControl(robot="arm-01"))
    await asked(second, "lead")
    late = await opened(OperatorPeer(crew.viewer))
    await late.watch()
    await asked(late, "lead")


@pytest.mark.parametrize("role", ["viewer", "labeller"])
async def test_those_who_may_not_drive_may_not_ask(robot, holder, opened, crew: Cast, role: str):
    peer = await opened(OperatorPeer(getattr(crew, role)))
    await peer.send(b.AskControl(robot="arm-01"))
    assert "role operator" in (await peer.until(m.Refused)).reason


async def test_rubbish_is_answered_and_changes_nothing(hub: Hub, robot, second):
    await second.send(b.AskControl(robot="arm-01"))
    assert "nobody holds arm-01" in (await second.until(m.Refused)).reason
    await second.send(b.AskControl(robot="arm-99"))
    assert "nobody holds arm-99" in (await second.until(m.Refused)).reason
    for rubbish in (
        '{"type":"AskControl","robot":"../etc"}',
        '{"type":"AskControl","robot":"arm-01","asking":"yes"}',
        '{"type":"PassControl","robot":"arm-01","epoch":-1,"to":"lead"}',
        '{"type":"PassControl","robot":"arm-01","epoch":1,"to":"%s"}' % ("x" * 501),
    ):
        await second.raw(rubbish)
        assert (await second.until(m.Refused)).code == "bad_message"
    assert hub.handovers.names("arm-01") == ()


async def test_asks_of_other_processes_are_shown_passed_to_and_forgotten(
    hub: Hub, clock: Clock, robot, holder, second
):
    there = events.Asking(robot="arm-01", process="other", operators=("zoe",))
    hub.handovers.heard(there)
    await asked(holder, "zoe")
    clock.advance(HEARD_FOR_S + 0.1)
    hub.handovers.repeat()
    await asked(holder)
    # And the other way round: a lease that another process passed to somebody here.
    await second.send(b.AskControl(robot="arm-01"))
    await asked(second, "lead")
    lease = Lease(epoch=2, holder="lead")
    hub.exchange.received(
        events.PASSES, msgspec.msgpack.encode(events.Passed(robot="arm-01", lease=lease))
    )
    assert (await second.until(b.TakeoverAnswer)).lease == lease
    assert (await robot.take(m.LeaseGranted)).lease.epoch == 2
