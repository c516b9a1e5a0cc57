import random

import numpy as np
import pytest

from fleet.protocol import messages as m
from fleet.protocol.control import Mode
from tests.agent.looping import ASSIGNMENT, H, N, P, Robot, T
from tests.agent.making import column
from tests.fakes import SPEC, TASK


def test_without_an_assignment_the_robot_does_not_move(tmp_path):
    robot = Robot(tmp_path)
    robot.publish(1)
    robot.tick(20)
    assert robot.runtime.situation.waiting == "no assignment yet"
    assert not robot.driver.resets
    assert not robot.driver.applied


def test_without_a_policy_the_robot_waits_for_one(tmp_path):
    robot = Robot(tmp_path)
    robot.runtime.assign(ASSIGNMENT)
    robot.tick(5)
    assert robot.runtime.situation.waiting == "no policy yet"
    robot.publish(1)
    robot.begin()
    assert robot.runtime.situation.task == "reach"


def test_an_episode_that_nobody_ends_is_a_timeout_after_the_tasks_ticks(robot):
    robot.begin()
    manifest = robot.finish()
    assert (manifest.outcome, manifest.judge, manifest.steps) == ("timeout", "robot", 40)
    assert manifest.header.policy_number == 1
    assert robot.labels(manifest) == [P] * 40
    chunk = column(robot.spool, manifest, "chunk_index")
    np.testing.assert_array_equal(chunk, [0, 1, 2, 3] * 10)


def test_the_robots_own_success_signal_ends_the_episode(tmp_path):
    robot = Robot(tmp_path, goal=0.9)
    robot.publish(1, bias=0.9)
    robot.runtime.assign(ASSIGNMENT)
    robot.begin()
    manifest = robot.finish()
    assert (manifest.outcome, manifest.judge) == ("success", "robot")
    assert manifest.steps == 10
    assert list(robot.runtime.recent) == ["s"]


def test_images_come_on_their_ticks_and_states_on_every_tick(robot):
    robot.begin()
    manifest = robot.finish()
    images = column(robot.spool, manifest, "image.front")
    assert [image is not None for image in images] == [True, False] * 20


def test_between_episodes_images_are_taken_only_while_people_look(robot):
    robot.begin()
    robot.finish()
    reads = robot.driver.image_reads
    robot.tick(4)
    assert robot.driver.image_reads == reads
    robot.runtime._watched = lambda: True
    robot.tick(4)
    assert robot.driver.image_reads == reads + 2
    assert robot.runtime.glimpse is not None
    assert "front" in robot.runtime.glimpse.images


def test_the_next_episode_begins_after_the_pause_with_the_next_seed(robot):
    robot.begin()
    robot.finish()
    ticks = robot.tick_until(lambda: bool(robot.runtime.situation.episode))
    assert 10 <= ticks <= 12
    assert [seed for _, seed, _ in robot.driver.resets] == [0, 1]


def test_the_exact_label_mask_of_a_scripted_takeover(robot):
    robot.begin()
    robot.tick(20)
    robot.grant()
    for _ in range(16):
        robot.drive()
        robot.tick()
    robot.hand_back()
    manifest = robot.finish()
    # 0.3 s of handover, then the person; the person's ticks do not count as the policy's time.
    expected = [P] * 20 + [T] * 6 + [H] * 10 + [P] * 20
    assert robot.labels(manifest) == expected
    before = column(robot.spool, manifest, "before_takeover")
    np.testing.assert_array_equal(np.flatnonzero(before), range(5, 20))
    epochs = column(robot.spool, manifest, "lease_epoch")
    np.testing.assert_array_equal(epochs, [0] * 20 + [1] * 16 + [0] * 20)
    (span,) = manifest.interventions
    assert (span.start, span.end, span.operator, span.epoch) == (20, 36, "ada", 1)


def test_the_policys_proposal_is_recorded_beside_the_persons_action(robot):
    robot.begin()
    robot.tick(4)
    robot.grant()
    for _ in range(10):
        robot.drive(x=-0.5)
        robot.tick()
    robot.arbiter.handle(m.MarkOutcome(outcome="failure", judge="operator:ada"))
    manifest = robot.finish()
    assert (manifest.outcome, manifest.judge) == ("failure", "operator:ada")
    action = column(robot.spool, manifest, "action")
    proposal = column(robot.spool, manifest, "policy_action")
    operator = column(robot.spool, manifest, "operator_action")
    np.testing.assert_allclose(action[5], [-0.5, 0, -1])
    np.testing.assert_allclose(operator[5], [-0.5, 0, -1])
    assert np.isnan(operator[2]).all()
    assert np.isfinite(proposal).all()
    assert proposal[5, 0] >= 0


