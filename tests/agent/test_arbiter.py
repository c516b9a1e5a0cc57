from itertools import product

import numpy as np
import pytest

from fleet.agent.arbiter import Arbiter
from fleet.agent.decisions import Remembered
from fleet.protocol import messages as m
from fleet.protocol.control import (
    COMMAND_TTL_S,
    HAND_BACK_SLEW_S,
    LEASE_TTL_S,
    TRANSITIONS,
    ControlLabel,
    Controller,
    Event,
    Lease,
    Mode,
)
from tests.fakes import SPEC, FakeClock

PROPOSAL = np.array([0.5, 0.0, 0.2], np.float32)
TICK_S = 1 / SPEC.control_hz


class Desk:
    """An arbiter with an operator in front of it."""

    def __init__(self, remembered: Remembered | None = None) -> None:
        self.clock = FakeClock()
        self.written: list[Remembered] = []
        self.arbiter = Arbiter(
            SPEC, self.clock, remembered=remembered, on_change=self.written.append
        )
        self.seq = 0

    def grant(self, epoch: int = 1, holder: str = "ada") -> m.Acknowledged:
        return self.send(m.LeaseGranted(lease=Lease(epoch=epoch, holder=holder)))

    def drive(self, epoch: int = 1, *, seq: int | None = None, age_s: float = 0.0, **fields):
        self.seq = self.seq + 1 if seq is None else seq
        t_wall_ns = self.clock.wall_ns() - round(age_s * 1e9)
        # The sender's clock is another one than the robot's.
        t_client_ms = 5e3 + self.clock.monotonic_ns() / 1e6 - 1e3 * age_s
        fields = {"action": (1.0, -1.0, -1.0), "t_client_ms": t_client_ms} | fields
        return self.send(m.Teleop(epoch=epoch, seq=self.seq, t_wall_ns=t_wall_ns, **fields))

    def send(self, message, **arguments) -> m.Acknowledged:
        answer = self.arbiter.handle(message, **arguments)
        assert answer is not None
        return answer

    def tick(self, proposal: np.ndarray | None = PROPOSAL, *, heard: bool = True):
        if heard:
            self.arbiter.heard()
        decision = self.arbiter.decide(self.arbiter.begin_tick(), proposal)
        self.clock.advance(TICK_S)
        return decision

    def reach(self, mode: Mode) -> None:
        match mode:
            case Mode.HANDOVER:
                self.grant()
            case Mode.TAKEOVER:
                self.grant()
                self.clock.advance(0.3)
                self.arbiter.heard()
                self.arbiter.begin_tick()
            case Mode.HOLDING:
                self.send(m.Hold())
            case Mode.STOPPED:
                self.send(m.Stop(stop_id="s-0", by="ada"))
        assert self.arbiter.mode is mode


def fire(desk: Desk, event: Event) -> m.Acknowledged | None:
    """Make `event` happen the way it happens in life."""
    match event:
        case Event.LEASE_GRANTED:
            return desk.grant(epoch=5)
        case Event.HANDOVER_ELAPSED:
            desk.clock.advance(0.3)
            desk.arbiter.heard()
            desk.arbiter.begin_tick()
        case Event.HAND_BACK:
            return desk.send(m.LeaseEnded(epoch=1, how="hand_back"))
        case Event.LEASE_LOST:
            return desk.send(m.LeaseEnded(epoch=1, how="lost"))
        case Event.HOLD:
            return desk.send(m.Hold(seq=3))
        case Event.RESUME:
            return desk.send(m.Resume(seq=4))
        case Event.FAULT:
            desk.arbiter.fail("the arm is hot")
        case Event.STOP:
            return desk.send(m.Stop(stop_id="s-1", by="bo"))
        case Event.RELEASE:
            return desk.send(m.Release(by="cy"))
    return None


