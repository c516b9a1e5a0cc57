import random
from collections import Counter

import msgspec

from fleet.agent.episodes import EpisodePlan, Planner, Progress
from fleet.protocol.messages import Assignment
from fleet.protocol.spec import MAX_ORDERED_TRIALS, PolicyRef, TaskSpec, Trial, TrialOrder
from tests.fakes import TASK

OTHER = TaskSpec(name="push", instruction="push the block", weight=3.0)
NEVER = TaskSpec(name="off", instruction="not now", weight=0.0)
ASSIGNMENT = Assignment(
    tasks=(TASK, OTHER, NEVER), evaluate_every=3, eval_seeds=(100, 101), train_seed=98
)


def walk(planner: Planner, count: int, *, may_evaluate: bool = True) -> list[EpisodePlan]:
    plans = []
    for _ in range(count):
        plan = planner.next(ASSIGNMENT, may_evaluate=may_evaluate)
        assert plan is not None
        planner.began(plan)
        plans.append(plan)
    return plans


def planner(progress: Progress | None = None) -> Planner:
    return Planner(progress or Progress(), random.Random(7))


def test_one_episode_in_so_many_is_an_evaluation():
    purposes = [plan.purpose for plan in walk(planner(), 9)]
    assert purposes == ["train", "train", "eval"] * 3


def test_evaluations_walk_the_seeds_in_order_for_each_task_alike_trained_or_not():
    evals = [plan for plan in walk(planner(), 12 * 3) if plan.purpose == "eval"]
    for task in (TASK, OTHER, NEVER):
        seeds = [plan.seed for plan in evals if plan.task == task]
        assert seeds == [100, 101, 100, 101]


def test_evaluations_read_the_plain_instruction_and_training_any_wording():
    plans = [plan for plan in walk(planner(), 120) if plan.task == TASK]
    assert {plan.instruction for plan in plans if plan.purpose == "eval"} == {TASK.instruction}
    assert {plan.instruction for plan in plans if plan.purpose == "train"} == {
        TASK.instruction,
        *TASK.paraphrases,
    }


def test_training_seeds_count_up_and_never_fall_among_the_held_out_ones():
    seeds = [plan.seed for plan in walk(planner(), 9) if plan.purpose == "train"]
    assert seeds == [98, 99, 102, 103, 104, 105]


def test_tasks_come_by_weight_and_weight_zero_is_never_trained_on():
    names = Counter(p.task.name for p in walk(planner(), 900) if p.purpose == "train")
    assert set(names) == {"reach", "push"}
    assert 2.3 < names["push"] / names["reach"] < 4.0


def test_an_evaluation_waits_while_a_person_has_the_robot():
    walker = planner()
    assert {p.purpose for p in walk(walker, 5, may_evaluate=False)} == {"train"}
    assert walk(walker, 1)[0].purpose == "eval"


def test_a_restarted_robot_goes_on_where_it_was():
    first = planner()
    walk(first, 4)
    kept = msgspec.json.decode(msgspec.json.encode(first.progress), type=Progress)
    plans = walk(planner(kept), 2)
    assert [plan.purpose for plan in plans] == ["train", "eval"]
    assert plans[0].seed == 103


def test_another_train_seed_starts_the_count_there():
    walker = planner()
    walk(walker, 2)
    moved = msgspec.structs.replace(ASSIGNMENT, train_seed=5000)
    plan = walker.next(moved, may_evaluate=False)
    assert plan is not None
    assert plan.seed == 5000


def test_an_assignment_without_tasks_plans_nothing_and_zero_never_evaluates():
    walker = planner()
    assert walker.next(Assignment(tasks=(NEVER,)), may_evaluate=True) is None
    never = msgspec.structs.replace(ASSIGNMENT, evaluate_every=0)
    for _ in range(20):
        plan = walker.next(never, may_evaluate=True)
        assert plan is not None
        walker.began(plan)
        assert plan.purpose == "train"


def order(*names: str) -> TrialOrder:
    return TrialOrder(
        evaluation="e",
        policy=PolicyRef(number=4, sha256="a" * 64, url="/w", size_bytes=1),
        trials=tuple(Trial(uid=name, task=OTHER, seed=500 + i) for i, name in enumerate(names)),
    )


def test_trials_come_in_the_order_they_were_given_and_each_once():
    walker = planner()
    for expected in ("t1", "t2"):
        plan = walker.trial(order("t1", "t2"))
        assert plan is not None
        assert (plan.trial, plan.purpose, plan.instruction) == (expected, "eval", OTHER.instruction)
        walker.began(plan)
    assert walker.trial(order("t1", "t2")) is None
    added = walker.trial(order("t2", "t3"))
    assert added is not None
    assert (added.trial, added.seed) == ("t3", 501)


def test_a_restarted_robot_knows_which_trials_it_began():
    first = planner()
    plan = first.trial(order("t1", "t2"))
    assert plan is not None
    first.began(plan)
    kept = msgspec.json.decode(msgspec.json.encode(first.progress), type=Progress)
    again = planner(kept).trial(order("t1", "t2"))
    assert again is not None
    assert again.trial == "t2"


def test_trials_neither_count_as_held_out_episodes_nor_use_training_seeds():
    walker = planner()
    for name in ("t1", "t2", "t3"):
        plan = walker.trial(order(name))
        assert plan is not None
        walker.began(plan)
    assert (walker.progress.since_evaluation, walker.progress.train) == (0, 0)
    assert walker.progress.evaluated == {}


def test_what_a_robot_remembers_of_trials_is_bounded():
    walker = planner()
    for i in range(200):
        plan = walker.trial(order(f"t{i}"))
        assert plan is not None
        walker.began(plan)
    assert MAX_ORDERED_TRIALS <= len(walker.progress.trials) < 100
    assert walker.trial(order("t199")) is None
