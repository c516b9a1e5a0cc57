"""When a robot asks for help and when it needs none any more, tick by tick."""

from dataclasses import replace

import numpy as np
import pytest

from fleet.agent.helpwatch import LEAVE_DOUBT, Glance, HelpWatch, Standing
from fleet.protocol import messages as m
from fleet.protocol.control import Mode
from fleet.protocol.help import MIN_HUMAN_STEPS, HelpLimits, priority, uncertainty_of
from tests.fakes import SPEC, FakeClock

TAU = 0.2
LIMITS = HelpLimits(doubt=TAU, still_s=2.0, still_range=0.01, failures=2)
HALF_SECOND = round(SPEC.control_hz / 2)
AUTONOMOUS, TAKEOVER = Standing(Mode.AUTONOMOUS), Standing(Mode.TAKEOVER)
ABANDONED = Standing(Mode.HOLDING, abandoned=True, why="ada lost the lease")


class Watched:
    """A watch whose robot moves unless told otherwise."""

    def __init__(self, limits: HelpLimits = LIMITS) -> None:
        self.clock = FakeClock()
        self.said: list[m.HelpNeed] = []
        self.watch = HelpWatch(SPEC, self.clock, on_change=self.said.append)
        self.watch.limits = limits
        self.ticks = 0
        self.glance = Glance(
            AUTONOMOUS, "e1", "reach", "train", np.zeros(2), np.zeros(3), doubt=0.0
        )

    def tick(self, count: int = 1, *, moves: bool = True, **fields: object) -> m.HelpNeed:
        self.glance = replace(self.glance, **fields)
        for _ in range(count):
            self.ticks += moves
            self.clock.advance(1 / SPEC.control_hz)
            self.watch.observe(replace(self.glance, state=np.full(2, 0.1 * self.ticks)))
        return self.watch.need

    def end(self, outcome: str, *, next_episode: str) -> m.HelpNeed:
        self.tick(episode="", last_outcome=outcome)
        return self.tick(episode=next_episode)


@pytest.fixture
def robot() -> Watched:
    return Watched()


def test_doubt_over_tau_asks_after_half_a_second_and_not_for_one_odd_chunk(robot):
    robot.tick(HALF_SECOND - 1, doubt=2 * TAU)
    robot.tick(1, doubt=0.0)
    assert robot.said == []
    robot.tick(HALF_SECOND - 1, doubt=2 * TAU)
    assert robot.said == []
    need = robot.tick(1)
    assert need.reasons == ("doubt",)
    assert need.detail == "doubt 0.4 > τ 0.2"
    assert need.uncertainty == 0.3  # 0.4 / (0.4 + 4 · 0.2), rounded down to tenths
    assert robot.said == [need]
    assert need.number == need.since_wall_ns // 1000


def test_doubt_between_its_two_thresholds_neither_asks_nor_lets_go(robot):
    between = (LEAVE_DOUBT * TAU + TAU) / 2
    robot.tick(100, doubt=between)
    assert robot.said == []
    robot.tick(HALF_SECOND, doubt=2 * TAU)
    asked = robot.tick(100, doubt=between)
    assert asked.reasons == ("doubt",)
    over = robot.tick(HALF_SECOND, doubt=0.0)
    assert (over.reasons, over.ended, over.number) == ((), "recovered", asked.number)


def test_without_a_threshold_or_without_doubt_nothing_is_asked():
    for limits, doubt in [(replace_doubt(None), 1e3), (LIMITS, float("nan"))]:
        robot = Watched(limits)
        robot.tick(100, doubt=doubt)
        assert robot.said == []


def replace_doubt(doubt: float | None) -> HelpLimits:
    return HelpLimits(doubt=doubt, still_s=2.0, failures=2)


DROP = 0.2
FALLS = HelpLimits(value_drop=DROP, still_s=0)


def test_a_value_that_fell_asks_after_half_a_second_and_not_for_one_odd_value():
    robot = Watched(FALLS)
    robot.tick(20, value=-0.2)
    robot.tick(HALF_SECOND - 1, value=-0.6)
    robot.tick(1, value=-0.2)
    robot.tick(HALF_SECOND - 1, value=-0.6)
    assert robot.said == []
    need = robot.tick(1)
    assert need.reasons == ("value_drop",)
    assert need.detail == "value fell by 0.40 to -0.60"
    assert need.risk == 1.0
    assert robot.said == [need]


def test_a_slow_decline_is_no_fall_and_one_within_the_horizon_is():
    # 50 steps are RECAP's horizon: it falls by 0.18 within any of them, and by 0.9 in all.
    robot = Watched(FALLS)
    for tick in range(250):
        robot.tick(value=-0.0036 * tick)
    assert robot.said == []
    robot = Watched(FALLS)
    for tick in range(80):
        robot.tick(value=-0.0054 * tick)
    assert robot.watch.need.reasons == ("value_drop",)


