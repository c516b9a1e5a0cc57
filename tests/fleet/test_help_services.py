"""Requests for help through the database; claims run again on PostgreSQL."""

import time
from datetime import timedelta
from functools import partial

import msgspec
import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from fleet.exceptions import HelpTaken, NotAllowed
from fleet.models import FleetSettings, HelpRequest, LeaseEnd, Role
from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.help import HelpLimits
from fleet.selectors import help as queue
from fleet.services import events, help, robots, takeover
from tests.factories import Cast, make_fleet_settings, make_operator, make_robot
from tests.race import at_once

NONE = m.HelpNeed(number=0)


def need(number: int = 1, *reasons: str, **fields: object) -> m.HelpNeed:
    since_ns = time.time_ns() - 1_000_000_000
    return m.HelpNeed(
        **{"number": number, "reasons": reasons or ("doubt",), "since_wall_ns": since_ns, **fields}
    )


def over(number: int = 1, ended: m.HelpEnd = "recovered") -> m.HelpNeed:
    return m.HelpNeed(number=number, ended=ended)


@pytest.fixture
def arm(db: None) -> str:
    return make_robot("arm-01", last_heartbeat_at=timezone.now()).name


def store(robot: str, said: m.HelpNeed) -> b.HelpState:
    state = help.store_need(robot=robot, need=said)
    assert state is not None
    return state


def row() -> HelpRequest:
    return HelpRequest.objects.get()


# ---- what robots say ---------------------------------------------------------------------------


def test_a_need_becomes_one_request_however_often_it_is_said(arm: str):
    said = need(7, uncertainty=0.4)
    first = store(arm, said)
    assert store(arm, said) == first
    assert (first.status, first.number, first.uncertainty) == ("open", 7, 0.4)
    assert queue.queue() == [first]


def test_a_robot_that_needs_nothing_has_no_request(arm: str):
    assert help.store_need(robot=arm, need=NONE) is None
    assert help.store_need(robot="nobody", need=need()) is None
    assert not HelpRequest.objects.exists()


def test_a_new_reason_changes_the_request_and_not_its_waiting_time(arm: str):
    first = store(arm, need(1))
    second = store(arm, need(2, "doubt", "no_progress", risk=0.5))
    assert (second.number, second.reasons) == (2, ("doubt", "no_progress"))
    assert second.raised_wall_ns == first.raised_wall_ns
    assert second.revision > first.revision
    assert row().number == 2


def test_waiting_time_is_by_the_servers_clock_and_never_in_the_future(arm: str):
    an_hour_ns = 3600 * 10**9
    ahead = need(1, since_wall_ns=time.time_ns() + an_hour_ns)
    state = help.store_need(robot=arm, need=ahead, offset_ns=-an_hour_ns)
    assert state is not None
    assert 0 <= time.time_ns() - state.raised_wall_ns < 10 * 10**9
    store(arm, over(1))
    assert store(arm, msgspec.structs.replace(ahead, number=2)).raised_wall_ns <= time.time_ns()


@pytest.mark.parametrize(
    ("ended", "claimed", "status"),
    [
        ("helped", True, "resolved"),
        ("recovered", False, "resolved"),
        ("over", False, "expired"),
        ("over", True, "resolved"),
    ],
)
def test_a_request_ends_when_its_robot_needs_nothing(
    cast: Cast, arm: str, ended: m.HelpEnd, claimed: bool, status: str
):
    store(arm, need())
    if claimed:
        help.claim_help(robot=arm, by=cast.operator)
    state = store(arm, over(ended=ended))
    assert state.status == status
    assert row().closed_at is not None
    assert queue.queue() == []
    # Said again by the next heartbeat.
    assert store(arm, over(ended=ended)) == state


def test_a_skipped_need_is_not_raised_again_and_the_next_one_is(cast: Cast, arm: str):
    store(arm, need(1))
    help.skip_help(robot=arm, number=1, by=cast.operator, reason="the part is missing")
    assert store(arm, need(1, uncertainty=0.9)).status == "skipped"
    assert row().note == "skipped by operator: the part is missing"
    assert store(arm, need(2)).status == "open"


def test_a_request_is_open_again_when_whoever_drove_vanished(cast: Cast, arm: str):
    store(arm, need(1))
    help.drive_help(robot=arm, by=cast.operator)
    state = store(arm, need(2, "doubt", "operator_left"))
    assert (state.status, state.claimed_by, state.note) == ("open", "", "operator left")
    assert row().claimed_by is None


