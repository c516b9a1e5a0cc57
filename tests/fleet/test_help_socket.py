"""A need from a robot's socket to every operator's, and what they do about it."""

import msgspec
import pytest
from django.db import DatabaseError

from fleet.models import HelpRequest
from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.control import Mode
from fleet.services import events, help
from fleet.services.live.hub import Hub
from fleet.services.live.threads import in_thread
from tests.factories import Cast
from tests.fleet.peers import OperatorPeer, RobotPeer, settled

NEED = m.HelpNeed(number=5, reasons=("doubt",), uncertainty=0.4, detail="doubt 0.4 > τ 0.2")


@pytest.fixture
async def two(opened, crew: Cast, robot: RobotPeer) -> tuple[OperatorPeer, OperatorPeer]:
    """An operator and a lead who watch everything."""
    peers = []
    for who in (crew.operator, crew.lead):
        peer = await opened(OperatorPeer(who))
        await peer.watch()
        peers.append(peer)
    return peers[0], peers[1]


async def status(peer: OperatorPeer, status: str) -> b.HelpState:
    return await peer.until(b.HelpState, lambda state: state.status == status)


async def stored(status: str) -> HelpRequest:
    """Wait until the newest row has this status."""
    row = None
    for _ in range(1000):
        row = await in_thread(lambda: HelpRequest.objects.first())
        if row is not None and row.status == status:
            return row
    raise AssertionError(row)


async def test_a_need_is_seen_by_every_operator_and_becomes_a_row(robot, two):
    await robot.send(NEED)
    for peer in two:
        state = await status(peer, "open")
        assert (state.robot, state.reasons, state.detail) == ("arm-01", ("doubt",), NEED.detail)
        assert state.raised_wall_ns > 0
    assert (await stored("open")).number == 5


async def test_a_need_that_was_lost_costs_one_heartbeat(robot, two):
    await robot.heartbeat(help=NEED)
    await status(two[0], "open")
    await robot.heartbeat(help=m.HelpNeed(number=5, ended="recovered"))
    assert (await status(two[0], "resolved")).number == 5
    await stored("resolved")


async def test_a_need_is_seen_while_the_database_is_away_and_written_when_it_is_back(
    robot, two, monkeypatch
):
    def away(**_: object) -> None:
        raise DatabaseError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(help, "store_need", away)
        await robot.heartbeat(help=NEED)
        await status(two[0], "open")
        assert not await in_thread(HelpRequest.objects.exists)
    # The next heartbeat says it again.
    for _ in range(50):
        await robot.heartbeat(help=NEED)
        if await in_thread(HelpRequest.objects.exists):
            break
    assert (await stored("open")).number == 5


async def test_who_comes_later_finds_the_queue_in_the_snapshot_also_on_another_process(
    hub: Hub, robot, opened, crew: Cast, script
):
    await robot.send(NEED)
    await stored("open")
    peer = await opened(OperatorPeer(crew.lead))
    snapshot = await peer.watch()
    assert [state.number for state in snapshot.help] == [5]
    assert snapshot.operator_role == "lead"
    # A process that heard nothing reads it from the database.
    hub.help._states.clear()
    assert len((await peer.watch()).help) == 1
    # And one that missed the end of it.
    await in_thread(HelpRequest.objects.update, status="resolved", closed_at="2026-01-01T00:00Z")
    await in_thread(HelpRequest.objects.update, revision=2**52)
    assert (await peer.watch()).help == ()
    # Watching one other robot, one sees nothing of this.
    assert (await peer.watch(every=False, robots=("arm-02",))).help == ()


async def test_one_claims_and_the_other_sees_who_has_it(robot, two):
    first, second = two
    await robot.send(NEED)
    await stored("open")
    await first.send(b.ClaimHelp(robot="arm-01"))
    assert (await status(second, "claimed")).claimed_by == "operator"
    await second.send(b.ClaimHelp(robot="arm-01"))
    refused = await second.until(m.Refused)
    assert (refused.code, refused.reason) == (
        "help_taken",
        "operator has the request of arm-01",
    )


async def test_a_takeover_is_a_claim_and_a_vanished_operator_opens_it_again(robot, two):
    first, second = two
    await robot.send(NEED)
    await stored("open")
    assert (await first.take_over(robot)).lease is not None
    assert (await status(second, "claimed")).claimed_by == "operator"
    await first.close()
    await robot.take(m.LeaseEnded)
    assert robot.mode is Mode.HOLDING
    await robot.send(msgspec.structs.replace(NEED, number=6, reasons=("doubt", "operator_left")))
    again = await status(second, "open")
    assert (again.claimed_by, again.note) == ("", "operator left")
    assert again.raised_wall_ns > 0


