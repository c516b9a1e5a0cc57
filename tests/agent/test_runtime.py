import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fleet.agent import runtime as runtime_module
from fleet.agent.arbiter import Arbiter
from fleet.agent.episodes import Planner, Progress
from fleet.agent.policies import PolicyKeeper
from fleet.agent.recorder import Recorder
from fleet.agent.runtime import MAX_FAILURES, Runtime
from fleet.agent.situation import Moment
from fleet.agent.spool import Spool
from fleet.agent.trials import Trials
from fleet.agent.values import ActiveValue, ValueKeeper
from fleet.agent.valuing import Valuing
from fleet.protocol import messages as m
from fleet.protocol.control import ControlLabel, Controller, Lease, Mode
from fleet.protocol.episode import EpisodeManifest, sha256_of
from fleet.protocol.spec import PolicyRef, ValueRef
from learning.core.policies.base import save_policy
from learning.core.types import Observation
from learning.core.value import ValueConfig, ValueFunction
from tests.agent.making import column, parts
from tests.fakes import SPEC, TASK, FakeClock, FakeDriver, fake_policy

P, H, T, N = (
    ControlLabel.POLICY,
    ControlLabel.HUMAN,
    ControlLabel.TRANSITION,
    ControlLabel.NONE,
)
TICK_S = 1 / SPEC.control_hz
ASSIGNMENT = m.Assignment(tasks=(TASK,), evaluate_every=0, eval_seeds=(900, 901), reset_s=0.5)


class Robot:
    """A whole agent but for its link, with the test as every thread."""

    def __init__(self, folder: Path, **driver: object) -> None:
        self.clock = FakeClock()
        self.driver = FakeDriver(**driver)
        self.spool = Spool(folder)
        self.arbiter = Arbiter(SPEC, self.clock)
        self.recorder = Recorder(self.spool)
        self.reports: list[m.PolicyReport] = []
        self.policies, self.trial_policies = (
            PolicyKeeper(
                folder / "state" / name,
                SPEC,
                self.clock,
                server="http://127.0.0.1:9",
                token="t",
                report=self.reports.append,
            )
            for name in ("policies", "trial_policies")
        )
        self.planner = Planner(Progress(), random.Random(1))
        self.telemetry: list[Moment] = []
        self.runtime = Runtime(
            robot="robot-1",
            driver=self.driver,
            clock=self.clock,
            arbiter=self.arbiter,
            planner=self.planner,
            policies=self.policies,
            recorder=self.recorder,
            spool=self.spool,
            tell=self.telemetry.append,
            trials=Trials(self.trial_policies, self.planner, self.clock),
        )
        self.seq = 0

    def publish(self, number: int, bias: float = 0.0) -> None:
        artifact = save_policy(fake_policy((bias, 0.0, 0.2)))
        ref = PolicyRef(
            number=number, sha256=sha256_of(artifact), url="/w", size_bytes=len(artifact)
        )
        self.policies.offer(m.PolicyAnnouncement(policy=ref, weights=artifact))
        self.policies.work()

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.arbiter.heard()
            self.runtime.tick()
            self.clock.advance(TICK_S)

    def tick_until(self, condition: Callable[[], bool], limit: int = 500) -> int:
        for count in range(limit):
            if condition():
                return count
            self.tick()
        raise AssertionError("it does not happen")

    def begin(self) -> None:
        self.tick_until(lambda: bool(self.runtime.situation.episode))

    def finish(self) -> EpisodeManifest:
        """Tick to the end of the episode and return what was recorded."""
        self.tick_until(lambda: not self.runtime.situation.episode)
        return self.recorded()

    def recorded(self) -> EpisodeManifest:
        self.recorder._queue.put(None)
        self.recorder._run()
        manifest = list(self.spool._closed.values())[-1]
        assert isinstance(manifest, EpisodeManifest)
        return manifest

    def drive(self, epoch: int = 1, x: float = -0.5) -> None:
        self.seq += 1
        answer = self.arbiter.handle(
            m.Teleop(epoch=epoch, seq=self.seq, action=(x, 0, -1), t_wall_ns=self.clock.wall_ns())
        )
        assert answer is not None
        assert answer.accepted, answer.reason

    def grant(self, epoch: int = 1) -> m.Acknowledged | None:
        return self.arbiter.handle(m.LeaseGranted(lease=Lease(epoch=epoch, holder="ada")))

    def hand_back(self, epoch: int = 1) -> None:
        self.arbiter.handle(m.LeaseEnded(epoch=epoch, how="hand_back"))

    def labels(self, manifest: EpisodeManifest) -> list[int]:
        return column(self.spool, manifest, "control_mode").tolist()


