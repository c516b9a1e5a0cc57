import pytest

from learning.core.statistics import Score
from learning.models import Learner
from learning.selectors import metrics
from learning.selectors.forgetting import (
    MAX_POINTS,
    MIN_POINT,
    TaskCurve,
    VersionPoint,
    alarms,
    grouped,
    success_by_version,
)
from learning.services.evaluations import request_evaluation
from tests.factories import make_task
from tests.learning.fleets import make_idle, make_version, run_all
from tests.learning.making import record, send


def curve(*scores: tuple[int, int], task="door") -> TaskCurve:
    points = tuple(VersionPoint(i, i, Score(*score)) for i, score in enumerate(scores, 1))
    return TaskCurve(task, True, points)


def test_versions_with_few_trials_are_joined_and_those_with_enough_stand_alone():
    scores = {1: Score(1, 4), 2: Score(2, 4), 3: Score(4, 4), 4: Score(18, 20), 7: Score(1, 3)}
    assert grouped(scores) == (
        VersionPoint(1, 3, Score(7, 12)),
        VersionPoint(4, 4, Score(18, 20)),
        VersionPoint(7, 7, Score(1, 3)),
    )


def test_a_few_trials_before_an_evaluated_version_are_not_mixed_into_it():
    scores = {1: Score(1, 2), 2: Score(18, 20)}
    assert [point.words for point in grouped(scores)] == ["v1", "v2"]


def test_a_long_history_makes_larger_points_not_more_of_them():
    points = grouped({number: Score(1, 2) for number in range(1, 2001)})
    assert len(points) <= MAX_POINTS + 1
    assert sum(point.score.trials for point in points) == 4000


def test_nothing_evaluated_makes_no_points():
    assert grouped({}) == ()


def test_a_clear_fall_raises_an_alarm_and_a_recovery_clears_it():
    (alarm,) = alarms([curve((10, 20), (19, 20), (6, 20))])
    assert (alarm.task, alarm.best.first, alarm.now.first) == ("door", 2, 3)
    assert alarm.p_value < 0.05
    assert alarms([curve((10, 20), (19, 20), (6, 20), (18, 20))]) == []


@pytest.mark.parametrize(
    "scores",
    [[], [(0, 20)], [(19, 20), (16, 20)], [(5, 20), (19, 20)], [(20, 20), (0, MIN_POINT - 1)]],
    ids=["nothing", "one point", "chance", "a rise", "too few trials"],
)
def test_no_alarm_without_a_fall_beyond_chance(scores):
    assert alarms([curve(*scores)]) == []


def test_the_surest_alarm_comes_first():
    found = alarms([curve((19, 20), (9, 20), task="a"), curve((20, 20), (1, 20), task="b")])
    assert [alarm.task for alarm in found] == ["b", "a"]


@pytest.fixture
def learner(db):
    return Learner.objects.create(name="hg")


def test_held_out_episodes_and_trials_make_the_curve_of_every_task(learner, cast):
    version = make_version(learner, 3)
    trained, dropped = make_task("door"), make_task("drawer", enabled=False)
    robot = make_idle("arm-1")
    for outcome in ("success", "timeout"):
        recorded = record(
            robot, trained, purpose="eval", outcome=outcome, policy_number=3,
            policy_sha256=version.sha256,
        )  # fmt: skip
        send(recorded, robot)
    evaluation = request_evaluation(
        operator=cast.lead, first=version, tasks=[trained, dropped], trials_per_task=2
    )
    run_all(evaluation, robot)
    door, drawer = success_by_version(learner)
    assert (door.task, door.trained) == ("door", True)
    assert door.points == (VersionPoint(3, 3, Score(3, 4)),)
    # Nobody trains it, and it is known all the same.
    assert (drawer.task, drawer.trained) == ("drawer", False)
    assert drawer.points == (VersionPoint(3, 3, Score(2, 2)),)


def test_trials_of_old_versions_are_not_on_the_fleets_own_curve(learner, cast):
    version, task, robot = make_version(learner, 3), make_task("door"), make_idle("arm-1")
    evaluation = request_evaluation(
        operator=cast.lead, first=version, tasks=[task], trials_per_task=2
    )
    run_all(evaluation, robot)
    assert metrics.evaluations().count() == 0
    assert metrics.success_by_task() == []


def test_episodes_of_another_learner_and_training_episodes_do_not_count(learner):
    other = make_version(Learner.objects.create(name="recap"), 3)
    mine = make_version(learner, 3)
    task, robot = make_task("door"), make_idle("arm-1")
    for purpose, version in (("eval", other), ("train", mine)):
        recorded = record(
            robot, task, purpose=purpose, policy_number=3, policy_sha256=version.sha256
        )
        send(recorded, robot)
    assert success_by_version(learner) == []
