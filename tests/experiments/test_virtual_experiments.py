"""What the experiments conclude from runs whose outcome is known; no run is performed."""

import random
from types import SimpleNamespace

import pytest

from fleet.protocol.simulation import TASKS
from learning.core.learners.base import build_learner
from learning.core.policies.base import PolicyConfig, build_policy
from learning.experiments import arms, hg_dagger, pretraining, sampler, scaling
from learning.experiments.analysis import last_line
from learning.experiments.virtual import summary, variants
from learning.experiments.virtual.command import Outcome, resized, run_command


class FakeLaboratory:
    """Runs whose success rises with robot time, by `pace` of each arm."""

    def __init__(self, folder, pace):
        self.folder, self.pace = folder, pace
        self.stages = SimpleNamespace(once=lambda name, compute: None)
        self.runs = {}

    def base(self, *, per_task=10):
        return f"base-{per_task}", f"shown-{per_task}"

    def demonstrations(self, *, per_task):
        return f"shown-{per_task}"

    def rows(self, trials, rate):
        rng = random.Random(f"{trials}/{rate:.3f}")
        order = [(task.name, seed) for task in TASKS for seed in range(trials)]
        won = set(rng.sample(order, round(rate * len(order))))
        return [[*key, key in won, 100 if key in won else 200] for key in order]

    def evaluate(self, name, artifact, *, curve, trials, patience=1):
        final = self.rows(trials, 0.4)
        return {
            "curve": self.rows(curve, 0.4),
            "final": final,
            "patient": self.patient(final, patience),
        }

    def patient(self, rows, patience):
        return [[*row[:3], row[3] if row[2] else 200 * patience] for row in rows]

    def perform(self, runs):
        self.runs |= runs
        return {name: self.figures(name, run) for name, run in runs.items()}

    def figures(self, name, run):
        points = run.rounds or max(1, run.points)
        pace = self.pace(name, run)
        tallies, evaluations = [], []
        for number in range(1, points + 1):
            t_s = 60 * run.minutes * number / points
            tallies.append(
                {"t_s": t_s, "episodes": t_s * run.robots / 12, "robot_s": 0.6 * t_s * run.robots,
                 "human_s": 0.2 * t_s, "held_s": 0.3 * t_s, "unmet_s": 0.0, "takeovers": 3,
                 "steps": t_s * run.rates.updates_per_s, "omega": 0.5, "outcomes": {}}
            )  # fmt: skip
            rate = min(0.95, 0.4 + pace * t_s)
            evaluations.append([t_s, 0, self.rows(run.point_trials, rate)])
        judged = min(0.95, 0.4 + pace * tallies[run.judged]["t_s"])
        final = self.rows(run.trials, judged)
        return {
            "tallies": tallies,
            "points": evaluations if run.points else [],
            "final": final,
            "patient": self.patient(final, run.patience),
            "correlations": [],
        }


@pytest.fixture
def conduct(tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "RESAMPLES", 10)
    for function in (summary.time_to, summary.speedup, summary.ratio):
        monkeypatch.setitem(function.__kwdefaults__, "resamples", 10)

    def run(module, size, pace):
        laboratory = FakeLaboratory(tmp_path, pace)
        outcome = module.conduct(laboratory, size)
        assert (tmp_path / "plot.png").stat().st_size > 1000
        last_line(outcome.result)
        return outcome, laboratory.runs

    return run


def test_arms_differ_in_nothing_but_the_algorithm_and_whether_it_learns_while_robots_act(conduct):
    _, runs = conduct(arms, arms.QUICK, lambda name, run: 0.001)
    offline, online = runs["hg_dagger-seed-0"], runs["sop_hg_dagger-seed-0"]
    assert (offline.rounds, online.rounds) == (arms.QUICK.rounds, 0)
    for field in ("base", "demonstrations", "robots", "operators", "minutes", "human_minutes",
                  "updates", "seed", "trials", "sampler", "options"):  # fmt: skip
        assert getattr(offline, field) == getattr(online, field)


@pytest.mark.parametrize("arm", arms.ARMS)
def test_every_arm_asks_for_options_that_its_learner_has(arm):
    (run,) = arms.runs_of(arm, arms.QUICK, "base", "shown").values()
    policy = build_policy(PolicyConfig(kind="state", state_dim=4, action_dim=4))
    assert build_learner(run.algorithm, policy, run.options).config.ema_decay == 0.99


def test_arms_end_in_the_keys_that_were_promised(conduct, monkeypatch):
    monkeypatch.setenv("ARMS", "hg_dagger,sop_hg_dagger")
    size = resized(arms.Size(), ["seeds=2", "points=2", "point_trials=5", "trials=20"])
    outcome, _ = conduct(arms, size, lambda name, run: 0.0008 if name.startswith("sop") else 0.0003)
    result = outcome.result
    assert [key for key in result if not key.endswith(("_low", "_high"))] == [
        "pretrained",
        "hg_dagger",
        "recap",
        "sop_hg_dagger",
        "sop_recap",
        "throughput_ratio",
        "completions_ratio",
    ]
    assert result["pretrained"] == pytest.approx(0.4, abs=0.01)
    assert result["sop_hg_dagger"] == pytest.approx(0.95, abs=0.01)
    assert result["hg_dagger"] == pytest.approx(0.67, abs=0.01)
    # 160 ticks an episode before, 105 after.
    assert result["throughput_ratio"] == pytest.approx(160 / 105, rel=0.01)
    # 0.4 of 8 + 5 s, and 0.95 of 5.25 + 5 s.
    assert result["completions_ratio"] == pytest.approx(0.95 / 10.25 * 13 / 0.4, rel=0.02)
    # With twice the limit 280 ticks before, 115 after.
    (line,) = [x for x in outcome.notes.splitlines() if x.startswith("| × 2 |")]
    assert float(line.split("|")[4].split()[0]) == pytest.approx(280 / 115, rel=0.01)
    assert "sop_hg_dagger − hg_dagger" in outcome.notes


