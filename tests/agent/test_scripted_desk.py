import numpy as np
import pytest

from fleet.agent.arbiter import Arbiter
from fleet.agent.teleop import desk as d
from fleet.agent.teleop.desk import Desk
from fleet.agent.teleop.gate import GateConfig
from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.control import HANDOVER_S, LEASE_TTL_S, Lease, Mode
from fleet.protocol.simulation import robot_spec

TICK_S = 0.05
PRIVILEGED = (0.0,) * 39


class StillClock:
    """A clock that only moves when told to."""

    def __init__(self):
        self.ns = 10**9

    def monotonic_ns(self):
        return self.ns

    wall_ns = monotonic_ns

    def sleep_until(self, t_mono_ns):
        self.ns = max(self.ns, t_mono_ns)

    def advance(self, seconds):
        self.ns += int(seconds * 1e9)


def expert(task, privileged):
    assert task == "hammer"
    assert len(privileged) == 39
    return np.array([0.5, 0.0, 0.0, 1.0], np.float32)


class World:
    """Feeds one desk with ticks of robots and collects what it says."""

    def __init__(self):
        self.desk = Desk(expert)
        self.now_s = 100.0
        self.ticks = {}
        self.revision = 0

    def state(self, robot, *, mode=Mode.AUTONOMOUS, lease=None, connection="online", reason=""):
        self.revision += 1
        heartbeat = m.Heartbeat(
            seq=0, t_mono_ns=0, t_wall_ns=0, mode=mode, epoch=0, policy=None, reason=reason
        )
        state = b.RobotState(
            robot=robot,
            revision=self.revision,
            connection=connection,
            heartbeat=heartbeat,
            lease=lease,
        )
        return self.desk.receive(state, self.now_s)

    def telemetry(self, robot, *, agrees, episode="e1", mode=Mode.AUTONOMOUS, **fields):
        key = (robot, episode)
        tick = self.ticks[key] = self.ticks.get(key, -1) + 1
        now = m.Telemetry(
            seq=tick,
            t_wall_ns=0,
            mode=mode,
            epoch=0,
            tick=tick,
            state=(0.0,),
            action=(0.0,) * 4,
            policy_action=(0.5, 0.0, 0.0, 1.0) if agrees else (-1.0, 1.0, 1.0, -1.0),
            episode=episode,
            task="hammer",
            privileged=PRIVILEGED,
            reward=0.1 * tick,
            **fields,
        )
        return self.desk.receive(b.RobotTelemetry(robot=robot, telemetry=now), self.now_s)

    def ticks_of(self, count, agreeing, **fields):
        """Let `count` ticks pass for robots given as {name: agrees}; returns all that was sent."""
        sent = []
        for _ in range(count):
            self.now_s += TICK_S
            for robot, agrees in agreeing.items():
                sent += self.telemetry(robot, agrees=agrees, **fields)
            sent += self.desk.poll(self.now_s)
        return sent

    def grant(self, robot, epoch=1):
        lease = Lease(epoch=epoch, holder="script", holder_kind="scripted")
        answer = b.TakeoverAnswer(robot=robot, lease=lease)
        sent = self.desk.receive(answer, self.now_s)
        self.state(robot, mode=Mode.TAKEOVER, lease=lease)
        return sent


@pytest.fixture
def world():
    world = World()
    world.state("a")
    world.state("b")
    return world


def taken(world, robot="a"):
    assert b.TakeOver(robot=robot) in world.ticks_of(30, {robot: False})
    world.grant(robot)
    assert world.desk.driving == robot


def test_a_robot_that_disagrees_is_asked_for_once(world):
    sent = world.ticks_of(30, {"a": False, "b": True})
    assert sent == [b.TakeOver(robot="a")]


def test_a_robot_that_agrees_is_left_alone(world):
    assert world.ticks_of(100, {"a": True, "b": True}) == []