@pytest.fixture
def robot(tmp_path) -> Iterator[Robot]:
    robot = Robot(tmp_path)
    robot.publish(1)
    robot.runtime.assign(ASSIGNMENT)
    yield robot
    robot.policies.stop()


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


# ---- the loop itself -----------------------------------------------------------------------------


class SlowDriver(FakeDriver):
    """A driver whose reads take as long as it is told, on the fake clock."""

    clock: FakeClock
    delays_s: list[float]

    def read(self, *, images: bool):
        if self.delays_s:
            self.clock.advance(self.delays_s.pop(0))
        return super().read(images=images)


def run_for(robot: Robot, ticks: int) -> None:
    """Run the real loop until it has ticked so often."""
    sleep_until = robot.clock.sleep_until

    def sleeping(t_mono_ns: int) -> None:
        sleep_until(t_mono_ns)
        robot.arbiter.heard()
        if robot.runtime.meter.total_ticks >= ticks - 1:
            robot.runtime._stopping.set()

    robot.clock.sleep_until = sleeping
    robot.runtime.run()


def test_ticks_keep_absolute_deadlines_and_overruns_are_counted_as_missed(robot):
    slow = SlowDriver()
    slow.clock, slow.delays_s = robot.clock, [0.0] * 5 + [0.012, 0.0, 0.13] + [0.0] * 5
    robot.driver = robot.runtime._driver = slow
    start_ns = robot.clock.now_ns
    run_for(robot, 14)
    stats = robot.runtime.meter.take()
    # One read of 130 ms at a period of 50 ms runs over two deadlines but the next tick's own.
    assert (stats.ticks, stats.missed_ticks) == (14, 1)
    assert (robot.clock.now_ns - start_ns) % round(TICK_S * 1e9) == 0
    assert stats.jitter_p99_ms < 50
    assert stats.jitter_p50_ms == 0


@pytest.mark.parametrize("phase", [0.0, 0.25, 0.75])
def test_robots_of_one_machine_take_their_pictures_each_at_its_place(robot, phase):
    robot.runtime._phase = phase
    robot.clock.advance(0.0123)
    pictures_ns: list[int] = []

    def tell(moment) -> None:
        if moment.reading.images:
            pictures_ns.append(robot.clock.now_ns)

    robot.runtime._tell = tell
    run_for(robot, 12)
    apart_ns = round(TICK_S * 1e9) * robot.driver.spec.image_every
    assert len(pictures_ns) >= 12 // robot.driver.spec.image_every - 1
    assert {at_ns % apart_ns for at_ns in pictures_ns} == {round(phase * apart_ns)}


def test_a_loop_that_ends_closes_its_episode_and_its_driver(robot):
    run_for(robot, 10)
    manifest = robot.recorded()
    assert manifest.outcome == "abort"
    assert robot.driver.closed


def test_a_driver_that_fails_holds_the_robot_and_ends_its_episode(robot):
    robot.begin()
    robot.tick(3)
    read, failing = robot.driver.read, [True]

    def broken(*, images: bool):
        if failing.pop() if failing else False:
            raise OSError("the arm does not answer")
        return read(images=images)

    robot.driver.read = broken
    run_for(robot, 5)
    assert robot.recorded().outcome == "abort"
    assert robot.arbiter.mode is Mode.HOLDING
    assert "does not answer" in robot.arbiter.reason
    assert not robot.runtime.failed


def test_a_scene_that_cannot_be_built_leaves_no_episode_behind(robot):
    robot.runtime.assign(m.Assignment(tasks=(TASK,), evaluate_every=1, eval_seeds=(900,)))

    def broken(*_: object, **__: object) -> None:
        raise KeyError("no such task")

    robot.driver.reset = broken
    run_for(robot, 5)
    assert robot.arbiter.mode is Mode.HOLDING
    answer = robot.grant()
    assert answer is not None
    assert answer.accepted


