import numpy as np
import pytest

from tests.bench.fleet import lateness_of
from tests.bench.steal import StealWatch


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
