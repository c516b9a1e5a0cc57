import numpy as np
import pytest

from fleet.agent.teleop.gate import Gate, GateConfig, largest_rise

AGREE = (0.0, 0.0, 0.0, 0.0)
CONFIG = GateConfig()


def watch(gate, ticks, *, gap=0.0, rewards=None, start=0):
    """Feed `ticks` ticks with |expert - policy| = gap and a reward that rises unless given."""
    for i in range(ticks):
        reward = 0.1 * (start + i) if rewards is None else rewards[i]
        gate.observe(tick=start + i, expert=np.full(4, gap), policy=AGREE, reward=reward)


def started():
    gate = Gate(CONFIG)
    gate.begin("one")
    return gate


@pytest.mark.parametrize(
    ("values", "rise"),
    [([], 0.0), ([3.0, 1.0], 0.0), ([1.0, 0.2, 0.5, 0.1], 0.3), ([0.0, 2.0, 1.0], 2.0)],
)
def test_largest_rise_is_from_an_earlier_to_a_later_value(values, rise):
    assert largest_rise(values) == pytest.approx(rise)


def test_agreement_with_progress_never_asks_for_help():
    gate = started()
    watch(gate, 200)
    assert not gate.needs_help
    assert gate.urgency == 0.0


def test_help_is_needed_a_reaction_after_the_window_disagrees():
    gate = started()
    watch(gate, CONFIG.window_ticks + CONFIG.reaction_ticks - 1, gap=0.4)
    assert not gate.needs_help
    watch(gate, 1, gap=0.4, start=CONFIG.window_ticks + CONFIG.reaction_ticks - 1)
    assert gate.needs_help


def test_the_threshold_itself_is_not_disagreement():
    gate = started()
    watch(gate, 60, gap=0.25)
    assert not gate.needs_help


def test_one_odd_chunk_inside_the_window_does_not_interrupt():
    gate = started()
    for tick in range(60):
        gap = 1.2 if tick == 30 else 0.0
        gate.observe(tick=tick, expert=np.full(4, gap), policy=AGREE, reward=0.1 * tick)
        assert not gate.needs_help


def test_a_robot_that_recovers_while_it_waits_needs_no_help():
    gate = started()
    watch(gate, 20, gap=0.4)
    assert gate.needs_help
    watch(gate, CONFIG.window_ticks, gap=0.0, start=20)
    assert not gate.needs_help


def test_no_progress_for_a_stall_window_needs_help_after_the_reaction():
    gate = started()
    flat = [1.0] * 40
    watch(gate, CONFIG.stall_ticks + CONFIG.reaction_ticks - 1, rewards=flat)
    assert gate.stalled
    assert not gate.needs_help
    watch(gate, 1, rewards=flat, start=CONFIG.stall_ticks + CONFIG.reaction_ticks - 1)
    assert gate.needs_help


def test_progress_after_a_fall_of_the_reward_counts():
    gate = started()
    # box-close: the reward starts at 2.75, falls to 0 and climbs without reaching its start.
    watch(gate, 60, rewards=[2.75] + [0.0] * 5 + [0.02 * i for i in range(54)])
    assert not gate.stalled


def test_larger_disagreement_and_longer_waiting_are_more_urgent():
    mild, wild, patient = started(), started(), started()
    watch(mild, 12, gap=0.35)
    watch(wild, 12, gap=0.9)
    watch(patient, 150, gap=0.35)
    assert 0 < mild.urgency < wild.urgency < patient.urgency


def driving(ticks, *, gap=0.1, rewards=None):
    gate = started()
    watch(gate, 20, gap=0.5)
    gate.took_over()
    watch(gate, ticks, gap=gap, rewards=rewards, start=20)
    return gate


def test_hand_back_waits_for_the_minimum_of_ticks():
    assert not driving(CONFIG.min_takeover_ticks - 1).may_hand_back
    assert driving(CONFIG.min_takeover_ticks).may_hand_back


def test_hand_back_waits_for_agreement():
    gate = driving(80, gap=0.5)
    assert not gate.may_hand_back
    watch(gate, CONFIG.window_ticks, gap=0.1, start=100)
    assert gate.may_hand_back


def test_hand_back_waits_for_progress():
    gate = driving(80, rewards=[1.0] * 80)
    assert not gate.may_hand_back


def test_progress_from_before_the_takeover_does_not_count():
    gate = started()
    watch(gate, 30, gap=0.5)
    gate.took_over()
    assert not gate.stalled
    watch(gate, CONFIG.min_takeover_ticks, rewards=[5.0] * CONFIG.min_takeover_ticks, start=30)
    assert not gate.may_hand_back


def test_hand_back_needs_a_proposal_of_the_policy():
    gate = started()
    gate.took_over()
    for tick in range(80):
        gate.observe(tick=tick, expert=np.zeros(4), policy=(), reward=0.1 * tick)
    assert not gate.may_hand_back


def test_after_a_hand_back_the_policy_gets_a_fresh_window():
    gate = driving(60)
    gate.handed_back()
    watch(gate, CONFIG.window_ticks - 1, gap=0.9, start=80)
    assert gate.disagreement == 0.0
    assert not gate.needs_help


def test_another_episode_forgets_the_last():
    gate = started()
    watch(gate, 40, gap=0.9)
    gate.begin("two")
    assert gate.episode == "two"
    assert not gate.needs_help
    watch(gate, 3)
    assert not gate.stalled


def test_telemetry_that_arrives_twice_counts_once():
    gate = started()
    for _ in range(20):
        gate.observe(tick=7, expert=np.full(4, 0.9), policy=AGREE, reward=0.0)
    assert gate.disagreement == 0.0


def test_skipped_telemetry_still_counts_as_time():
    gate = started()
    gate.took_over()
    for tick in range(0, CONFIG.min_takeover_ticks + 2, 2):
        gate.observe(tick=tick, expert=np.zeros(4), policy=AGREE, reward=0.1 * tick)
    assert gate.may_hand_back
