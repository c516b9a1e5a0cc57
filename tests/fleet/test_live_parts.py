"""The parts of the live side that need no socket."""

import asyncio

import pytest

from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.control import LEASE_TTL_S, Lease
from fleet.services.events import Demand
from fleet.services.live.feeds import DEMAND_TTL_S, Demands, union
from fleet.services.live.holds import Holds
from fleet.services.live.outbox import Outbox, OutboxFull
from fleet.services.live.states import States
from tests.fleet.conftest import Clock


async def drained(outbox: Outbox) -> list[object]:
    return [await outbox.get() for _ in range(len(outbox))]


async def test_state_is_overwritten_and_commands_are_kept_in_order():
    outbox = Outbox()
    outbox.put_state("a", "a1")
    outbox.put_command("c1")
    outbox.put_state("b", "b1")
    outbox.put_state("a", "a2")
    outbox.put_command("c2")
    assert await drained(outbox) == ["c1", "c2", "b1", "a2"]


async def test_a_command_past_its_time_is_dropped(clock: Clock):
    outbox = Outbox(clock=clock)
    outbox.put_command("late", ttl_s=0.5)
    outbox.put_command("kept")
    clock.advance(0.6)
    assert await outbox.get() == "kept"
    assert len(outbox) == 0


async def test_an_urgent_command_goes_first():
    outbox = Outbox()
    outbox.put_command("drive")
    outbox.put_command("stop", first=True)
    assert await drained(outbox) == ["stop", "drive"]


async def test_an_outbox_is_bounded_and_expired_commands_make_room(clock: Clock):
    outbox = Outbox(limit=2, clock=clock)
    outbox.put_command(1, ttl_s=1.0)
    outbox.put_command(2)
    with pytest.raises(OutboxFull):
        outbox.put_command(3)
    clock.advance(2)
    outbox.put_command(3)
    assert await drained(outbox) == [2, 3]


async def test_a_reader_that_waits_is_woken():
    outbox = Outbox()
    reader = asyncio.create_task(outbox.get())
    await asyncio.sleep(0)
    outbox.put_state("k", "v")
    assert await reader == "v"


def test_revisions_grow_even_when_the_clock_goes_back():
    now = [10**18]
    states = States(lambda state: None, wall_ns=lambda: now[0])
    first = states.change("r", stop_pending=True)
    now[0] -= 10**12
    second = states.change("r", stop_pending=False)
    assert second.revision == first.revision + 1


def test_a_change_that_changes_nothing_is_no_event():
    heard: list[b.RobotState] = []
    states = States(heard.append)
    states.change("r", stop_pending=True)
    assert states.change("r", stop_pending=True) is None
    assert len(heard) == 1


def test_an_older_state_of_another_process_is_not_taken():
    states = States(lambda state: None)
    known = states.change("r", connection="online")
    older = b.RobotState(robot="r", revision=known.revision - 1, connection="stale")
    assert not states.learn(older)
    newer = b.RobotState(robot="r", revision=known.revision + 1, connection="stale")
    assert states.learn(newer)
    assert states.get("r").connection == "stale"


def test_a_row_does_not_replace_what_is_known_live():
    states = States(lambda state: None)
    states.change("r", connection="online")
    states.add(b.RobotState(robot="r", revision=2**50, connection="offline"))
    assert states.get("r").connection == "online"


def test_demands_of_a_process_that_fell_silent_end(clock: Clock):
    demands = Demands(clock)
    request = m.FeedRequest(frames=(("front", "full"),), telemetry=True)
    demands.heard("r", Demand(process="a", request=request))
    demands.heard("r", Demand(process="b", request=m.FeedRequest()))
    assert union(demands.elsewhere("r")).frames == (("front", "full"),)
    clock.advance(DEMAND_TTL_S + 0.1)
    assert demands.elsewhere("r") == []


def test_a_hold_is_dropped_only_on_proof(clock: Clock):
    def state(epoch: int | None) -> b.RobotState:
        lease = Lease(epoch=epoch, holder="a") if epoch else None
        return b.RobotState(robot="r", revision=1, connection="online", lease=lease)

    holds = Holds(clock)
    hold = holds.start("r", Lease(epoch=2, holder="a"), object())
    # From before the gateway saw the grant.
    assert holds.compare(state(None)) is None
    assert holds.compare(state(1)) is None
    assert holds.compare(state(2)) is None
    assert holds.compare(state(None)) is hold
    assert holds.compare(state(3)) is hold


def test_a_hold_that_is_used_is_renewed_once_a_second(clock: Clock):
    link = object()
    holds = Holds(clock)
    holds.start("r", Lease(epoch=1, holder="a"), link)
    assert holds.due_for_renewal() == []
    renewals = 0
    for _ in range(100):
        clock.advance(0.1)
        holds.use("r", 1, link)
        renewals += len(holds.due_for_renewal())
    assert 9 <= renewals <= 10
    clock.advance(1.5)
    holds.due_for_renewal()
    clock.advance(1.5)
    assert holds.due_for_renewal() == []  # not used since
    clock.advance(LEASE_TTL_S)
    assert len(holds.expired()) == 1
