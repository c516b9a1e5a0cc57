import numpy as np
import pytest

from fleet.agent import runtime as runtime_module
from fleet.agent.runtime import MAX_FAILURES
from fleet.agent.values import ActiveValue, ValueKeeper
from fleet.agent.valuing import Valuing
from fleet.protocol import messages as m
from fleet.protocol.control import Controller, Mode
from fleet.protocol.spec import ValueRef
from learning.core.types import Observation
from learning.core.value import ValueConfig, ValueFunction
from tests.agent.looping import ASSIGNMENT, TICK_S, Robot
from tests.agent.making import column, parts
from tests.fakes import SPEC, TASK, FakeClock, FakeDriver


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
