import dataclasses

import pytest

from fleet.protocol.control import ControlLabel
from fleet.protocol.episode import open_part, sha256_of
from learning.core.sampler import AdaptiveSampler
from learning.experiments.virtual.fleet import VirtualFleet
from learning.experiments.virtual.learner import PartStore, VirtualLearner
from learning.experiments.virtual.rates import Rates
from learning.experiments.virtual.timeline import Timeline, VirtualClock
from tests.experiments.making import (
    TASK,
    RailDriver,
    rail_base,
    rail_expert,
    write_demonstrations,
)

RATES = Rates(updates_per_s=4, publish_steps=4, publish_every_s=2, reset_s=1.0, upload_s=0.5)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    return write_demonstrations(tmp_path_factory.mktemp("shown"))


@pytest.fixture
def make_fleet(tmp_path, shown):
    made = []

    def make(*, robots=2, operators=1, seed=0, rates=RATES, **options):
        folder = tmp_path / f"run-{len(made)}"
        folder.mkdir()
        base = rail_base()
        learner = VirtualLearner(
            base,
            shown,
            algorithm="hg_dagger",
            options={"learning_rate": 3e-3, "autonomous_successes": True},
            sampler=AdaptiveSampler(normalise=True),
            batch_size=16,
            seed=seed,
            store=PartStore(folder / "parts"),
        )
        closed = []
        fleet = VirtualFleet(
            drivers=[RailDriver() for _ in range(robots)],
            tasks=(TASK,),
            learner=learner,
            rates=rates,
            operators=operators,
            seed=seed,
            scratch=folder,
            expert=rail_expert,
            **options,
        )
        index = learner.index
        learner.index = lambda manifest, parts: (
            closed.append((fleet.timeline.now_s, manifest, parts)),
            index(manifest, parts),
        )
        fleet.closed = closed
        made.append(fleet.__enter__())
        fleet.announce_base(base, sha256_of(base))
        return fleet

    yield make
    for fleet in made:
        fleet.__exit__(None, None, None)


def test_events_happen_in_the_order_of_their_time_and_then_of_their_planning():
    timeline, seen = Timeline(VirtualClock()), []
    timeline.after(2.0, lambda: seen.append("late"))
    timeline.after(1.0, lambda: seen.append("first"))
    timeline.after(1.0, lambda: seen.append("second"))
    timeline.every(0.4, lambda: seen.append(round(timeline.now_s, 1)))
    timeline.run_until(1_500_000_000)
    assert seen == [0.0, 0.4, 0.8, "first", "second", 1.2]
    assert timeline.now_s == 1.5


def test_an_event_planned_in_the_past_happens_now_and_time_never_goes_back():
    timeline, seen = Timeline(VirtualClock()), []
    timeline.after(1.0, lambda: timeline.at(0, lambda: seen.append(timeline.now_s)))
    timeline.run_until(2_000_000_000)
    assert seen == [1.0]


def test_a_fleet_learns_from_corrections_and_runs_what_it_learned(make_fleet):
    fleet = make_fleet(robots=2, operators=2)
    fleet.run(80)
    outcomes = [manifest.outcome for _, manifest, _ in fleet.closed]
    alone = [not manifest.interventions for _, manifest, _ in fleet.closed]
    tally = fleet.measure()
    assert tally.takeovers > 0
    assert not any(alone[:2])
    assert all(alone[-4:])
    assert outcomes[-4:] == ["success"] * 4
    assert fleet.robots[0].policies.active.ref.number > 10


def test_rates_are_kept(make_fleet):
    fleet = make_fleet(robots=2, operators=1)
    tally = fleet.run(30)
    assert tally.steps == 30 * RATES.updates_per_s
    assert tally.versions == pytest.approx(30 / RATES.publish_every_s, abs=2)
    for closed_s, manifest, _ in fleet.closed:
        started_s = (manifest.header.started_wall_ns - fleet.timeline.clock.wall_ns()) * 1e-9 + 30
        executed_s = manifest.steps * manifest.control_period_s
        assert closed_s - started_s == pytest.approx(executed_s + RATES.upload_s, abs=0.15)