def test_the_operator_takes_hold_before_it_moves(world):
    taken(world)
    still = GateConfig().hold_ticks - 1
    assert world.ticks_of(still, {"a": False}, mode=Mode.HANDOVER) == []
    (first,) = world.ticks_of(1, {"a": False}, mode=Mode.HANDOVER)
    assert isinstance(first, b.Drive)
    # It arrives before the handover ends: no step without motion is imitated.
    assert (still + 1) * TICK_S < HANDOVER_S


def test_a_driven_robot_gets_the_experts_action_each_tick_in_its_epoch(world):
    taken(world)
    world.ticks_of(GateConfig().hold_ticks - 1, {"a": False}, mode=Mode.HANDOVER)
    sent = world.ticks_of(5, {"a": False}, mode=Mode.TAKEOVER)
    assert [x.seq for x in sent] == [1, 2, 3, 4, 5]
    assert all(isinstance(x, b.Drive) and x.epoch == 1 for x in sent)
    assert sent[0].action == (0.5, 0.0, 0.0, 1.0)


def test_a_robot_is_handed_back_when_the_policy_agrees_again(world):
    taken(world)
    sent = world.ticks_of(60, {"a": True}, mode=Mode.TAKEOVER)
    assert b.HandBack(robot="a", epoch=1) in sent
    assert world.desk.driving is None


def test_a_takeover_ends_with_its_episode(world):
    taken(world)
    world.ticks_of(5, {"a": False}, mode=Mode.TAKEOVER)
    sent = world.ticks_of(1, {"a": False}, episode="e2", mode=Mode.TAKEOVER)
    assert sent == [b.HandBack(robot="a", epoch=1)]


def test_episodes_held_out_for_evaluation_are_never_interrupted(world):
    assert world.ticks_of(100, {"a": False, "b": False}, purpose="eval") == []


def test_one_robot_at_a_time(world):
    taken(world)
    sent = world.ticks_of(30, {"a": False, "b": False})
    assert not [x for x in sent if isinstance(x, b.TakeOver)]


def test_the_one_that_waited_longest_is_helped_first(world):
    taken(world)
    world.ticks_of(40, {"a": False, "b": False})
    world.state("c")
    world.ticks_of(12, {"a": False, "b": False, "c": False})
    sent = world.ticks_of(2, {"a": False, "b": False, "c": False}, episode="e2")
    assert b.HandBack(robot="a", epoch=1) in sent
    sent = world.ticks_of(20, {"b": False, "c": False})
    assert sent[0] == b.TakeOver(robot="b")


def test_a_robot_somebody_else_drives_is_not_asked_for(world):
    world.state("a", lease=Lease(epoch=4, holder="ann"), mode=Mode.TAKEOVER)
    assert world.ticks_of(60, {"a": False}) == []


def test_a_refused_request_leaves_the_robot_alone_for_a_while(world):
    world.ticks_of(30, {"a": False})
    world.desk.receive(b.TakeoverAnswer(robot="a", lease=None, reason="held"), world.now_s)
    assert world.ticks_of(int(d.RETRY_S / TICK_S) - 2, {"a": False}) == []
    assert b.TakeOver(robot="a") in world.ticks_of(20, {"a": False})
    assert world.desk.counts.reasons == {"held": 1}


def test_a_lease_that_comes_after_giving_up_is_given_back(world):
    world.ticks_of(30, {"a": False})
    world.ticks_of(int(d.ANSWER_TIMEOUT_S / TICK_S) + 2, {"b": True})
    assert world.grant("a", epoch=3) == [b.HandBack(robot="a", epoch=3)]


def test_a_robot_that_falls_silent_is_handed_back(world):
    taken(world)
    sent = world.ticks_of(int(d.SILENCE_S / TICK_S) + 2, {"b": True})
    assert sent == [b.HandBack(robot="a", epoch=1)]


def test_a_lease_the_server_took_away_is_not_driven_on(world):
    taken(world)
    world.ticks_of(30, {"a": False}, mode=Mode.TAKEOVER)
    world.state("a", lease=Lease(epoch=2, holder="ann"), mode=Mode.TAKEOVER)
    assert world.desk.driving is None
    assert world.desk.counts.lost_leases == 1