def test_an_unclaimed_holding_robot_raises_that_its_operator_left(arm: str):
    assert store(arm, need(3, "operator_left")).status == "open"


# ---- what people do ----------------------------------------------------------------------------


def test_a_claim_is_everybodys_to_see_and_may_be_repeated(cast: Cast, arm: str):
    store(arm, need())
    state = help.claim_help(robot=arm, by=cast.operator)
    assert (state.status, state.claimed_by, state.claimed_by_kind) == (
        "claimed",
        "operator",
        "human",
    )
    assert help.claim_help(robot=arm, by=cast.operator) == state
    with pytest.raises(HelpTaken, match="operator has the request of arm-01"):
        help.claim_help(robot=arm, by=cast.lead)


def test_what_does_not_wait_cannot_be_taken(cast: Cast, arm: str):
    with pytest.raises(HelpTaken, match="does not ask for help any more"):
        help.claim_help(robot=arm, by=cast.operator)
    store(arm, need(1))
    with pytest.raises(HelpTaken, match="look again"):
        help.skip_help(robot=arm, number=99, by=cast.operator, reason="x")
    assert row().status == "open"


@pytest.mark.parametrize("role", ["viewer", "labeller"])
def test_those_who_may_not_drive_may_not_answer(cast: Cast, arm: str, role: str):
    store(arm, need())
    by = getattr(cast, role)
    with pytest.raises(NotAllowed):
        help.claim_help(robot=arm, by=by)
    with pytest.raises(NotAllowed):
        help.skip_help(robot=arm, number=1, by=by, reason="x")
    with pytest.raises(NotAllowed):
        help.escalate_help(robot=arm, number=1, by=by)
    assert row().status == "open"


def test_an_escalated_request_is_for_leads(cast: Cast, arm: str):
    store(arm, need())
    help.claim_help(robot=arm, by=cast.operator)
    state = help.escalate_help(robot=arm, number=1, by=cast.operator, reason="needs hands")
    assert (state.status, state.claimed_by) == ("escalated", "")
    assert state.note == "escalated by operator: needs hands"
    with pytest.raises(HelpTaken, match="waits for a lead"):
        help.claim_help(robot=arm, by=cast.operator)
    with pytest.raises(HelpTaken, match="waits for a lead"):
        help.skip_help(robot=arm, number=1, by=cast.operator, reason="x")
    assert help.claim_help(robot=arm, by=cast.lead).claimed_by == "lead"


def test_a_lead_gives_a_request_to_an_operator_and_nobody_else_does(cast: Cast, arm: str):
    store(arm, need())
    with pytest.raises(NotAllowed):
        help.claim_help(robot=arm, by=cast.operator, operator="lead")
    with pytest.raises(NotAllowed, match="no operator viewer who may drive"):
        help.claim_help(robot=arm, by=cast.lead, operator="viewer")
    assert help.claim_help(robot=arm, by=cast.lead, operator="operator").claimed_by == "operator"


def test_whoever_drives_has_the_request(cast: Cast, arm: str):
    assert help.drive_help(robot=arm, by=cast.operator) is None
    store(arm, need())
    help.claim_help(robot=arm, by=cast.lead)
    answered_at = row().answered_at
    state = help.drive_help(robot=arm, by=cast.operator)
    assert state is not None
    assert state.claimed_by == "operator"
    assert row().answered_at == answered_at
    assert help.drive_help(robot=arm, by=cast.operator) is None


def test_everything_that_changes_is_published(
    cast: Cast, arm: str, monkeypatch, django_capture_on_commit_callbacks
):
    sent: list[b.HelpState] = []

    def note(channel: str, payload: bytes) -> None:
        assert channel == events.HELP
        sent.append(msgspec.json.decode(payload, type=b.HelpState))

    monkeypatch.setattr(events, "publish", note)
    with django_capture_on_commit_callbacks(execute=True):
        states = [
            store(arm, need()),
            help.claim_help(robot=arm, by=cast.operator),
            help.escalate_help(robot=arm, number=1, by=cast.operator),
            help.drive_help(robot=arm, by=cast.lead),
            store(arm, over(ended="helped")),
        ]
        store(arm, over(ended="helped"))
    # What was published last is what a fresh look says.
    assert sent == states
    assert [state.revision for state in sent] == sorted({state.revision for state in sent})
    assert queue.newest([arm]) == [sent[-1]]


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_many_who_claim_at_once_one_gets_the_request():
    robot = make_robot("arm-01").name
    store(robot, need())
    askers = [make_operator(role=Role.LEAD) for _ in range(8)]
    results = at_once(partial(help.claim_help, robot=robot, by=operator) for operator in askers)
    won = [state.claimed_by for state in results if not isinstance(state, HelpTaken)]
    assert len(won) == 1
    assert len(results) == len(askers)
    assert row().claimed_by.name == won[0]