def test_a_driver_that_never_recovers_ends_the_loop_for_its_supervisor(robot):
    def broken(*, images: bool):
        raise OSError("gone")

    robot.begin()
    robot.driver.read = broken
    robot.runtime.run()
    assert robot.runtime.failed
    assert MAX_FAILURES < 100


def test_nothing_the_loop_does_waits_for_stalled_threads(robot, monkeypatch):
    # Neither recorder nor weights have a running thread here, and the link is not even made:
    # the loop still runs its episodes at full rate.
    begun = robot.clock.now_ns
    for _ in range(3):
        robot.begin()
        robot.tick_until(lambda: not robot.runtime.situation.episode)
        robot.publish(7)
    ticked = (robot.clock.now_ns - begun) / 1e9
    assert ticked < 3 * (40 + 13) * TICK_S
    assert robot.recorder._queue.qsize() >= 3 * 42


def test_controllers_of_the_recorded_steps_say_who_chose(robot):
    robot.begin()
    robot.tick(2)
    robot.grant()
    robot.drive()
    robot.tick(2)
    robot.arbiter.handle(m.LeaseEnded(epoch=1, how="lost"))
    robot.tick(2)
    robot.arbiter.handle(m.MarkOutcome(outcome="failure", judge="operator:ada"))
    manifest = robot.finish()
    names = [Controller.POLICY, Controller.OPERATOR, Controller.BLEND, Controller.HOLD]
    who = [names[index] for index in column(robot.spool, manifest, "controller")]
    assert who == [Controller.POLICY] * 2 + [Controller.OPERATOR] * 2 + [Controller.HOLD] * 2
    assert manifest.header.agent_version == runtime_module.AGENT_VERSION


VALUE = ValueConfig(state_dim=2, width=8, text_buckets=16)


def test_values_are_recorded_and_shown_a_tick_after_each_inference(tmp_path):
    robot = Robot(tmp_path)
    keeper = ValueKeeper(tmp_path / "values", SPEC, server="http://127.0.0.1:9", token="t")
    network = ValueFunction(VALUE).eval()
    keeper.active = ActiveValue(
        ValueRef(number=4, sha256="c" * 64, url="/v", size_bytes=1), network
    )
    robot.runtime._valuing, robot.runtime._values = Valuing(keeper), keeper
    robot.publish(1, 0.5)
    robot.runtime.assign(ASSIGNMENT)
    robot.begin()
    robot.tick(9)
    robot.grant()
    robot.tick()
    robot.drive()
    robot.tick()
    robot.hand_back()
    manifest = robot.finish()
    assert (manifest.header.value_number, manifest.header.value_sha256) == (4, "c" * 64)
    values, chunk = (column(robot.spool, manifest, n) for n in ("value", "chunk_index"))
    states = column(robot.spool, manifest, "state")
    assert np.isnan(values[0])
    inferred = np.flatnonzero(chunk[:9] == 0)
    assert inferred.tolist() == [0, 4, 8]
    for at in inferred.tolist():
        seen = Observation(images={}, state=states[at], instruction=manifest.header.instruction)
        assert values[at + 1] == pytest.approx(network.value_at(seen))
        assert values[at + 1] == values[min(at + 4, 9)]
    assert manifest.interventions[0].value == pytest.approx(values[9])
    shown = [moment.telemetry(privileged=False).value for moment in robot.telemetry]
    assert shown[:2] == [None, pytest.approx(values[1])]
    keeper.stop()


def test_a_robot_without_a_value_function_records_and_shows_none(tmp_path):
    robot = Robot(tmp_path)
    robot.publish(1)
    robot.runtime.assign(ASSIGNMENT)
    robot.begin()
    manifest = robot.finish()
    assert manifest.header.value_number is None
    assert all("value" not in part.table.column_names for part in parts(robot.spool, manifest))
    assert {moment.telemetry(privileged=False).value for moment in robot.telemetry} == {None}