async def test_a_request_is_skipped_with_its_reason_or_left_to_leads(robot, two):
    first, second = two
    await robot.send(NEED)
    await stored("open")
    await first.send(b.EscalateHelp(robot="arm-01", number=5, reason="needs hands"))
    assert (await status(second, "escalated")).note == "escalated by operator: needs hands"
    await first.send(b.ClaimHelp(robot="arm-01"))
    assert "waits for a lead" in (await first.until(m.Refused)).reason
    await second.send(b.SkipHelp(robot="arm-01", number=5, reason="reset by hand"))
    assert (await status(first, "skipped")).note == "skipped by lead: reset by hand"
    # The robot goes on saying it; nothing opens.
    await robot.heartbeat(help=NEED)
    await first.until(b.RobotState)
    assert (await stored("skipped")).number == 5


async def test_what_a_person_asks_goes_to_the_robot_and_comes_back_as_its_need(robot, two):
    await two[0].send(b.AskHelp(robot="arm-01", reason="the cable is caught"))
    asked = await robot.take(m.AskForHelp)
    assert (asked.by, asked.reason, asked.wanted) == ("operator", "the cable is caught", True)
    answer = await two[0].until(b.CommandAnswer)
    assert answer.answer.accepted
    await robot.send(msgspec.structs.replace(NEED, reasons=("explicit",)))
    await stored("open")
    # A skip is the answer: the robot is told to ask for it no more.
    await two[0].send(b.SkipHelp(robot="arm-01", number=5, reason="it is free"))
    withdrawn = await robot.take(m.AskForHelp)
    assert not withdrawn.wanted


async def test_those_who_watch_only_cannot_ask_or_answer(robot, opened, crew: Cast, two):
    viewer = await opened(OperatorPeer(crew.viewer))
    await viewer.watch()
    await robot.send(NEED)
    await stored("open")
    await viewer.send(b.ClaimHelp(robot="arm-01"))
    assert (await viewer.until(m.Refused)).code == "not_allowed"
    await viewer.send(b.AskHelp(robot="arm-01"))
    assert "needs the role operator" in (await viewer.until(b.CommandAnswer)).answer.reason


@pytest.mark.parametrize(
    "rubbish",
    [
        '{"type":"ClaimHelp"}',
        '{"type":"ClaimHelp","robot":"../x"}',
        '{"type":"SkipHelp","robot":"arm-01","number":5,"reason":""}',
        '{"type":"SkipHelp","robot":"arm-01","number":5}',
        '{"type":"SkipHelp","robot":"arm-01","number":-1,"reason":"x"}',
        '{"type":"EscalateHelp","robot":"arm-01","number":"five"}',
        '{"type":"AskHelp","robot":"arm-01","wanted":"yes"}',
        '{"type":"AskHelp","robot":"arm-01","reason":"' + "x" * 201 + '"}',
        '{"type":"HelpState","robot":"arm-01","revision":1,"number":5,"status":"open"}',
    ],
)
async def test_rubbish_is_refused_and_the_request_stays(robot, two, rubbish: str):
    await robot.send(NEED)
    await stored("open")
    await two[0].raw(rubbish)
    assert (await two[0].until(m.Refused)).code == "bad_message"
    await two[0].send(b.ClaimHelp(robot="arm-01"))
    assert (await status(two[0], "claimed")).claimed_by == "operator"


@pytest.mark.parametrize(
    "fields",
    [
        {"uncertainty": 1.5},
        {"risk": -0.1},
        {"number": -1},
        {"reasons": ["doubt"] * 9},
        {"reasons": ["<script>"]},
        {"ended": "perhaps"},
    ],
)
async def test_a_need_that_makes_no_sense_is_refused_and_the_robot_stays(robot, two, fields):
    raw = msgspec.to_builtins(NEED) | fields
    await robot.raw(msgspec.msgpack.encode(raw))
    await robot.until(m.Refused)
    await robot.send(NEED)
    await status(two[0], "open")


async def test_a_request_of_another_process_is_shown_and_older_ones_are_not(hub: Hub, robot, two):
    def heard(state: b.HelpState) -> None:
        hub.exchange.received(events.HELP, msgspec.json.encode(state))

    newest = b.HelpState(
        robot="arm-02", revision=10, number=1, status="claimed", claimed_by="ada", raised_wall_ns=1
    )
    heard(newest)
    heard(msgspec.structs.replace(newest, revision=9, status="open"))
    assert (await status(two[0], "claimed")).robot == "arm-02"
    assert hub.help.snapshot() == (newest,)


async def test_a_claim_that_nobody_drives_lapses_by_the_sweep(hub: Hub, robot, two, monkeypatch):
    monkeypatch.setattr(help, "CLAIM_S", -1.0)
    await robot.send(NEED)
    await stored("open")
    await two[0].send(b.ClaimHelp(robot="arm-01"))
    await status(two[1], "claimed")
    hub.slow_tick()
    assert (await status(two[1], "open")).note == "operator took it and does not drive"
    await settled(lambda: len(hub.help.snapshot()) == 1)