@pytest.mark.parametrize(("mode", "event"), list(product(Mode, Event)))
def test_every_pair_does_what_the_table_says_and_nothing_else(mode, event):
    desk = Desk()
    desk.reach(mode)
    answer = fire(desk, event)
    expected = TRANSITIONS.get((mode, event), mode)
    if event is Event.LEASE_GRANTED and mode in (Mode.HANDOVER, Mode.TAKEOVER):
        # A newer lease: the end of the one before was lost on the way, and is made up for.
        expected = Mode.HANDOVER
    assert desk.arbiter.mode is expected
    if answer is not None:
        possible = (mode, event) in TRANSITIONS or expected is not mode
        # Asking a holding robot to hold is granted; a newer lease replaces the one in force.
        possible |= (mode, event) == (Mode.HOLDING, Event.HOLD)
        possible |= event is Event.LEASE_GRANTED and mode is Mode.HANDOVER
        assert answer.accepted is possible
        assert answer.mode is desk.arbiter.mode
        assert bool(answer.reason) is not possible


def test_the_policy_acts_until_somebody_takes_over():
    decision = Desk().tick()
    assert decision.controller is Controller.POLICY
    assert decision.label is ControlLabel.POLICY
    np.testing.assert_array_equal(decision.action, PROPOSAL)


def test_commands_act_at_once_and_handover_steps_are_no_labels():
    desk = Desk()
    desk.grant()
    labels = []
    for _ in range(8):
        assert desk.drive().accepted
        decision = desk.tick()
        assert decision.controller is Controller.OPERATOR
        np.testing.assert_array_equal(decision.action, [1, -1, -1])
        labels.append(decision.label)
    # 0.3 s at 20 Hz are six ticks.
    assert labels == [ControlLabel.TRANSITION] * 6 + [ControlLabel.HUMAN] * 2


def test_before_the_first_command_of_a_takeover_the_robot_does_not_move():
    desk = Desk()
    desk.grant()
    decision = desk.tick()
    assert decision.action is None
    assert decision.label is ControlLabel.TRANSITION
    assert not decision.dead_man


def test_silence_means_zero_motion_within_one_tick_of_the_dead_man_time():
    desk = Desk()
    desk.reach(Mode.TAKEOVER)
    desk.drive()
    sent_ns = desk.clock.now_ns
    while (decision := desk.tick()).action is not None:
        assert decision.label is ControlLabel.HUMAN
    zero_after_s = (desk.clock.now_ns - sent_ns) / 1e9 - TICK_S
    assert 0.15 < zero_after_s <= 0.25
    assert decision.dead_man
    assert decision.label is ControlLabel.NONE
    assert decision.controller is Controller.HOLD


@pytest.mark.parametrize("phase_s", np.linspace(0, 0.0499, 12))
def test_zero_motion_comes_within_a_quarter_second_whatever_the_phase(phase_s):
    desk = Desk()
    desk.reach(Mode.TAKEOVER)
    desk.drive()
    sent_ns = desk.clock.now_ns
    desk.clock.advance(phase_s)
    while desk.tick().action is not None:
        pass
    assert (desk.clock.now_ns - sent_ns) / 1e9 - TICK_S <= 0.25


@pytest.mark.parametrize("clock", ["client", "server"])
def test_a_last_command_that_came_late_stops_the_robot_as_soon_as_one_in_time(clock):
    desk = Desk()
    desk.reach(Mode.TAKEOVER)
    fields = {} if clock == "client" else {"t_client_ms": 0.0}
    for _ in range(3):
        desk.drive(age_s=0.02, **fields)
        desk.tick()
    sent_ns = desk.clock.now_ns
    desk.clock.advance(0.12)
    assert desk.drive(age_s=0.12, **fields).accepted
    while desk.tick().action is not None:
        pass
    assert (desk.clock.now_ns - sent_ns) / 1e9 - TICK_S <= 0.25


def test_a_command_under_way_much_longer_than_others_is_refused_until_that_is_usual():
    desk = Desk()
    desk.reach(Mode.TAKEOVER)
    desk.drive(age_s=0.02)
    desk.tick()
    answers = [desk.drive(age_s=0.25) for _ in range(30)]
    assert "longer under way than others" in answers[0].reason
    assert not answers[10].accepted
    assert answers[-1].accepted


