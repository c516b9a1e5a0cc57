import numpy as np
import pytest

from tests.bench.deadman import Cut, Ticks
from tests.bench.fleet import lateness_of
from tests.bench.steal import StealWatch
from tests.bench.wall import KEYS, Seen, measures


def test_lateness_is_measured_against_the_grid_and_missing_ticks_are_counted():
    t_ms = np.array([1000.0, 1050.5, 1100.2, 1180.0, 1200.1, 1300.0])
    late, missing = lateness_of(t_ms, 50.0)
    assert late == pytest.approx([0, 0.5, 0.2, 30, 0.1, 0], abs=1e-6)
    assert missing.tolist() == [0, 0, 0, 0, 0, 1]


def test_one_tick_late_by_more_than_half_a_period_does_not_make_the_others_late():
    t_ms = 50.0 * np.arange(100)
    t_ms[40] += 45
    late, _ = lateness_of(t_ms, 50.0)
    assert np.sort(late)[-2:] == pytest.approx([0, 45], abs=1e-6)


def test_a_moment_is_calm_when_nothing_was_stolen_around_it():
    watch = StealWatch()
    watch._at_ns = [0, 100, 200, 300, 400, 500]
    watch._all = [0, 50, 100, 150, 200, 250]
    watch._stolen = [0, 0, 0, 0, 25, 25]
    moments = np.array([50, 150, 250, 350, 450, 900])
    assert watch.calm(moments).tolist() == [True, True, False, False, False, False]
    assert watch.share == pytest.approx(0.1)


def test_stolen_time_is_read_from_the_kernel():
    with StealWatch() as watch:
        pass
    assert 0 <= watch.share <= 1
    assert all(took_ms > 0 for took_ms in watch._work_ms)
    assert "20,000 additions took" in str(watch)


def _ticks(moving: list[bool]) -> Ticks:
    """Return ticks of 50 ms of epoch 3, of which some move."""
    n = len(moving)
    return Ticks(
        step=np.arange(n),
        t_wall_ns=50_000_000 * np.arange(n),
        action=np.outer(moving, [0.5, 0, 0, 1]),
        epoch=np.full(n, 3),
    )


def test_a_robot_has_stopped_at_the_end_of_the_first_tick_without_motion_after_the_last_with():
    ticks = _ticks([True, True, True, False, True, False, False])
    # The last command was sent at 120 ms; a gap before it arrived is no stop.
    cut = Cut("robot-1", aborted=False, epoch=3, last_command_ns=120_000_000)
    cut.over_ns = {1: 57_000_000, 5: 258_000_000}
    assert cut.stop_ms(ticks) == pytest.approx(138)
    # Nobody saw that tick: it took as long as the longest that was seen.
    cut.over_ns = {1: 57_000_000, 2: 104_000_000}
    assert cut.stop_ms(ticks) == pytest.approx(137)


def test_a_robot_that_never_moved_or_whose_episode_ended_first_has_no_time_to_stop():
    cut = Cut("robot-1", aborted=True, epoch=3, last_command_ns=60_000_000)
    assert cut.stop_ms(_ticks([False] * 4)) is None
    assert cut.stop_ms(_ticks([True] * 4)) is None


def test_a_wall_is_judged_by_the_minute_and_by_the_worst_place_that_was_looked_at():
    places = [{"asked": 20, "visible": 20, "unseen": 0}, {"asked": 25, "visible": 24, "unseen": 1}]
    seen = Seen([16.0] * 99 + [90.0], [60.0] * 3, 30.0, places, [40.0, 60.0], [10.0, 12.0], [5, 5])
    figures = {one.key: (one.figure, one.met) for one in measures(seen, "calm")}
    assert tuple(figures) == KEYS
    assert list(figures.values()) == [
        (16.0, True), (6.0, True), (1, False), (pytest.approx(59.0), True), (4.0, False)
    ]  # fmt: skip
