from datetime import timedelta

import pytest
from django.utils import timezone

from learning import charts
from learning.models import Learner, PolicyVersion
from learning.models.episodes import Purpose
from learning.selectors import metrics
from learning.services.labels import add_label
from tests.factories import Cast, make_robot, make_task
from tests.learning.test_pages import make_episode, page


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # The paper's own example (SOP): 0.94 on 200 trials.
        (188, 200, 0.898, 0.965),
        (0, 10, 0.0, 0.278),
        (10, 10, 0.722, 1.0),
        (5, 10, 0.237, 0.763),
    ],
)
def test_wilson_intervals_are_the_published_ones(
    successes: int, n: int, low: float, high: float
) -> None:
    rate = metrics.wilson(successes, n)
    assert rate.low == pytest.approx(low, abs=6e-4)
    assert rate.high == pytest.approx(high, abs=6e-4)
    assert rate.share == successes / n


def test_without_trials_nothing_is_claimed() -> None:
    rate = metrics.wilson(0, 0)
    assert (rate.low, rate.high, rate.share) == (0.0, 1.0, 0.0)


def test_success_is_counted_from_evaluations_that_ended_only(cast: Cast) -> None:
    robot, task = make_robot(), make_task("stack")
    make_episode(1, robot, task, purpose=Purpose.EVAL)
    make_episode(2, robot, task, purpose=Purpose.TRAIN, outcome="failure")
    make_episode(3, robot, task, purpose=Purpose.EVAL, complete=False, outcome="failure")
    make_episode(4, robot, task, purpose=Purpose.EVAL, outcome="abort")
    make_episode(5, robot, task, purpose=Purpose.EVAL, outcome="timeout")
    (row,) = metrics.success_by_task()
    assert (row.task, row.rate.successes, row.rate.n) == ("stack", 1, 2)


def test_a_persons_label_outranks_the_robots_outcome(cast: Cast) -> None:
    episode = make_episode(1, make_robot(), make_task(), purpose=Purpose.EVAL)
    add_label(episode_uid=episode.uid, operator=cast.labeller, outcome="failure")
    (row,) = metrics.success_by_task()
    assert (row.rate.successes, row.rate.n) == (0, 1)


def test_only_the_newest_evaluations_of_a_task_count(cast: Cast) -> None:
    robot, task = make_robot(), make_task()
    for seq in range(1, 9):
        outcome = "failure" if seq <= 4 else "success"
        make_episode(seq, robot, task, purpose=Purpose.EVAL, outcome=outcome)
    (row,) = metrics.success_by_task(newest=4)
    assert (row.rate.successes, row.rate.n) == (4, 4)


def test_the_success_curve_groups_consecutive_evaluations_without_overlap(cast: Cast) -> None:
    robot, task = make_robot(), make_task()
    for seq in range(1, 30):
        outcome = "success" if seq > 12 else "failure"
        make_episode(seq, robot, task, purpose=Purpose.EVAL, outcome=outcome, policy_number=seq)
    points = metrics.success_curve()
    assert [p.rate.n for p in points] == [12, 12, 5]
    assert [p.rate.share for p in points] == [0.0, 1.0, 1.0]
    assert [(p.first_policy, p.last_policy) for p in points] == [(1, 12), (13, 24), (25, 29)]
    figure = charts.success(points)
    assert figure is not None
    low, high, line = figure["data"]
    assert all(a <= b <= c for a, b, c in zip(low["y"], line["y"], high["y"], strict=True))
    assert line["text"][0] == "0 of 12 [0.00–0.24] · v1–v12"


def test_a_long_curve_is_thinned_and_keeps_its_last_point(db: None) -> None:
    learner = Learner.objects.create(name="a")
    for step in range(2 * metrics.MAX_CURVE_POINTS + 2):
        learner.metrics.create(step=step, values={"loss": 1.0})
    points = metrics.curve(learner)
    assert len(points) <= metrics.MAX_CURVE_POINTS + 1
    assert (points[0].step, points[-1].step) == (0, 2 * metrics.MAX_CURVE_POINTS + 1)


def test_a_gap_in_the_loss_stays_a_gap(db: None) -> None:
    learner = Learner.objects.create(name="a")
    learner.metrics.create(step=1, values={"loss": 1.0, "loss_online": {"a": None}})
    figure = charts.loss(metrics.curve(learner))
    assert figure is not None
    assert figure["data"][1]["y"] == [None]


def test_overhead_is_that_of_rounds_that_ended_lately(db: None) -> None:
    learner = Learner.objects.create(name="a")
    now = timezone.now()
    for number, ended in ((1, now - timedelta(hours=1)), (2, now)):
        learner.round_set.create(
            number=number, epoch=number, state="done", ended_at=ended, steps=100 * number,
            train_s=9.0, overhead_s=1.0 if number == 2 else 100.0,
        )  # fmt: skip
    figures = metrics.round_figures(learner)
    assert figures["overhead_share"] == pytest.approx(0.1)
    assert figures["steps_per_s"] == pytest.approx(200 / 9)


def test_doubt_at_takeovers_is_the_learners_own_and_of_the_last_quarter(cast: Cast) -> None:
    learner, other = (Learner.objects.create(name=name) for name in ("one", "two"))
    assert metrics.takeover_doubt(learner) == metrics.TakeoverDoubt(None, 0)
    robot, task = make_robot(), make_task()
    for number, owner in ((1, learner), (2, learner), (3, other)):
        PolicyVersion.objects.create(
            learner=owner, number=number, sha256=f"{number}" * 64, size_bytes=1
        )
    doubts = {1: (0.9, None, 0.8), 2: (0.7, 0.3, 0.1), 3: (9.0,)}
    for seq, logged in doubts.items():
        episode = make_episode(seq, robot, task, policy_sha256=f"{seq}" * 64)
        for start, doubt in enumerate(logged):
            episode.interventions.create(start=start, end=start + 1, doubt=doubt)
    found = metrics.takeover_doubt(learner)
    assert (found.threshold, found.n) == (pytest.approx(0.1), 5)
    assert "τ 0.1000" in page(cast.viewer, "/learner/?name=one")
    assert "n = 5" in page(cast.viewer, "/learner/?name=one")