def test_a_robot_rests_for_the_reset_and_no_physics_is_played_meanwhile(make_fleet):
    fleet = make_fleet(robots=1, operators=1, rates=dataclasses.replace(RATES, reset_s=10.0))
    tally = fleet.run(50)
    starts = [manifest.header.started_wall_ns for _, manifest, _ in fleet.closed]
    ends = [manifest.ended_wall_ns for _, manifest, _ in fleet.closed]
    rests = [(start - end) * 1e-9 for end, start in zip(ends, starts[1:], strict=False)]
    assert rests
    assert all(10.0 <= rest <= 10.2 for rest in rests)
    played = fleet.robots[0].runtime._driver.ticks
    assert played <= tally.robot_s * 20 + 5 * (len(starts) + 1)


def test_one_policy_version_acts_in_each_episode(make_fleet):
    fleet = make_fleet(robots=2, operators=1)
    fleet.run(30)
    used = set()
    for _, manifest, parts in fleet.closed:
        numbers = {n for data in parts for n in open_part(data).array("policy_number").tolist()}
        assert numbers == {manifest.header.policy_number}
        used |= numbers
    assert len(used) > 3


def test_an_operator_drives_one_robot_at_a_time(make_fleet):
    fleet = make_fleet(robots=3, operators=1)
    fleet.run(25)
    held = []
    for _, manifest, parts in fleet.closed:
        columns = [open_part(data) for data in parts]
        for part in columns:
            wall, mode = part.array("t_wall_ns"), part.array("control_mode")
            held += [(t // 50_000_000, manifest.header.robot) for t in wall[mode == 1].tolist()]
    robots_at = {}
    for period, robot in held:
        robots_at.setdefault(period, set()).add(robot)
    assert held
    assert max(len(robots) for robots in robots_at.values()) == 1
    assert fleet.measure().held_s <= 25


def test_operators_stop_when_their_time_is_used_up(make_fleet):
    fleet = make_fleet(robots=2, operators=2, human_budget_s=4.0)
    fleet.learning = False
    tally = fleet.run(30)
    assert 4.0 <= tally.held_s < 4.5
    assert tally.unmet_s > 0
    modes = [
        m for *_, parts in fleet.closed[-2:] for m in open_part(parts[0]).array("control_mode")
    ]
    assert ControlLabel.HUMAN not in modes


def test_the_same_seed_gives_the_same_run_and_another_seed_another(make_fleet):
    runs = []
    for seed in (3, 3, 4):
        fleet = make_fleet(robots=2, operators=1, seed=seed)
        tally = fleet.run(15)
        runs.append(
            (tally, fleet.version.ref.sha256, [m.header.episode for _, m, _ in fleet.closed])
        )
    assert runs[0] == runs[1]
    assert runs[2][1:] != runs[0][1:]


def test_robots_of_all_runs_have_layouts_of_their_own(make_fleet):
    seeds = []
    for seed in (0, 1):
        fleet = make_fleet(robots=2, operators=0, seed=seed)
        fleet.learning = False
        fleet.run(15)
        seeds += [s for robot in fleet.robots for s in robot.runtime._driver.seeds]
    assert len(seeds) == len(set(seeds))


def test_a_learner_that_rests_publishes_nothing_until_the_round_trains_it(make_fleet):
    fleet = make_fleet(robots=2, operators=1)
    fleet.learning = False
    assert fleet.run(10).steps == 0
    fleet.train(10)
    fleet.publish(broadcast_s=0.0)
    tally = fleet.run(10)
    assert (tally.steps, tally.versions) == (10, 1)
    assert {robot.policies.active.ref.number for robot in fleet.robots} == {1}


def test_broken_weights_reach_no_robot(make_fleet):
    fleet = make_fleet(robots=1, operators=1)
    fleet.run(10)
    before = fleet.robots[0].policies.active.ref.number
    fleet.learning = False
    for parameter in fleet.learner.learner.policy.parameters():
        parameter.data.fill_(float("nan"))
    assert fleet.publish() is None
    tally = fleet.run(10)
    assert tally.rejected == 1
    assert fleet.robots[0].policies.active.ref.number >= before
    assert fleet.robots[0].policies.active.ref.number == fleet.version.ref.number
