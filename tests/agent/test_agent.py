import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from fleet.agent import statefile
from fleet.agent.agent import Agent
from fleet.agent.config import AgentConfig
from fleet.agent.decisions import Remembered
from fleet.protocol import messages as m
from fleet.protocol.control import Lease, Mode
from fleet.protocol.episode import sha256_of
from fleet.protocol.help import HelpLimits
from fleet.protocol.spec import PolicyRef, TaskSpec
from learning.core.policies.base import save_policy
from tests.agent.gateway import Gateway, gateway, wait_for
from tests.fakes import FakeDriver, fake_policy

ARTIFACT = save_policy(fake_policy((0.1, 0.0, 0.0)))
REF = PolicyRef(number=3, sha256=sha256_of(ARTIFACT), url="/w", size_bytes=len(ARTIFACT))
ASSIGNMENT = m.Assignment(
    tasks=(TaskSpec(name="reach", instruction="reach", timeout_ticks=100_000),),
    evaluate_every=0,
    reset_s=0.0,
)
WORK = [ASSIGNMENT, m.PolicyAnnouncement(policy=REF, weights=ARTIFACT)]


@pytest.fixture
def gate() -> Iterator[Gateway]:
    with gateway() as gate:
        gate.greeting = list(WORK)
        yield gate


@contextmanager
def running(folder, url: str) -> Iterator[Agent]:
    config = AgentConfig(robot="robot-1", server=url, token="tok", spool=str(folder))
    agent = Agent(config, FakeDriver())
    agent.start()
    try:
        yield agent
    finally:
        agent.stop()


def acts(heartbeat: m.Heartbeat) -> bool:
    return heartbeat.mode is Mode.AUTONOMOUS and bool(heartbeat.episode)


def test_a_robot_says_hello_gets_work_and_reports_what_it_does(gate, tmp_path):
    with running(tmp_path, gate.url):
        hello = wait_for(gate, m.Hello)
        assert (hello.robot, hello.mode) == ("robot-1", Mode.HOLDING)
        beat = wait_for(gate, m.Heartbeat, acts)
        assert beat.policy == REF
        assert (beat.task, beat.instruction, beat.purpose) == ("reach", "reach", "train")
        assert beat.reason == ""
        wait_for(gate, m.Heartbeat, lambda b: b.loop.ticks > 0 and b.rtt_ms > 0)
        statuses = [g.status for g in gate.got if isinstance(g, m.PolicyReport)]
        assert statuses == ["verified", "applied"]


def test_a_person_takes_over_drives_and_hands_back_over_the_link(gate, tmp_path):
    with running(tmp_path, gate.url) as agent:
        wait_for(gate, m.Heartbeat, acts)
        gate.send(m.FeedRequest(frames=(("front", "full"),), telemetry=True, privileged=True))
        gate.send(m.LeaseGranted(lease=Lease(epoch=1, holder="ada")))
        assert wait_for(gate, m.Acknowledged, lambda a: a.command == "LeaseGranted").accepted
        gate.send(
            m.Teleop(epoch=1, seq=0, action=(-0.5, 0, 0), t_wall_ns=time.time_ns(), t_client_ms=4.5)
        )
        answer = wait_for(gate, m.Acknowledged, lambda a: a.command == "Teleop")
        assert (answer.accepted, answer.t_client_ms) == (True, 4.5)
        telemetry = wait_for(gate, m.Telemetry, lambda t: t.action[0] == -0.5)
        assert telemetry.privileged == (1.0, 2.0)
        wait_for(gate, m.Frame)
        gate.send(m.LeaseEnded(epoch=1, how="hand_back"))
        wait_for(gate, m.Telemetry, lambda t: t.mode is Mode.AUTONOMOUS and t.seq > telemetry.seq)
        assert agent.arbiter.mode is Mode.AUTONOMOUS


def test_a_stop_is_answered_once_it_is_on_disk_and_survives_a_restart(gate, tmp_path):
    with running(tmp_path, gate.url):
        wait_for(gate, m.Heartbeat, acts)
        gate.send(m.Stop(stop_id="s-1", by="ada"))
        answer = wait_for(gate, m.Acknowledged, lambda a: a.stop_id == "s-1")
        assert (answer.accepted, answer.mode) == (True, Mode.STOPPED)
        on_disk = statefile.read_state(tmp_path / "state" / "control.json", Remembered)
        assert on_disk is not None
        assert (on_disk.mode, on_disk.stop_id) == (Mode.STOPPED, "s-1")
    gate.clear()
    with running(tmp_path, gate.url) as again:
        assert wait_for(gate, m.Hello).mode is Mode.STOPPED
        beat = wait_for(gate, m.Heartbeat, lambda b: bool(b.policy))
        assert (beat.mode, beat.episode) == (Mode.STOPPED, "")
        assert "ada" in beat.reason
        gate.send(m.Release(by="bo"))
        gate.send(m.Resume())
        wait_for(gate, m.Heartbeat, acts)
        assert again.arbiter.mode is Mode.AUTONOMOUS