@pytest.mark.parametrize("t_client_ms", [float("nan"), float("inf"), -1e308, 1e308])
def test_a_senders_clock_that_says_nothing_does_not_break_the_robot(t_client_ms):
    desk = Desk()
    desk.reach(Mode.TAKEOVER)
    for _ in range(30):
        desk.drive(t_client_ms=t_client_ms)
        desk.tick()
    assert desk.drive(t_client_ms=t_client_ms).accepted
    assert desk.drive(t_client_ms=t_client_ms).seq == desk.seq


def test_the_dead_man_stays_in_takeover_and_a_command_ends_it():
    desk = Desk()
    desk.reach(Mode.TAKEOVER)
    desk.drive()
    for _ in range(60):
        desk.tick()
    assert desk.arbiter.mode is Mode.TAKEOVER
    assert desk.drive().accepted
    assert desk.tick().label is ControlLabel.HUMAN


def test_an_answer_repeats_the_clients_time_the_seq_and_the_epoch():
    desk = Desk()
    desk.grant(epoch=3)
    answer = desk.drive(3, seq=11, t_client_ms=7.5)
    assert (answer.command, answer.seq, answer.epoch, answer.t_client_ms) == ("Teleop", 11, 3, 7.5)


def test_commands_of_an_older_epoch_are_fenced():
    desk = Desk()
    desk.grant(epoch=4)
    desk.send(m.LeaseEnded(epoch=4, how="lost"))
    desk.grant(epoch=6, holder="bo")
    for epoch in (4, 5):
        answer = desk.drive(epoch)
        assert not answer.accepted
        assert "epoch" in answer.reason
    assert desk.tick().action is None


def test_a_lease_that_ended_never_comes_back():
    desk = Desk()
    desk.grant(epoch=2)
    desk.send(m.LeaseEnded(epoch=2, how="hand_back"))
    assert not desk.grant(epoch=2).accepted
    assert desk.arbiter.mode is Mode.AUTONOMOUS


def test_a_command_of_an_epoch_nobody_was_granted_is_refused():
    desk = Desk()
    desk.grant(epoch=2)
    assert not desk.drive(3).accepted


def test_the_same_lease_again_is_a_renewal_and_does_not_start_a_new_handover():
    desk = Desk()
    desk.reach(Mode.TAKEOVER)
    desk.drive()
    assert desk.grant(epoch=1).accepted
    assert desk.arbiter.mode is Mode.TAKEOVER
    assert desk.tick().label is ControlLabel.HUMAN


def test_replayed_and_reordered_commands_are_discarded():
    desk = Desk()
    desk.grant()
    assert desk.drive(seq=5).accepted
    assert not desk.drive(seq=5).accepted
    assert not desk.drive(seq=4).accepted
    assert desk.drive(seq=9).accepted
    assert desk.arbiter.discarded_commands == 2


def test_a_new_lease_counts_its_commands_anew():
    desk = Desk()
    desk.grant(epoch=1)
    desk.drive(1, seq=100)
    desk.send(m.LeaseEnded(epoch=1, how="hand_back"))
    desk.grant(epoch=2)
    assert desk.drive(2, seq=0).accepted


def test_a_late_command_is_discarded_by_its_age_on_the_servers_clock():
    desk = Desk()
    desk.grant()
    assert not desk.drive(age_s=COMMAND_TTL_S + 0.01).accepted
    assert desk.drive(age_s=COMMAND_TTL_S - 0.01).accepted
    # The server's clock is ten seconds ahead: what looks fresh here is not.
    late = m.Teleop(epoch=1, seq=50, action=(0, 0, 0), t_wall_ns=desk.clock.wall_ns())
    assert not desk.send(late, clock_offset_ns=10 * 10**9).accepted


@pytest.mark.parametrize("action", [(1.0,), (0.0,) * 4, (float("nan"), 0.0, 0.0)])
def test_a_command_of_the_wrong_shape_or_not_finite_is_refused(action):
    desk = Desk()
    desk.grant()
    assert not desk.drive(action=action).accepted
    assert desk.tick().action is None