def test_a_value_that_stays_down_asks_on_after_the_window_has_forgotten_what_was_before():
    robot = Watched(FALLS)
    robot.tick(20, value=-0.2)
    asked = robot.tick(HALF_SECOND, value=-0.5)
    # Neither threshold: more than half of the drop is not made good.
    assert robot.tick(200, value=-0.35).number == asked.number
    assert robot.watch.need.reasons == ("value_drop",)
    robot.tick(HALF_SECOND - 1, value=-0.25)
    assert robot.tick(1).ended == "recovered"
    # It does not flap: the same values do not ask again.
    robot.tick(100, value=-0.35)
    assert robot.watch.need.reasons == ()


@pytest.mark.parametrize(
    ("limits", "fields"),
    [
        (HelpLimits(still_s=0), {}),
        (FALLS, {"value": float("nan")}),
        (FALLS, {"purpose": "eval"}),
        (FALLS, {"standing": TAKEOVER}),
    ],
    ids=["no threshold", "no value that ranks", "an evaluation", "a person drives"],
)
def test_a_fall_asks_only_with_a_threshold_a_value_and_the_policy_acting(limits, fields):
    robot = Watched(limits)
    robot.tick(20, value=-0.1)
    robot.tick(60, **{"value": -0.9} | fields)
    assert robot.said == []


def test_a_fall_ends_with_its_episode_and_is_forgotten_when_a_person_helped():
    robot = Watched(FALLS)
    robot.tick(20, value=-0.1)
    robot.tick(HALF_SECOND, value=-0.5)
    assert robot.tick(1, episode="e2").ended == "over"
    robot.tick(20, value=-0.1)
    robot.tick(HALF_SECOND, value=-0.5)
    robot.tick(MIN_HUMAN_STEPS, standing=TAKEOVER)
    assert robot.tick(1, standing=AUTONOMOUS).ended == "helped"
    # What is low from there on did not fall there.
    robot.tick(100)
    assert robot.watch.need.reasons == ()


def test_a_state_that_stays_where_it_is_is_no_progress_until_it_moves(robot):
    ticks = round(LIMITS.still_s * SPEC.control_hz)
    robot.tick()
    robot.tick(ticks - 1, moves=False)
    assert robot.said == []
    need = robot.tick(1, moves=False)
    assert (need.reasons, need.risk) == (("no_progress",), 0.5)
    assert robot.tick(1).ended == "recovered"


def test_failures_in_a_row_of_one_task_ask_and_a_success_lets_go(robot):
    robot.tick()
    robot.end("t", next_episode="e2")
    assert robot.said == []
    robot.end("s", next_episode="e3")
    robot.end("f", next_episode="e4")
    assert robot.said == []
    need = robot.end("f", next_episode="e5")
    assert (need.reasons, need.detail) == (("repeated_failure",), "2 failures in a row")
    assert need.risk == 0.5
    assert robot.end("s", next_episode="e6").reasons == ()


def test_failures_of_different_tasks_and_evaluations_are_not_in_a_row(robot):
    robot.tick()
    robot.tick(episode="", last_outcome="f")
    robot.tick(episode="e2", task="push")
    robot.tick(episode="", last_outcome="f")
    robot.tick(episode="e3", task="reach", purpose="eval")
    robot.tick(episode="", last_outcome="f")
    robot.tick(episode="e4", purpose="train")
    assert robot.said == []


def test_actions_far_outside_the_limits_are_a_constraint_violation(robot):
    slightly = np.array([1.2, 0, 0])  # 0.2 over, of a range of 2: rounding of a policy
    robot.tick(100, proposal=slightly)
    assert robot.said == []
    need = robot.tick(HALF_SECOND, proposal=np.array([0, -1.6, 0]))
    assert (need.reasons, need.constraint) == (("limit",), True)
    assert robot.tick(HALF_SECOND, proposal=np.zeros(3)).reasons == ()


def test_a_fault_asks_as_long_as_the_robot_holds_because_of_it(robot):
    robot.tick()
    fault = Standing(Mode.HOLDING, fault=True, why="the policy's actions were not finite")
    robot.tick(standing=fault)
    need = robot.tick(episode="")
    assert (need.reasons, need.constraint) == (("limit",), True)
    assert need.detail == "the policy's actions were not finite"
    assert robot.tick(standing=AUTONOMOUS).reasons == ()


def test_an_operator_who_vanishes_is_a_new_need_until_somebody_comes(robot):
    robot.tick(HALF_SECOND, doubt=2 * TAU)
    first = robot.tick(standing=TAKEOVER)
    left = robot.tick(standing=ABANDONED)
    assert left.reasons == ("doubt", "operator_left")
    assert left.number > first.number
    assert left.since_wall_ns == first.since_wall_ns
    assert left.detail.endswith("ada lost the lease")
    assert "operator_left" not in robot.tick(standing=TAKEOVER).reasons


def test_a_robot_that_restarts_abandoned_asks_without_a_tick(robot):
    assert robot.watch.stand(ABANDONED).reasons == ("operator_left",)
    assert robot.watch.stand(AUTONOMOUS).ended == "recovered"


