import json
import math

import pytest

from learning.core.statistics import Score, wilson
from learning.experiments.analysis import (
    Sample,
    last_line,
    loop_result,
    markdown_table,
    quantile,
    windowed_success,
)
from learning.experiments.figures import plot_loop
from learning.experiments.settings import BadSettings, Settings, read_settings
from learning.experiments.stages import Stages, open_experiment, write_json


def sample(minute=0.0, won=0, tried=0, **fields):
    values = {
        "minute": minute,
        "step": 0,
        "version": 0,
        "episodes": 0,
        "corrections": 0,
        "human_minutes": 0.0,
        "robot_minutes": 0.0,
        "omega": 0.5,
        "eval_successes": won,
        "eval_trials": tried,
        "updates_per_s": 12.0,
        "loss": 0.1,
    }
    return Sample(**(values | fields))


def test_the_fleets_success_is_over_its_last_trials_only():
    samples = [sample(m, won, tried) for m, won, tried in [(0, 0, 10), (1, 0, 20), (2, 10, 30)]]
    assert windowed_success(samples, trials=10) == [Score(0, 10), Score(0, 10), Score(10, 10)]


def test_the_fleets_success_has_no_trials_before_the_first():
    assert windowed_success([sample()]) == [Score(0, 0)]


@pytest.mark.parametrize(("q", "value"), [(0, 1.0), (0.5, 2.5), (1, 4.0), (0.95, 3.85)])
def test_quantiles_interpolate(q, value):
    assert quantile([4.0, 1.0, 3.0, 2.0], q) == pytest.approx(value)


def test_the_quantile_of_nothing_is_not_a_number():
    assert math.isnan(quantile([], 0.5))


def result(**changes):
    arguments = {
        "clock": "real",
        "policy": "image",
        "base": {"hammer": Score(8, 20)},
        "control": {"hammer": Score(9, 20)},
        "final": {"hammer": Score(18, 20)},
        "minutes": 20.0,
        "last": sample(episodes=200, corrections=150, human_minutes=31.4159),
        "mixed_version_episodes": 0,
    }
    return loop_result(**(arguments | changes))


def test_the_loop_ends_in_the_keys_that_were_promised_in_their_order():
    assert list(result()) == [
        "experiment",
        "clock",
        "policy",
        "base",
        "control",
        "final",
        "final_low",
        "final_minus_control",
        "minutes",
        "episodes",
        "corrections",
        "human_minutes",
        "mixed_version_episodes",
    ]


def test_the_loop_result_compares_final_with_control():
    values = result()
    assert values["final"] == 0.9
    assert values["final_low"] == pytest.approx(wilson(18, 20)[0], abs=1e-4)
    assert values["final_minus_control"] == 0.45
    assert values["human_minutes"] == 31.42


def test_the_last_line_is_strict_json():
    line = last_line(result(base={}))
    assert "\n" not in line
    assert json.loads(line)["base"] is None


def test_the_table_has_a_row_a_task_and_a_pooled_row_with_n():
    table = markdown_table(
        {"base": {"a": Score(1, 4), "b": Score(2, 4)}, "final": {"a": Score(4, 4)}}
    )
    assert "| a | 1/4 | 4/4 |" in table
    assert "| b | 2/4 |  |" in table
    assert "n=8" in table


def test_the_plot_is_written_without_a_display(tmp_path):
    samples = [sample(float(m), m, 2 * m + 1) for m in range(5)]
    evaluations = [(0.0, {"a": Score(1, 4)}), (5.0, {"a": Score(4, 4)})]
    path = tmp_path / "plot.png"
    plot_loop(path, samples=samples, evaluations=evaluations, control=None, title="t")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_finished_stage_is_not_computed_again(tmp_path):
    calls = []
    for _ in range(2):
        stages = Stages(tmp_path)
        assert stages.once("base", lambda: calls.append(1) or {"x": (1, 2)}) == {"x": [1, 2]}
    assert calls == [1]
    assert stages.done("base")
    assert not stages.done("final")


def test_a_stage_that_fails_is_computed_again(tmp_path):
    stages = Stages(tmp_path)
    with pytest.raises(ZeroDivisionError):
        stages.once("base", lambda: 1 / 0)
    assert stages.once("base", lambda: 3) == 3


def test_an_unfinished_experiment_of_equal_settings_is_resumed(tmp_path):
    first = open_experiment(tmp_path, "loop", {"seed": 0})
    assert open_experiment(tmp_path, "loop", {"seed": 0}) == first
    assert open_experiment(tmp_path, "loop", {"seed": 1}) != first
    assert open_experiment(tmp_path, "loop", {"seed": 0}, fresh=True) != first


def test_a_finished_experiment_is_not_resumed(tmp_path):
    first = open_experiment(tmp_path, "loop", {"seed": 0})
    write_json(first / "result.json", {})
    assert open_experiment(tmp_path, "loop", {"seed": 0}) != first


def test_settings_default_to_the_headline_experiment():
    assert read_settings({}) == Settings(
        policy="image", clock="real", minutes=20.0, seed=0, robots=4, operators=2, trials=20
    )


def test_settings_are_read_from_the_environment():
    settings = read_settings({"POLICY": "state", "MINUTES": "2.5", "SEED": "7", "ROBOTS": "2"})
    assert (settings.policy, settings.minutes, settings.seed) == ("state", 2.5, 7)
    assert settings.robots == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("POLICY", "lidar"),
        ("CLOCK", "virtual"),
        ("MINUTES", "soon"),
        ("MINUTES", "0"),
        ("MINUTES", "nan"),
        ("ROBOTS", "0"),
        ("TRIALS", "1000"),
    ],
)
def test_settings_that_cannot_be_used_are_named(name, text):
    with pytest.raises(BadSettings, match=name):
        read_settings({name: text})