def test_command_age_counts_from_the_server_to_the_tick():
    desk = Desk()
    desk.grant()
    desk.drive(age_s=0.1)
    desk.clock.advance(0.03)
    assert desk.tick().command_age_ms == pytest.approx(130)


def test_a_lost_lease_holds_and_only_an_explicit_resume_wakes_the_policy():
    desk = Desk()
    desk.reach(Mode.TAKEOVER)
    desk.send(m.LeaseEnded(epoch=1, how="lost"))
    for _ in range(1000):
        assert desk.tick().controller is Controller.HOLD
    assert desk.send(m.Resume()).accepted
    assert desk.tick().controller is Controller.POLICY


def test_a_server_that_goes_away_loses_the_lease_after_its_time():
    desk = Desk()
    desk.reach(Mode.TAKEOVER)
    desk.drive()
    heard_ns = desk.clock.now_ns
    while desk.tick(heard=False).mode is Mode.TAKEOVER:
        pass
    after_s = (desk.clock.now_ns - heard_ns) / 1e9
    assert LEASE_TTL_S < after_s <= LEASE_TTL_S + 3 * TICK_S
    assert desk.arbiter.mode is Mode.HOLDING
    assert "link" in desk.arbiter.reason
    assert not desk.drive().accepted


def test_while_the_server_is_heard_it_decides_when_a_lease_ends():
    desk = Desk()
    desk.reach(Mode.TAKEOVER)
    for _ in range(400):
        desk.tick(heard=True)
    assert desk.arbiter.mode is Mode.TAKEOVER


def test_after_a_hand_back_a_proposal_from_before_it_never_acts():
    desk = Desk()
    desk.reach(Mode.TAKEOVER)
    view = desk.arbiter.begin_tick()
    desk.send(m.LeaseEnded(epoch=1, how="hand_back"))
    assert desk.arbiter.decide(view, PROPOSAL).action is None
    assert desk.arbiter.begin_tick().policy_turn == view.policy_turn + 1


def test_a_hand_back_limits_the_change_of_action_for_its_time_and_no_longer():
    desk = Desk()
    desk.reach(Mode.TAKEOVER)
    desk.send(m.LeaseEnded(epoch=1, how="hand_back"))
    slew = [desk.tick().slew for _ in range(12)]
    expected = round(HAND_BACK_SLEW_S / TICK_S)
    assert slew == [True] * expected + [False] * (12 - expected)


def test_three_proposals_that_are_not_finite_hold_the_robot():
    desk = Desk()
    bad = np.array([0, np.inf, 0], np.float32)
    first, second, third = (desk.tick(bad) for _ in range(3))
    assert [d.fault for d in (first, second, third)] == [False, False, True]
    assert all(d.action is None for d in (first, second, third))
    assert desk.arbiter.mode is Mode.HOLDING
    assert "finite" in desk.arbiter.reason


def test_a_finite_proposal_starts_the_count_of_bad_ones_anew():
    desk = Desk()
    bad = np.full(3, np.nan, np.float32)
    for proposal in (bad, bad, PROPOSAL, bad, bad):
        assert not desk.tick(proposal).fault
    assert desk.arbiter.mode is Mode.AUTONOMOUS


def test_an_evaluation_refuses_takeover_with_a_reason_and_stop_always_works():
    desk = Desk()
    assert desk.arbiter.begin_episode("e", "eval")
    answer = desk.grant(epoch=1)
    assert not answer.accepted
    assert "evaluation" in answer.reason
    assert desk.tick().controller is Controller.POLICY
    assert desk.send(m.Stop(stop_id="s", by="ada")).accepted
    assert desk.tick().action is None


def test_an_evaluation_does_not_begin_under_an_operator():
    desk = Desk()
    desk.grant()
    assert not desk.arbiter.begin_episode("e", "eval")
    assert desk.arbiter.begin_episode("e", "train")