# ---- what time does ----------------------------------------------------------------------------


def _age(**times: timedelta) -> None:
    HelpRequest.objects.update(**{name: timezone.now() - age for name, age in times.items()})


def test_a_claim_without_driving_lapses(cast: Cast, arm: str):
    store(arm, need())
    help.claim_help(robot=arm, by=cast.operator)
    assert help.sweep_help() == []
    _age(claimed_at=timedelta(seconds=help.CLAIM_S + 1))
    assert help.sweep_help() == [arm]
    state = queue.queue()[0]
    assert (state.status, state.claimed_by) == ("open", "")
    assert state.note == "operator took it and does not drive"


def test_a_claim_lasts_while_the_robot_is_driven_and_until_it_says_what_came_of_it(
    cast: Cast, arm: str
):
    store(arm, need())
    lease = takeover.grant_lease(robot=arm, operator=cast.operator)
    help.drive_help(robot=arm, by=cast.operator)
    _age(claimed_at=timedelta(minutes=5))
    assert help.sweep_help() == []
    takeover.end_lease(robot=arm, epoch=lease.epoch, how=LeaseEnd.HAND_BACK)
    assert help.sweep_help() == []
    leases = cast.operator.leases
    leases.update(ended_at=timezone.now() - timedelta(seconds=help.VERDICT_S + 1))
    assert help.sweep_help() == [arm]


def test_a_request_of_a_silent_robot_expires_and_comes_back_with_it(arm: str):
    first = store(arm, need())
    seen = timezone.now() - timedelta(seconds=help.EXPIRE_SILENT_S + 1)
    row().robot.__class__.objects.update(last_heartbeat_at=seen)
    assert help.sweep_help() == [arm]
    assert (row().status, row().note) == ("expired", "the robot is not connected")
    again = store(arm, need())
    assert (again.status, again.raised_wall_ns) == ("open", first.raised_wall_ns)
    assert HelpRequest.objects.count() == 1


# ---- rows and settings -------------------------------------------------------------------------


def test_the_database_itself_allows_one_request_a_robot_that_is_not_closed(arm: str):
    store(arm, need(1))
    robot, now = row().robot, timezone.now()
    fields = {"robot": robot, "revision": 1, "raised_at": now}
    for wrong in (
        {"number": 2},
        {"number": 1, "closed_at": now, "status": "resolved"},
        {"number": 2, "closed_at": now},
        {"number": 2, "closed_at": now, "status": "resolved", "risk": 1.5},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            HelpRequest.objects.create(**fields, **wrong)
    with pytest.raises(IntegrityError), transaction.atomic():
        HelpRequest.objects.update(status="claimed")


def test_the_queue_is_sorted_and_equals_wait_in_line(db: None):
    for number, fields in enumerate(
        [
            {"risk": 0.5},
            {"uncertainty": 0.3},
            {"uncertainty": 0.1, "since_wall_ns": 1},
            {"constraint": True},
            {"uncertainty": 0.7},
            {"uncertainty": 0.3, "since_wall_ns": time.time_ns() - 10**10},
        ]
    ):
        store(make_robot(f"arm-{number}").name, need(1, **fields))
    assert [state.robot[-1] for state in queue.queue()] == ["3", "4", "5", "1", "0", "2"]


def test_robots_are_told_from_where_on_to_ask(db: None):
    make_fleet_settings(
        help_doubt=0.28,
        help_still_s=2.0,
        help_failures=5,
        help_sla_s=45,
        help_value_drop=0.3,
        help_value_correlation=0.4,
    )
    told = robots.assignment_of(make_robot())
    assert told.help == HelpLimits(
        doubt=0.28, still_s=2.0, failures=5, value_drop=0.3, value_correlation=0.4
    )
    assert robots.fleet_state().help_sla_s == 45
    for wrong in ({"help_doubt": 0}, {"help_value_drop": 1.5}, {"help_value_correlation": -2}):
        with pytest.raises(IntegrityError), transaction.atomic():
            FleetSettings.objects.update(**wrong)