def test_twice_the_robots_in_half_the_time_is_a_speedup_of_two(conduct):
    size = scaling.Size(
        seeds=2, minutes={1: 16.0, 2: 8.0, 4: 4.0}, equal_minutes=4.0, points=16, trials=10
    )
    outcome, runs = conduct(scaling, size, lambda name, run: 0.0008 * run.robots)
    assert outcome.result["speedup_2"] == pytest.approx(2.0, rel=0.1)
    assert outcome.result["speedup_4"] == pytest.approx(4.0, rel=0.1)
    assert outcome.result["success_1"] < outcome.result["success_2"]
    for name, run in runs.items():
        if name.startswith("N=1-"):
            assert (run.judged + 1) * run.minutes / run.points == size.equal_minutes
    assert "| data |" in outcome.table


def test_a_fleet_that_needs_more_episodes_is_bound_by_its_learner(conduct):
    size = scaling.Size(seeds=1, minutes={1: 16.0, 2: 16.0, 4: 16.0}, points=16, trials=5)
    outcome, _ = conduct(scaling, size, lambda name, run: 0.0008)
    assert outcome.result["speedup_4"] == pytest.approx(1.0, rel=0.01)
    assert "| learner |" in outcome.table


def test_corrections_are_compared_with_as_much_robot_time_of_demonstrations(conduct, monkeypatch):
    monkeypatch.setattr(pretraining, "seconds_of", lambda folder: [4.0, 6.0])
    size = resized(pretraining.Size(), ["seeds=2", "trials=20"])
    outcome, runs = conduct(
        pretraining, size, lambda name, run: 0.0002 if not run.robots else 0.0008
    )
    more = runs["more demonstrations-seed-0"]
    # 8 a task, and 10 minutes of four robots acting .6 of the time, in demonstrations of 5 s.
    assert more.demonstrations == f"shown-{8 + round(0.6 * 4 * 600 / 5 / 6)}"
    assert (more.robots, more.updates) == (0, runs["half-seed-0"].updates)
    assert outcome.result["online_gain"] == pytest.approx(0.48, abs=0.01)
    assert outcome.result["demonstration_gain"] == pytest.approx(0.12, abs=0.01)


def test_samplers_differ_in_nothing_else(conduct):
    outcome, runs = conduct(sampler, variants.QUICK, lambda name, run: 0.001)
    assert {run.sampler["kind"] for run in runs.values()} == {"adaptive", "fixed", "frames"}
    assert len({(run.minutes, run.robots, run.batch_size) for run in runs.values()}) == 1
    assert {"adaptive", "adaptive_normalised", "half", "frames"} <= set(outcome.result)


def test_variants_of_hg_dagger_differ_only_in_what_is_imitated_and_how_it_weighs(conduct):
    outcome, runs = conduct(
        hg_dagger, variants.QUICK, lambda name, run: 0.002 if "successes" in name else 0.001
    )
    policy = build_policy(PolicyConfig(kind="state", state_dim=4, action_dim=4))
    configs = [build_learner(run.algorithm, policy, run.options).config for run in runs.values()]
    assert {(c.autonomous_successes, c.sirius_weights) for c in configs} == {
        (False, False), (True, False), (False, True), (True, True)
    }  # fmt: skip
    assert len({(run.minutes, run.robots, str(run.sampler)) for run in runs.values()}) == 1
    assert outcome.result["successes"] > outcome.result["corrections"]
    assert "Against corrections" in outcome.notes


def test_a_size_is_changed_by_name_and_only_in_its_numbers():
    assert resized(arms.Size(), ["minutes=8"]).minutes == 8.0
    with pytest.raises(ValueError, match="no number"):
        resized(arms.Size(), ["rates=3"])
    with pytest.raises(ValueError, match="no number"):
        resized(arms.Size(), ["colour=3"])


def test_an_experiment_of_which_a_part_was_asked_for_is_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.setenv("OUT", str(tmp_path))

    def ask(finished):
        outcome = Outcome({"found": 1}, "table", "notes", {}, finished=finished)
        size = variants.Size(seeds=1)
        return run_command("part", full=size, quick=size, conduct=lambda *_: outcome, arguments=[])

    assert ask(finished=False) == ask(finished=True) == 0
    (folder,) = tmp_path.glob("part-*")
    assert (folder / "result.json").exists()
    assert ask(finished=True) == 0
    assert len(list(tmp_path.glob("part-*"))) == 2