def test_a_robot_that_was_given_work_once_acts_without_a_server(gate, tmp_path):
    with running(tmp_path, gate.url):
        wait_for(gate, m.Heartbeat, acts)
    with running(tmp_path, "http://127.0.0.1:9") as alone:
        deadline_s = time.monotonic() + 20
        while not alone.runtime.situation.tick and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert alone.runtime.situation.tick
        assert alone.policies.active is not None
        assert alone.policies.active.ref == REF
        assert alone.spool.depth[0] >= 1


def test_a_connection_that_breaks_while_somebody_drives_stops_motion_and_keeps_the_lease(
    gate, tmp_path
):
    with running(tmp_path, gate.url) as agent:
        wait_for(gate, m.Heartbeat, acts)
        gate.send(m.LeaseGranted(lease=Lease(epoch=1, holder="ada")))
        wait_for(gate, m.Acknowledged, lambda a: a.command == "LeaseGranted")
        gate.clear()
        gate.cut()
        hello = wait_for(gate, m.Hello)
        assert hello.epoch == 1
        assert hello.mode in (Mode.HANDOVER, Mode.TAKEOVER)
        assert agent.arbiter.driven


def test_an_abandoned_robot_says_so_at_once_and_after_a_restart(gate, tmp_path):
    with running(tmp_path, gate.url):
        beat = wait_for(gate, m.Heartbeat, acts)
        assert beat.help == m.HelpNeed(number=0)
        gate.send(m.LeaseGranted(lease=Lease(epoch=1, holder="ada")))
        gate.send(m.LeaseEnded(epoch=1, how="lost"))
        need = wait_for(gate, m.HelpNeed)
        assert (need.reasons, need.detail) == (("operator_left",), "ada lost the lease")
        wait_for(gate, m.Heartbeat, lambda b: b.help == need)
    gate.clear()
    with running(tmp_path, gate.url):
        again = wait_for(gate, m.Heartbeat, lambda b: b.help and b.help.reasons)
        assert again.help.reasons == ("operator_left",)
        assert again.help.number > need.number
        gate.send(m.Resume())
        assert wait_for(gate, m.HelpNeed, lambda n: not n.reasons).ended == "recovered"


def test_the_server_says_from_where_on_to_ask_and_people_ask_through_it(gate, tmp_path):
    limits = HelpLimits(doubt=0.2)
    gate.greeting = [msgspec.structs.replace(ASSIGNMENT, help=limits), *WORK[1:]]
    with running(tmp_path, gate.url) as agent:
        # The policy's doubt is 0.5.
        assert wait_for(gate, m.HelpNeed).reasons == ("doubt",)
        assert agent.help.limits == limits
        gate.send(m.AskForHelp(seq=4, by="ada", reason="look"))
        answer = wait_for(gate, m.Acknowledged, lambda a: a.command == "AskForHelp")
        assert (answer.accepted, answer.seq) == (True, 4)
        need = wait_for(gate, m.HelpNeed, lambda n: "explicit" in n.reasons)
        assert need.detail.endswith("ada asks: look")


def test_what_the_agent_cannot_read_of_its_past_makes_it_hold(tmp_path):
    (tmp_path / "state").mkdir(parents=True)
    (tmp_path / "state" / "control.json").write_text("{half")
    config = AgentConfig(robot="r", server="http://127.0.0.1:9", token="t", spool=str(tmp_path))
    agent = Agent(config, FakeDriver())
    assert agent.arbiter.mode is Mode.HOLDING
    assert "cannot be read" in agent.arbiter.reason
    agent.stop()


def test_an_interrupted_write_leaves_the_old_value(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    statefile.write_state(path, Remembered(epoch=1))

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(statefile.os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        statefile.write_state(path, Remembered(epoch=2))
    found = statefile.read_state(path, Remembered)
    assert found is not None
    assert found.epoch == 1


def test_the_state_writer_keeps_the_newest_value_and_flush_waits_for_it(tmp_path):
    writer = statefile.StateWriter()
    for epoch in range(50):
        writer.put(tmp_path / "x.json", Remembered(epoch=epoch))
    assert writer.flush(20)
    found = statefile.read_state(tmp_path / "x.json", Remembered)
    assert found is not None
    assert found.epoch == 49
    writer.stop()