def test_a_stop_is_answered_with_its_id_and_repeats_change_nothing():
    desk = Desk()
    for _ in range(3):
        answer = desk.send(m.Stop(stop_id="s-9", by="ada"))
        assert (answer.accepted, answer.stop_id, answer.mode) == (True, "s-9", Mode.STOPPED)
    assert "ada" in desk.arbiter.reason


def test_a_stop_ends_the_lease():
    desk = Desk()
    desk.reach(Mode.TAKEOVER)
    desk.send(m.Stop(stop_id="s", by="ada"))
    assert desk.arbiter.holder is None
    assert not desk.drive().accepted
    desk.send(m.Release(by="bo"))
    assert not desk.grant(epoch=1).accepted


def test_a_late_repeat_of_a_released_stop_does_not_latch_again():
    desk = Desk()
    desk.send(m.Stop(stop_id="s-1", by="ada"))
    desk.send(m.Stop(stop_id="s-2", by="bo"))
    desk.send(m.Release(by="cy"))
    for stop_id in ("s-1", "s-2"):
        answer = desk.send(m.Stop(stop_id=stop_id, by="ada"))
        assert (answer.accepted, answer.stop_id) == (True, stop_id)
        assert desk.arbiter.mode is Mode.HOLDING
    desk.send(m.Stop(stop_id="s-3", by="ada"))
    assert desk.arbiter.mode is Mode.STOPPED


def test_releasing_holds_and_does_not_resume():
    desk = Desk()
    desk.reach(Mode.STOPPED)
    desk.send(m.Release(by="bo"))
    assert desk.tick().controller is Controller.HOLD


def test_a_stopped_robot_refuses_a_lease_and_says_why():
    desk = Desk()
    desk.reach(Mode.STOPPED)
    answer = desk.grant()
    assert not answer.accepted
    assert "stopped" in answer.reason


def test_an_outcome_is_taken_once_and_only_for_the_running_episode():
    desk = Desk()
    judged = m.MarkOutcome(outcome="failure", judge="operator:ada", episode="e1")
    assert not desk.send(judged).accepted
    desk.arbiter.begin_episode("e2", "train")
    assert not desk.send(judged).accepted
    assert desk.send(m.MarkOutcome(outcome="success", judge="operator:ada")).accepted
    assert desk.arbiter.take_outcome() == ("success", "operator:ada")
    assert desk.arbiter.take_outcome() is None


@pytest.mark.parametrize("mode", [Mode.HANDOVER, Mode.TAKEOVER, Mode.HOLDING])
def test_a_restart_never_wakes_a_robot_that_a_person_had(mode):
    before = Desk()
    before.reach(mode)
    after = Desk(before.written[-1])
    assert after.arbiter.mode is Mode.HOLDING
    assert after.arbiter.reason
    assert not after.drive().accepted
    assert not after.grant(epoch=1).accepted or mode is Mode.HOLDING


def test_a_latched_stop_survives_a_restart_with_its_reason():
    before = Desk()
    before.grant(epoch=7)
    before.send(m.Stop(stop_id="s", by="ada"))
    after = Desk(before.written[-1])
    assert after.arbiter.mode is Mode.STOPPED
    assert "ada" in after.arbiter.reason
    assert after.arbiter.epoch == 7
    after.send(m.Release(by="bo"))
    assert not after.grant(epoch=7).accepted
    assert after.grant(epoch=8).accepted


def test_the_fence_survives_a_restart():
    before = Desk()
    before.arbiter.saw_epoch(12)
    after = Desk(before.written[-1])
    assert after.arbiter.epoch == 12
    assert not after.grant(epoch=11).accepted


def test_the_server_may_still_grant_the_epoch_it_welcomed_with():
    desk = Desk()
    desk.arbiter.saw_epoch(3)
    assert desk.grant(epoch=3).accepted


def test_a_resume_of_an_older_epoch_is_refused():
    desk = Desk()
    desk.grant(epoch=4)
    desk.send(m.LeaseEnded(epoch=4, how="lost"))
    assert not desk.send(m.Resume(epoch=3)).accepted
    assert desk.send(m.Resume(epoch=4)).accepted