def test_a_person_must_stay_five_steps_to_have_helped(robot):
    robot.tick(HALF_SECOND, doubt=2 * TAU)
    robot.tick(MIN_HUMAN_STEPS - 1, standing=TAKEOVER)
    too_soon = robot.tick(1, standing=AUTONOMOUS)
    assert too_soon.reasons == ("doubt",)
    robot.tick(MIN_HUMAN_STEPS, standing=TAKEOVER)
    helped = robot.tick(1, standing=AUTONOMOUS)
    assert (helped.reasons, helped.ended) == ((), "helped")
    # The policy gets its full window before it is judged again.
    assert robot.tick(HALF_SECOND - 2).reasons == ()


def test_a_need_that_is_gone_under_a_persons_hand_releases_that_person(robot):
    robot.tick(HALF_SECOND, doubt=2 * TAU)
    robot.tick(MIN_HUMAN_STEPS - 1, standing=TAKEOVER, doubt=0.0)
    assert robot.tick(HALF_SECOND - 1).reasons == ("doubt",)
    assert robot.tick(1).ended == "helped"


def test_nothing_new_is_asked_while_a_person_has_the_robot(robot):
    held = Standing(Mode.HOLDING, why="ada asked to hold")
    for standing in (TAKEOVER, held, Standing(Mode.STOPPED)):
        robot.tick(100, moves=False, standing=standing, doubt=5.0, proposal=np.full(3, 9.0))
    assert robot.said == []


def test_an_evaluation_is_not_judged(robot):
    robot.tick(100, moves=False, purpose="eval", doubt=5.0, proposal=np.full(3, 9.0))
    assert robot.said == []


def test_what_is_about_an_episode_ends_with_it(robot):
    robot.tick(HALF_SECOND, doubt=2 * TAU)
    need = robot.tick(1, episode="", last_outcome="s")
    assert (need.reasons, need.ended) == ((), "over")


def test_a_stopped_robot_needs_no_help(robot):
    robot.tick(HALF_SECOND, doubt=2 * TAU)
    assert robot.tick(1, standing=Standing(Mode.STOPPED)).ended == "over"


def test_a_person_asks_on_a_page_or_at_the_robot_and_takes_it_back(robot):
    robot.watch.ask(m.AskForHelp(by="ada", reason="cable caught"))
    asked = robot.watch.need
    assert (asked.reasons, asked.detail, asked.risk) == (
        ("explicit",),
        "ada asks: cable caught",
        1.0,
    )
    # Asked again after it was skipped: another need.
    robot.watch.ask(m.AskForHelp(by="ada"))
    assert robot.watch.need.number > asked.number
    robot.watch.ask(m.AskForHelp(by="ada", wanted=False))
    assert robot.watch.need.ended == "recovered"
    assert robot.tick(2, pressed=True).detail == "asked for at the robot"
    assert len(robot.said) == 4


def test_figures_do_not_fall_while_the_need_lasts(robot):
    robot.tick(HALF_SECOND, doubt=2 * TAU)
    assert robot.tick(5, doubt=20 * TAU).uncertainty == 0.8
    assert robot.tick(5, doubt=1.1 * TAU).uncertainty == 0.8


@pytest.mark.parametrize(
    ("doubt", "expected"), [(0.0, 0.0), (float("nan"), 0.0), (TAU, 0.2), (4 * TAU, 0.5)]
)
def test_uncertainty_is_a_fifth_at_tau(doubt: float, expected: float):
    assert uncertainty_of(doubt, TAU) == pytest.approx(expected)


def test_priority_is_lexicographic_with_thresholds_and_waiting_time_last():
    # Fleet-DAgger (arXiv:2206.14349): constraint, uncertainty from 0.2, risk from 0.5.
    table = [
        ("constraint", {"constraint": True, "uncertainty": 0.0, "risk": 0.0, "at": 90}),
        ("most uncertain", {"uncertainty": 0.9, "risk": 0.0, "at": 80}),
        ("uncertain and at risk", {"uncertainty": 0.4, "risk": 0.6, "at": 70}),
        ("uncertain, risk below its threshold, first", {"uncertainty": 0.4, "risk": 0.4, "at": 10}),
        ("uncertain, no risk, later", {"uncertainty": 0.4, "risk": 0.0, "at": 60}),
        ("at risk", {"uncertainty": 0.1, "risk": 0.5, "at": 50}),
        ("below both, waits longest", {"uncertainty": 0.1, "risk": 0.4, "at": 20}),
        ("below both", {"uncertainty": 0.0, "risk": 0.0, "at": 30}),
    ]

    def key(row: tuple[str, dict[str, float]]) -> tuple[object, ...]:
        figures = {"constraint": False, **row[1]}
        return priority(raised_wall_ns=int(figures.pop("at")), **figures)

    assert sorted(table[5:] + table[:5], key=key) == table
