import threading
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from fleet.models import PolicyReport, Robot
from fleet.protocol.simulation import HELD_OUT_FROM, TRIAL_SEEDS
from fleet.services.takeover import grant_lease
from learning.exceptions import Unprocessable
from learning.models import Evaluation, EvaluationTrial, Learner
from learning.selectors.evaluations import evaluation_of, progress, results
from learning.services.evaluations import (
    advance,
    advance_open,
    cancel_evaluation,
    request_evaluation,
)
from learning.services.labels import add_label
from learning.services.trials import MAX_ATTEMPTS, STINT
from tests.factories import make_fleet_settings, make_task
from tests.learning.fleets import (
    be_heard,
    fall_silent,
    make_idle,
    make_version,
    order_of,
    run_all,
    run_next,
    run_trial,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def learner(db):
    return Learner.objects.create(name="hg")


@pytest.fixture
def old(learner):
    return make_version(learner, 3)


@pytest.fixture
def new(learner):
    return make_version(learner, 9)


@pytest.fixture
def tasks(db):
    return [make_task("door"), make_task("drawer")]


@pytest.fixture
def ask(cast, old, tasks):
    def ask(**fields):
        values = {"first": old, "tasks": tasks, "trials_per_task": 3}
        return request_evaluation(operator=cast.lead, **(values | fields))

    return ask


def states(evaluation) -> Counter:
    return Counter(evaluation.trials.values_list("state", flat=True))


# ---- what is declared


def test_trials_are_declared_seed_by_seed_for_every_task_and_version(ask, old, new):
    evaluation = ask(second=new)
    rows = [(t.seed, t.task.name, t.version) for t in evaluation.trials.order_by("position")]
    first = TRIAL_SEEDS[0]
    assert rows[:4] == [(first, "door", old), (first, "door", new),
                        (first, "drawer", old), (first, "drawer", new)]  # fmt: skip
    assert len(rows) == 12
    assert {seed for seed, _, _ in rows} == {first, first + 1, first + 2}
    assert first >= HELD_OUT_FROM


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tasks": []}, "at least one task"),
        ({"trials_per_task": 0}, "trials per task"),
        ({"trials_per_task": 501}, "trials per task"),
        ({"first_seed": 5}, "first seed"),
        ({"first_seed": 2**31}, "first seed"),
        ({"timeout_ticks": 0}, "timeout ticks"),
        ({"max_robots": 0}, "max robots"),
        ({"stop_when_decided": True}, "target"),
        ({"target": 1.5}, "target"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_words_and_not_stored(ask, fields, words):
    with pytest.raises(Unprocessable, match=words):
        ask(**fields)
    assert not Evaluation.objects.exists()


def test_a_version_cannot_be_compared_with_itself_and_a_target_is_for_one(ask, old, new):
    with pytest.raises(Unprocessable, match="two different"):
        ask(second=old)
    with pytest.raises(Unprocessable, match="one version"):
        ask(second=new, target=0.5)


def test_a_version_that_failed_its_gate_is_not_evaluated(ask, learner):
    with pytest.raises(Unprocessable, match="gate"):
        ask(first=make_version(learner, 4, state="rejected"))


# ---- who works on it


def test_an_idle_robot_is_told_the_version_the_trials_and_their_timeout(ask, old):
    robot = make_idle("arm-1")
    evaluation = ask(timeout_ticks=33)
    order = order_of(robot)
    assert (order.evaluation, order.policy.sha256) == (str(evaluation.uid), old.sha256)
    assert order.policy.number == 3
    assert [(t.task.name, t.seed - TRIAL_SEEDS[0]) for t in order.trials] == [
        ("door", 0), ("drawer", 0)
    ]  # fmt: skip
    assert {t.task.timeout_ticks for t in order.trials} == {33}
    assert evaluation.state == "running"
    assert progress(evaluation).robots == ("arm-1",)


def test_without_an_idle_robot_it_waits_and_says_so(ask):
    evaluation = ask()
    assert (evaluation.state, evaluation.note) == ("queued", "waits for an idle robot")
    robot = make_idle("arm-1")
    advance_open()
    evaluation.refresh_from_db()
    assert (evaluation.state, evaluation.note) == ("running", "")
    assert order_of(robot) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": "holding"},
        {"mode": "stopped"},
        {"mode": "takeover"},
        {"enabled": False},
        {"paused": True},
        {"stop_requested": "stop-1"},
        {"last_heartbeat_at": None},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_robot_that_is_not_idle_is_left_alone(ask, fields):
    busy, idle = make_idle("busy", **fields), make_idle("idle")
    ask()
    assert order_of(busy) is None
    assert order_of(idle) is not None


def test_a_robot_that_somebody_holds_is_left_alone(ask, cast):
    held = make_idle("held")
    grant_lease(robot="held", operator=cast.operator)
    ask()
    assert order_of(held) is None


def test_a_paused_fleet_evaluates_nothing_until_it_goes_on(ask):
    robot = make_idle("arm-1")
    make_fleet_settings(paused=True)
    evaluation = ask()
    assert order_of(robot) is None
    make_fleet_settings(paused=False)
    advance(evaluation.pk)
    assert order_of(robot) is not None


def test_no_more_robots_work_on_it_than_asked_for(ask):
    robots = [make_idle(f"arm-{i}") for i in range(4)]
    ask(max_robots=2)
    assert [order_of(robot) is not None for robot in robots] == [True, True, False, False]


def test_a_robot_gets_only_tasks_it_is_for(ask, tasks):
    robot = make_idle("arm-1")
    robot.tasks.add(tasks[1])
    ask()
    assert {trial.task.name for trial in order_of(robot).trials} == {"drawer"}


def test_a_robot_works_on_one_evaluation_at_a_time_and_on_the_oldest_first(ask, cast):
    robot = make_idle("arm-1")
    first, second = ask(), ask()
    assert order_of(robot).evaluation == str(first.uid)
    assert second.state == "queued"
    cancel_evaluation(first, operator=cast.lead)
    advance_open()
    assert order_of(robot).evaluation == str(second.uid)


# ---- how it goes on


def test_a_finished_trial_counts_and_the_robot_has_the_next_one(ask):
    robot = make_idle("arm-1")
    evaluation = ask()
    ran = run_next(robot)
    assert states(evaluation) == {"done": 1, "assigned": 2, "due": 3}
    assert ran.uid not in {trial.uid for trial in order_of(robot).trials}


def test_when_every_trial_was_run_robots_go_back_to_their_work(ask):
    robots = [make_idle("arm-1"), make_idle("arm-2")]
    evaluation = ask()
    run_all(evaluation, *robots)
    assert (evaluation.state, evaluation.note) == ("done", "every trial was run")
    assert evaluation.ended_at is not None
    assert states(evaluation) == {"done": 6}
    assert [order_of(robot) for robot in robots] == [None, None]


def test_a_robot_is_given_back_as_soon_as_there_is_nothing_left_for_it(ask):
    one, two = make_idle("arm-1"), make_idle("arm-2")
    ask(trials_per_task=2)
    assert [len(order_of(robot).trials) for robot in (one, two)] == [2, 2]
    run_next(one)
    assert order_of(one) is not None
    run_next(one)
    assert order_of(one) is None
    assert order_of(two) is not None


def test_a_closed_episode_that_nobody_told_of_is_taken_in_by_the_sweep(ask):
    robot = make_idle("arm-1")
    evaluation = ask()
    run_next(robot, tell=False)
    assert states(evaluation)["done"] == 0
    advance_open()
    assert states(evaluation)["done"] == 1


def test_cancelling_gives_robots_back_at_once_and_keeps_what_was_done(ask, cast):
    robot = make_idle("arm-1")
    evaluation = ask()
    run_next(robot)
    cancelled = cancel_evaluation(evaluation, operator=cast.lead)
    assert (cancelled.state, cancelled.note) == ("cancelled", "cancelled by lead")
    assert order_of(robot) is None
    assert states(evaluation) == {"done": 1, "due": 5}
    again = cancel_evaluation(evaluation, operator=cast.admin)
    assert again.note == "cancelled by lead"


def test_a_result_that_comes_after_the_cancellation_changes_nothing(ask, cast):
    robot = make_idle("arm-1")
    evaluation = ask()
    order = order_of(robot)
    cancel_evaluation(evaluation, operator=cast.lead)
    run_trial(robot, order.trials[0], order.policy)
    assert states(evaluation) == {"due": 6}


def test_a_trial_of_a_robot_that_died_is_done_elsewhere_and_its_late_result_ignored(ask):
    dead = make_idle("dead")
    evaluation = ask()
    order = order_of(dead)
    fall_silent(dead)
    other = make_idle("other")
    advance(evaluation.pk)
    assert order_of(dead) is None
    again = order_of(other)
    assert [(t.task.name, t.seed) for t in again.trials] == [
        (t.task.name, t.seed) for t in order.trials
    ]
    assert {t.uid for t in again.trials}.isdisjoint({t.uid for t in order.trials})
    run_trial(dead, order.trials[0], order.policy, "failure")
    assert states(evaluation)["done"] == 0
    run_next(other, "success")
    assert results(evaluation)[0].arms[0].score.successes == 1


@pytest.mark.parametrize("mode", ["holding", "stopped", "takeover"])
def test_trials_of_a_robot_that_a_person_stopped_or_took_are_done_elsewhere(ask, mode):
    robot = make_idle("arm-1")
    evaluation = ask()
    Robot.objects.filter(pk=robot.pk).update(mode=mode)
    advance(evaluation.pk)
    assert order_of(robot) is None
    assert states(evaluation) == {"due": 6}
    # A person's act is no fault of the trial.
    assert set(evaluation.trials.values_list("attempts", flat=True)) == {0}


@pytest.mark.parametrize(
    "fields",
    [
        {"outcome": "abort"},
        {"complete": False},
        {"modes": (0, 1, 1, 0)},
        {"policy_sha256": "f" * 64},
        {"seed": 7},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_an_attempt_that_did_not_run_as_declared_does_not_count_and_is_repeated(ask, fields):
    robot = make_idle("arm-1")
    evaluation = ask()
    ran = run_next(robot, **fields)
    assert states(evaluation)["done"] == 0
    trial = evaluation.trials.get(position=0)
    assert (trial.attempts, trial.state) == (1, "assigned")
    assert trial.reason
    assert ran.uid not in {t.uid for t in order_of(robot).trials}


def test_a_trial_that_never_ends_well_becomes_void_and_the_evaluation_ends(ask, tasks):
    robot = make_idle("arm-1")
    evaluation = ask(trials_per_task=1, tasks=tasks[:1])
    for _ in range(MAX_ATTEMPTS):
        run_next(robot, "abort")
    evaluation.refresh_from_db()
    assert (evaluation.state, states(evaluation)) == ("done", {"void": 1})
    assert results(evaluation)[0].arms[0].score.trials == 0
    assert order_of(robot) is None


def report(robot, version, status):
    PolicyReport.objects.create(
        robot=robot, number=version.number, sha256=version.sha256, status=status,
        reason="not finite", robot_wall_ns=PolicyReport.objects.count(),
        reported_at=timezone.now(),
    )  # fmt: skip


def test_a_robot_that_rejects_the_version_takes_no_more_part(ask, old):
    bad, good = make_idle("bad"), make_idle("good")
    evaluation = ask()
    report(bad, old, "rejected")
    advance(evaluation.pk)
    evaluation.refresh_from_db()
    assert "not finite" in evaluation.excluded["bad"]
    assert order_of(bad) is None
    assert order_of(good) is not None
    run_all(evaluation, good)
    assert states(evaluation) == {"done": 6}


def test_a_version_that_every_robot_rejects_fails_the_evaluation(ask, old):
    robot = make_idle("arm-1")
    evaluation = ask()
    report(robot, old, "rolled_back")
    advance(evaluation.pk)
    evaluation.refresh_from_db()
    assert evaluation.state == "failed"
    assert "not finite" in evaluation.note
    assert order_of(robot) is None


def test_a_robot_that_does_not_run_its_trials_in_time_takes_no_more_part(ask):
    idle_agent, good = make_idle("idle-agent"), make_idle("good")
    evaluation = ask()
    long_ago = timezone.now() - timedelta(minutes=10)
    EvaluationTrial.objects.filter(robot=idle_agent).update(assigned_at=long_ago)
    advance(evaluation.pk)
    evaluation.refresh_from_db()
    assert evaluation.excluded == {"idle-agent": "it did not run its trials in time"}
    assert order_of(idle_agent) is None
    assert order_of(good) is not None


def test_a_robot_that_is_deleted_loses_its_trials(ask):
    robot = make_idle("arm-1")
    evaluation = ask()
    robot.delete()
    advance(evaluation.pk)
    assert states(evaluation) == {"due": 6}


# ---- comparing two


def test_every_robot_runs_both_versions_in_turn(ask, new):
    robots = [make_idle("arm-1"), make_idle("arm-2")]
    evaluation = ask(second=new, trials_per_task=12)
    run_all(evaluation, *robots)
    for robot in robots:
        shares = Counter(
            evaluation.trials.filter(robot=robot).values_list("version__number", flat=True)
        )
        assert set(shares) == {3, 9}
        assert abs(shares[3] - shares[9]) <= STINT


def test_an_order_never_mixes_versions(ask, new):
    robot = make_idle("arm-1")
    evaluation = ask(second=new)
    while (order := order_of(robot)) is not None:
        attempts = [trial.uid for trial in order.trials]
        versions = evaluation.trials.filter(attempt__in=attempts).values_list("version__sha256")
        assert {sha256 for (sha256,) in versions} == {order.policy.sha256}
        run_next(robot)
    evaluation.refresh_from_db()
    assert evaluation.state == "done"


def test_pairs_on_the_same_seeds_give_the_exact_comparison(ask, new):
    robot = make_idle("arm-1")
    evaluation = ask(second=new, trials_per_task=5)
    run_all(
        evaluation, robot,
        outcome=lambda number, task, seed: "timeout" if number == 3 and task == "door" else None,
    )  # fmt: skip
    everything, door, drawer = results(evaluation)
    assert (everything.name, door.name, drawer.name) == ("all tasks", "door", "drawer")
    assert [arm.score.successes for arm in everything.arms] == [5, 10]
    paired = everything.paired
    assert (paired.both, paired.first_only, paired.second_only) == (5, 0, 5)
    assert door.p_value == pytest.approx(2 / 32)
    assert everything.difference[0] == pytest.approx(0.5)
    assert drawer.p_value == 1.0


def test_a_void_trial_leaves_its_pair_out(ask, new, tasks):
    robot = make_idle("arm-1")
    evaluation = ask(second=new, tasks=tasks[:1], trials_per_task=2)
    run_all(
        evaluation, robot,
        outcome=lambda number, task, seed: (
            "abort" if (number, seed) == (3, TRIAL_SEEDS[0]) else None
        ),
    )  # fmt: skip
    line = results(evaluation)[0]
    assert [arm.score.trials for arm in line.arms] == [1, 2]
    assert line.paired.pairs == 1


def test_throughput_is_told_both_ways(ask, tasks):
    make_fleet_settings(reset_s=1.0)
    robot = make_idle("arm-1")
    evaluation = ask(tasks=tasks[:1], trials_per_task=2)
    run_next(robot, "success", steps=20)
    run_next(robot, "timeout", steps=60)
    arm = results(evaluation)[0].arms[0]
    # 4 s of control at 20 Hz, and two resets of 1 s.
    assert arm.episodes_per_hour == pytest.approx(2 / 4 * 3600)
    assert arm.successes_per_hour == pytest.approx(1 / 6 * 3600)


def test_a_label_corrects_the_result(ask, cast, tasks):
    robot = make_idle("arm-1")
    evaluation = ask(tasks=tasks[:1], trials_per_task=2)
    run_all(evaluation, robot)
    assert results(evaluation)[0].arms[0].score.successes == 2
    episode = evaluation.trials.get(position=0).episode
    add_label(episode_uid=episode.uid, operator=cast.labeller, outcome="failure")
    assert results(evaluation)[0].arms[0].score.successes == 1
    add_label(episode_uid=episode.uid, operator=cast.labeller, outcome="abort")
    assert results(evaluation)[0].arms[0].score.trials == 1


# ---- stopping when decided


def test_a_comparison_stops_when_one_version_is_clearly_better(ask, new, tasks):
    robot = make_idle("arm-1")
    evaluation = ask(second=new, tasks=tasks[:1], trials_per_task=100, stop_when_decided=True)
    run_all(evaluation, robot, outcome=lambda number, *_: "timeout" if number == 3 else "success")
    assert (evaluation.state, evaluation.decision) == ("done", "second")
    # Seven pairs decide; what was under way is a stint and an order more at most.
    assert 14 <= states(evaluation)["done"] <= 14 + 2 * STINT
    assert order_of(robot) is None


def test_a_single_version_stops_when_its_side_of_the_target_is_clear(ask, tasks):
    robot = make_idle("arm-1")
    evaluation = ask(trials_per_task=100, stop_when_decided=True, target=0.5)
    run_all(evaluation, robot)
    assert evaluation.decision == "above"
    assert states(evaluation)["done"] < 30


def test_what_finished_first_decides_nothing_before_its_block_is_whole(ask, new, tasks):
    robot = make_idle("arm-1")
    evaluation = ask(second=new, tasks=tasks[:1], trials_per_task=60, stop_when_decided=True)
    # The very first trial never finishes: no block is whole, whatever follows.
    EvaluationTrial.objects.filter(position=0).update(
        state="assigned", attempt="00000000-0000-4000-8000-000000000000",
        robot=(slow := make_idle("slow")), assigned_at=timezone.now(),
    )  # fmt: skip
    for _ in range(40):
        be_heard(robot)
        be_heard(slow)
        number = order_of(robot).policy.number
        run_next(robot, "timeout" if number == 3 else "success")
    evaluation.refresh_from_db()
    assert evaluation.open


def test_without_the_wish_to_stop_early_every_trial_is_run(ask, new, tasks):
    robot = make_idle("arm-1")
    evaluation = ask(second=new, tasks=tasks[:1], trials_per_task=12)
    run_all(evaluation, robot, outcome=lambda number, *_: "timeout" if number == 3 else "success")
    assert (states(evaluation), evaluation.decision) == ({"done": 24}, "")


# ---- many at once


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_two_processes_that_advance_at_once_hand_out_no_trial_and_no_robot_twice(ask):
    evaluations = [ask(trials_per_task=20), ask(trials_per_task=20)]
    robots = [make_idle(f"arm-{i}") for i in range(4)]
    errors = []

    def work():
        try:
            for _ in range(3):
                for evaluation in evaluations:
                    advance(evaluation.pk)
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    uids = [trial.uid for robot in robots for trial in order_of(robot).trials]
    assert len(uids) == len(set(uids)) == 8
    assigned = EvaluationTrial.objects.filter(state="assigned")
    assert {str(trial.attempt) for trial in assigned} == set(uids)


def test_an_evaluation_is_found_by_its_uid(ask):
    evaluation = ask()
    assert evaluation_of(evaluation.uid).first.number == 3