def test_old_state_does_not_end_a_fresh_takeover(world):
    taken(world)
    world.state("a", lease=None)
    assert world.desk.driving == "a"


def test_a_paused_desk_hands_back_and_asks_for_nothing(world):
    taken(world)
    world.desk.receive(b.FleetState(scripted_paused=True), world.now_s)
    sent = world.ticks_of(60, {"a": False, "b": False}, mode=Mode.AUTONOMOUS)
    assert [x for x in sent if not isinstance(x, b.Drive)] == [b.HandBack(robot="a", epoch=1)]
    world.desk.receive(b.FleetState(scripted_paused=False), world.now_s)
    world.state("a")
    assert b.TakeOver(robot="a") in world.ticks_of(30, {"a": False})


def vanished_reasons():
    """What a real arbiter says in each way of losing its operator."""
    spec = robot_spec("image")
    for lose in (
        lambda arbiter, clock: arbiter.handle(m.LeaseEnded(epoch=1, how="lost")),
        lambda arbiter, clock: (clock.advance(LEASE_TTL_S + 1), arbiter.begin_tick()),
    ):
        clock = StillClock()
        arbiter = Arbiter(spec, clock)
        arbiter.handle(m.LeaseGranted(lease=Lease(epoch=1, holder="ann")))
        driven = arbiter.remembered
        lose(arbiter, clock)
        assert arbiter.mode is Mode.HOLDING
        yield arbiter.reason
    yield Arbiter(spec, StillClock(), remembered=driven).reason


@pytest.mark.parametrize("reason", list(vanished_reasons()))
def test_a_robot_whose_holder_vanished_is_helped_after_people_had_their_chance(world, reason):
    world.state("a", mode=Mode.HOLDING, reason=reason)
    patience = int(d.HOLD_PATIENCE_S / TICK_S)
    assert world.ticks_of(patience - 2, {"a": True}, mode=Mode.HOLDING) == []
    assert b.TakeOver(robot="a") in world.ticks_of(10, {"a": True}, mode=Mode.HOLDING)


def test_a_hold_that_a_person_asked_for_is_left_to_people(world):
    arbiter = Arbiter(robot_spec("image"), StillClock())
    arbiter.handle(m.Hold())
    world.state("a", mode=Mode.HOLDING, reason=arbiter.reason)
    patience = int(d.HOLD_PATIENCE_S / TICK_S)
    assert world.ticks_of(2 * patience, {"a": True}, mode=Mode.HOLDING) == []


def test_a_robot_that_holds_between_episodes_is_resumed(world):
    world.state("a", mode=Mode.HOLDING, reason="ann lost the lease")
    world.now_s += d.HOLD_PATIENCE_S + 1
    assert world.desk.poll(world.now_s) == [b.ResumeRobot(robot="a")]


def refusal(command, epoch=1):
    return b.CommandAnswer(
        robot="a",
        answer=m.Acknowledged(command=command, epoch=epoch, accepted=False, reason="no"),
    )


def test_a_lease_the_robot_refused_is_given_up(world):
    taken(world)
    sent = world.desk.receive(refusal("LeaseGranted"), world.now_s)
    assert sent == [b.HandBack(robot="a", epoch=1)]
    assert world.desk.driving is None


def test_a_robot_that_refuses_every_command_is_given_up(world):
    taken(world)
    sent = [world.desk.receive(refusal("Teleop"), world.now_s) for _ in range(d.MOST_REFUSALS)]
    assert sent[:-1] == [[]] * (d.MOST_REFUSALS - 1)
    assert sent[-1] == [b.HandBack(robot="a", epoch=1)]


def test_a_refusal_of_an_earlier_epoch_changes_nothing(world):
    taken(world)
    assert world.desk.receive(refusal("LeaseGranted", epoch=9), world.now_s) == []
    assert world.desk.driving == "a"


def test_a_new_connection_starts_from_nothing(world):
    taken(world)
    world.desk.disconnected()
    assert world.desk.driving is None
    assert world.desk.poll(world.now_s) == []
