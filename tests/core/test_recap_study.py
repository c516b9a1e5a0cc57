import dataclasses
import json

import numpy as np
import pytest

from fleet.protocol.spec import TaskSpec
from learning.core.learners.hg_dagger import HgDaggerConfig
from learning.core.sidecar import annotate
from learning.core.types import Indicator
from learning.experiments.analysis import last_line
from learning.experiments.mixed_skill import Played, play, read_played, write_played
from learning.experiments.recap import figures, phases
from learning.experiments.recap_arms import Data, Judged, Selective, weights_for
from learning.experiments.recap_report import (
    RESET_S,
    bootstrap,
    figure,
    paired,
    per_hour,
    result_of,
    table,
)
from learning.experiments.recap_study import Sizes
from tests.core.making import CONFIG, Store, TinyPolicy, buffer_of
from tests.fakes import FakeDriver

WON, LOST = ["stack", True, 100], ["stack", False, 200]


def test_successes_an_hour_count_the_time_of_failures_too():
    # 5 s and 10 s of acting at 20 ticks a second.
    assert per_hour([WON, LOST]) == pytest.approx(3600 / 15)
    assert per_hour([WON, LOST], reset_s=RESET_S) == pytest.approx(3600 / 25)


def test_an_interval_of_successes_an_hour_holds_its_estimate_and_is_the_same_each_time():
    rollouts = [WON, LOST] * 40
    low, high = bootstrap(rollouts)
    assert low < per_hour(rollouts) < high
    assert (low, high) == bootstrap(rollouts)


def test_cells_are_compared_layout_by_layout():
    pair = paired([[WON] * 8 + [LOST]], [[LOST] * 8 + [LOST]])
    assert (pair["only_first"], pair["only_second"], pair["n"]) == (8, 0, 9)
    assert pair["p"] == pytest.approx(2 / 2**8)


def stages(iterations=1, **extra):
    found = {}
    jobs = [("offline", ("stack",)), ("judge", ())]
    jobs += [job for phase in phases(Sizes(iterations=iterations)) for job in phase]
    for method, arguments in jobs:
        name = "-".join([method, *map(str, arguments)])
        found[name] = {
            "evaluate": [WON, LOST, WON],
            "judge": {"spearman": 0.5, "by_task": {"stack": 0.5}},
            "offline": {"success": 0.55},
        }.get(method, {"action_gap": 0.1})
    return found | extra


def test_the_report_pools_seeds_and_ends_in_one_line_of_strict_json():
    better = {"evaluate-positive-1-1.0": [WON] * 3}
    result = result_of({0: stages(**better), 1: stages(**better)}, figures(1), iterations=1)
    line = json.loads(last_line(result["line"]))
    assert (line["experiment"], line["clock"], line["seeds"], line["trials"]) == (
        "recap", "virtual", 2, 6,
    )  # fmt: skip
    assert (line["recap"], line["recap_final"]) == (pytest.approx(2 / 3, abs=1e-4), 1.0)
    assert line["per_hour_final"] > line["per_hour_first"]
    assert result["cells"]["positive_1"]["n"] == 6
    assert result["offline_success"] == {"stack": 0.55}
    assert result["pairs"]["positive_1 over unconditioned_1"]["only_first"] == 2
    text = table(result)
    assert "| positive_1 | 1.000" in text
    assert "stack 0.50" in text


def test_a_figure_counts_by_task_and_seed():
    cell = figure([[WON, LOST], [WON, WON]])
    assert cell["tasks"] == {"stack": [3, 4]}
    assert cell["seeds"] == [0.5, 1.0]
    assert cell["ticks_a_success"] == 100


def judged(lengths, *, outcomes=None, task="reach"):
    store, found = Store(), []
    for number, steps in enumerate(lengths):
        record = store.make(
            modes=(0,) * steps,
            task=task,
            seed=number,
            closed_seq=number + 1,
            outcome=(outcomes or ["success"] * len(lengths))[number],
        )
        value = np.linspace(-0.5, -0.1, steps).astype(np.float32)
        annotation = annotate(record, value, epsilons={task: 0.0}, horizon=5)
        found.append(Judged(record, annotation, None))
    data = Data.__new__(Data)
    data.episodes = found
    return store, data


def test_each_arm_imitates_its_own_steps():
    _, data = judged([10, 20, 30, 40], outcomes=["success", "success", "timeout", "success"])
    uids = [one.record.uid for one in data.episodes]

    def chosen(arm):
        return [bool((weights_for(arm, data)[uid] > 0).any()) for uid in uids]

    assert chosen("bc_all") == [True] * 4
    assert chosen("bc_success") == [True, True, False, True]
    assert chosen("bc_fastest") == [True, False, False, False]
    positive = weights_for("bc_positive", data)
    for one in data.episodes:
        expected = one.annotation.indicator == Indicator.POSITIVE
        assert (positive[one.record.uid] > 0).tolist() == expected.tolist()
    weighted = weights_for("awr", data)
    advantage = np.concatenate([one.annotation.advantage for one in data.episodes])
    weight = np.concatenate([weighted[uid] for uid in uids])
    assert (weight[np.argsort(advantage)] == np.sort(weight)).all()
    assert weight.max() <= 20


def test_weights_follow_the_rows_of_the_buffer():
    store, data = judged([10, 12])
    weight = {
        one.record.uid: np.full(len(one.record), float(number))
        for number, one in enumerate(data.episodes, 1)
    }
    learner = Selective(TinyPolicy(CONFIG), HgDaggerConfig(), weight)
    records = [dataclasses.replace(one.record, indicator=None) for one in data.episodes]
    buffer = buffer_of(store, records, rules=learner)
    weights = learner._weights(buffer.gather(np.array([0, 9, 10, 21]), np.random.default_rng(0)))
    assert weights.tolist() == pytest.approx([2 / 3, 2 / 3, 4 / 3, 4 / 3])


def test_an_episode_played_by_the_driver_alone_is_recorded_as_a_robot_records_it(tmp_path):
    driver = FakeDriver()
    task = TaskSpec(name="stack", instruction="stack it", timeout_ticks=5)
    played = play(
        driver, task, 3, lambda reading: np.full(len(driver.spec.action_names), 9.0), record_as="x"
    )
    assert (played.success, played.ticks) == (False, 5)
    write_played(tmp_path / "batch", [played, Played("stack", 4, True, 2)])
    ((manifest, part),) = list(read_played(tmp_path / "batch"))
    assert (manifest.outcome, manifest.steps) == ("timeout", 5)
    assert manifest.header.purpose == "train"
    # Clipped to the robot's limits: what was executed.
    assert (part.array("action") <= np.array(driver.spec.action_high) + 1e-6).all()