def test_the_action_recorded_is_the_one_after_the_limits(robot):
    robot.begin()
    robot.grant()
    robot.drive(x=5.0)
    robot.tick()
    robot.arbiter.handle(m.MarkOutcome(outcome="failure", judge="operator:ada"))
    manifest = robot.finish()
    assert column(robot.spool, manifest, "action")[0, 0] == 1.0
    assert column(robot.spool, manifest, "operator_action")[0, 0] == 5.0


def test_a_hand_back_drops_the_chunk_asks_the_policy_anew_and_slews(robot):
    robot.begin()
    robot.tick(2)
    robot.grant()
    for _ in range(7):
        robot.drive(x=-1.0)
        robot.tick()
    robot.hand_back()
    manifest = robot.finish()
    chunk = column(robot.spool, manifest, "chunk_index")
    images = column(robot.spool, manifest, "image.front")
    # Step 9 is odd: its image was taken because the policy was asked anew.
    assert chunk[9] == 0
    assert images[9] is not None
    action = column(robot.spool, manifest, "action")
    steps = np.abs(np.diff(action[8:18, 0]))
    assert steps.max() <= SPEC.action_slew[0] + 1e-6
    assert action[8, 0] == -1.0
    assert action[12, 0] == pytest.approx(0.0, abs=0.05)


def test_dead_man_ticks_do_not_move_keep_the_gripper_and_are_nobodys(robot):
    robot.begin()
    robot.grant()
    for _ in range(8):
        robot.drive()
        robot.tick()
    robot.tick(10)
    robot.drive()
    robot.tick()
    robot.arbiter.handle(m.MarkOutcome(outcome="failure", judge="operator:ada"))
    manifest = robot.finish()
    labels = robot.labels(manifest)
    assert labels[:8] == [T] * 6 + [H] * 2
    assert labels[11:18] == [N] * 7
    assert labels[18] == H
    action = column(robot.spool, manifest, "action")
    np.testing.assert_array_equal(action[12], [0, 0, -1])
    assert manifest.link.dead_man_ticks == labels.count(N)


def test_a_stop_ends_the_episode_as_aborted_and_nothing_moves_until_resumed(robot):
    robot.begin()
    robot.tick(5)
    robot.arbiter.handle(m.Stop(stop_id="s", by="ada"))
    robot.tick(40)
    manifest = robot.recorded()
    assert (manifest.outcome, manifest.steps) == ("abort", 5)
    assert all((action[:2] == 0).all() for action in robot.driver.applied[5:])
    assert "ada" in robot.runtime.situation.waiting
    robot.arbiter.handle(m.Release(by="bo"))
    robot.tick(40)
    assert not robot.runtime.situation.episode
    robot.arbiter.handle(m.Resume())
    robot.begin()


def test_holding_takes_none_of_the_tasks_time_and_is_recorded_for_a_while_only(robot):
    robot.begin()
    robot.tick(10)
    robot.arbiter.handle(m.Hold())
    robot.tick(1000)
    robot.arbiter.handle(m.Resume())
    manifest = robot.finish()
    assert robot.labels(manifest) == [P] * 10 + [N] * 200 + [P] * 30
    actions = column(robot.spool, manifest, "policy_action")
    assert np.isnan(actions[10:210]).all()


def test_a_person_who_thinks_takes_none_of_the_tasks_time(robot):
    robot.begin()
    robot.grant()
    robot.drive()
    robot.tick(3 * TASK.timeout_ticks)
    robot.arbiter.handle(m.MarkOutcome(outcome="failure", judge="operator:ada"))
    assert robot.finish().outcome == "failure"


def test_people_have_a_minute_of_their_own_beside_the_policys_time(robot):
    robot.begin()
    robot.tick(10)
    assert robot.runtime.situation.left_s == (TASK.timeout_ticks - 10) / SPEC.control_hz
    robot.grant()
    ticks = 0
    while robot.runtime.situation.episode:
        robot.drive()
        robot.tick()
        ticks += 1
    assert ticks == 60 * SPEC.control_hz + 1
    assert robot.recorded().outcome == "timeout"
    assert robot.arbiter.mode is Mode.TAKEOVER


def test_weights_swap_between_episodes_only(robot):
    robot.begin()
    robot.tick(5)
    robot.publish(2, bias=0.1)
    robot.tick(5)
    assert robot.policies.active is not None
    assert robot.policies.active.ref.number == 1
    first = robot.finish()
    assert set(column(robot.spool, first, "policy_number")) == {1}
    robot.begin()
    second = robot.finish()
    assert set(column(robot.spool, second, "policy_number")) == {2}
    assert second.header.policy_number == 2


def test_the_same_weights_under_another_number_are_another_version_from_the_next_episode(robot):
    robot.begin()
    robot.publish(2)
    assert set(column(robot.spool, robot.finish(), "policy_number")) == {1}
    robot.begin()
    assert set(column(robot.spool, robot.finish(), "policy_number")) == {2}
    assert [(r.number, r.status) for r in robot.reports][-2:] == [(2, "verified"), (2, "applied")]


def test_no_episode_has_two_policy_numbers_however_often_one_is_published(robot):
    rng = random.Random(5)
    seen = set()
    for number in range(2, 14):
        robot.begin()
        robot.tick(rng.randrange(1, 30))
        robot.publish(number, bias=number / 100)
        manifest = robot.finish()
        numbers = set(column(robot.spool, manifest, "policy_number"))
        assert numbers == {manifest.header.policy_number}
        seen |= numbers
    assert len(seen) == 12


def test_a_policy_that_stops_being_finite_holds_the_robot_and_is_rolled_back(robot):
    robot.begin()
    robot.finish()
    robot.publish(2, bias=0.1)
    robot.begin()
    robot.tick(4)
    assert robot.policies.active is not None
    robot.policies.active.policy.bias.data[:] = float("nan")
    manifest = robot.finish()
    assert manifest.outcome == "abort"
    assert robot.labels(manifest) == [P] * 4 + [N] * 3
    assert robot.arbiter.mode is Mode.HOLDING
    assert robot.policies.active.ref.number == 1
    assert [r.status for r in robot.reports][-1] == "rolled_back"
    robot.tick(30)
    assert not robot.runtime.situation.episode
    robot.arbiter.handle(m.Resume())
    robot.begin()
    assert robot.finish().header.policy_number == 1


def test_an_evaluation_is_held_out_reads_plain_words_and_refuses_takeover(robot):
    robot.runtime.assign(m.Assignment(tasks=(TASK,), evaluate_every=1, eval_seeds=(900,)))
    robot.begin()
    assert robot.driver.resets[-1] == ("reach", 900, True)
    answer = robot.grant()
    assert answer is not None
    assert not answer.accepted
    manifest = robot.finish()
    assert manifest.header.purpose == "eval"
    assert set(robot.labels(manifest)) == {P}


def test_an_episode_under_an_operator_is_no_evaluation(robot):
    robot.runtime.assign(m.Assignment(tasks=(TASK,), evaluate_every=1, eval_seeds=(900,)))
    robot.grant()
    robot.begin()
    assert robot.runtime.situation.purpose == "train"


def test_pausing_lets_the_running_episode_end_and_begins_no_other(robot):
    robot.begin()
    robot.runtime.assign(m.Assignment(tasks=(TASK,), paused=True))
    robot.finish()
    robot.tick(100)
    assert "paused" in robot.runtime.situation.waiting
    assert len(robot.driver.resets) == 1


def test_a_full_spool_keeps_the_robot_from_losing_what_it_would_record(robot):
    robot.spool.limit_bytes = 0
    robot.tick(20)
    assert "spool_limit_bytes" in robot.runtime.situation.waiting
    assert not robot.driver.resets


def test_telemetry_has_no_nan_and_hides_what_is_privileged(robot):
    robot.begin()
    robot.tick(3)
    hidden, shown = (robot.telemetry[-1].telemetry(privileged=p) for p in (False, True))
    assert hidden.privileged == ()
    assert shown.privileged == (1.0, 2.0)
    assert hidden.episode == robot.runtime.situation.episode
    assert len(hidden.policy_action) == 3
    assert np.isfinite(hidden.doubt)
    assert [moment.seq for moment in robot.telemetry] == list(range(len(robot.telemetry)))
