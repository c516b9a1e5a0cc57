"""Services through the database; what needs locks runs again on PostgreSQL."""

import time
from datetime import timedelta
from functools import partial

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from fleet.exceptions import LeaseGone, NotAllowed, RobotBusy, RobotUnknown
from fleet.models import FleetSettings, LeaseEnd, Robot, Role, TakeoverLease, Task
from fleet.models.tokens import hash_token
from fleet.protocol import messages as m
from fleet.protocol.control import LEASE_TTL_S, Mode
from fleet.protocol.spec import ValueRef
from fleet.selectors.access import (
    access_operator,
    access_operator_by_token,
    access_robot,
    access_robot_by_token,
)
from fleet.services import events, operators, policies, robots, takeover
from tests.factories import Cast, make_operator, make_robot, make_task
from tests.fleet.peers import SPEC, policy
from tests.race import at_once


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """What services published, in order."""
    sent: list[tuple[str, bytes]] = []
    monkeypatch.setattr(events, "publish", lambda channel, payload: sent.append((channel, payload)))
    return sent


def grant(cast: Cast, robot: Robot, **fields: object):
    return takeover.grant_lease(robot=robot.name, operator=cast.operator, **fields)


# ---- leases --------------------------------------------------------------------------------------


def test_epochs_of_a_robot_only_grow(cast: Cast):
    robot = make_robot()
    for epoch in (1, 2, 3):
        assert grant(cast, robot).epoch == epoch
        takeover.end_lease(robot=robot.name, epoch=epoch, how=LeaseEnd.HAND_BACK)


def test_epochs_of_different_robots_are_their_own(cast: Cast):
    assert [grant(cast, make_robot()).epoch for _ in range(3)] == [1, 1, 1]


def test_a_held_robot_is_refused_also_to_its_holder(cast: Cast):
    robot = make_robot()
    grant(cast, robot)
    with pytest.raises(RobotBusy, match="held by operator"):
        grant(cast, robot)
    with pytest.raises(RobotBusy, match="held by operator"):
        takeover.grant_lease(robot=robot.name, operator=cast.lead)
    assert TakeoverLease.objects.count() == 1


def test_an_overdue_lease_gives_way(cast: Cast):
    robot = make_robot()
    grant(cast, robot)
    _make_overdue()
    assert takeover.grant_lease(robot=robot.name, operator=cast.lead).epoch == 2
    first = TakeoverLease.objects.get(epoch=1)
    assert first.how == LeaseEnd.EXPIRED


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"purpose": "eval"}, "evaluation"),
        ({"mode": "stopped"}, "stopped"),
        ({"stop_requested": "x"}, "stopped"),
    ],
)
def test_a_robot_that_evaluates_or_is_stopped_is_not_granted(cast: Cast, fields, reason: str):
    robot = make_robot(**fields)
    with pytest.raises(RobotBusy, match=reason):
        grant(cast, robot)
    assert not TakeoverLease.objects.exists()


def test_what_the_live_link_knows_outranks_the_row(cast: Cast):
    robot = make_robot(purpose="eval", mode="stopped")
    assert grant(cast, robot, purpose="train", mode="autonomous").epoch == 1


def test_an_unknown_or_disabled_robot_is_refused(cast: Cast):
    with pytest.raises(RobotUnknown):
        takeover.grant_lease(robot="nobody", operator=cast.operator)
    with pytest.raises(RobotUnknown):
        grant(cast, make_robot(enabled=False))


@pytest.mark.parametrize("role", ["viewer", "labeller"])
def test_a_role_below_operator_gets_no_lease(cast: Cast, role: str):
    with pytest.raises(NotAllowed):
        takeover.grant_lease(robot=make_robot().name, operator=getattr(cast, role))


def test_the_first_end_of_a_lease_counts(cast: Cast):
    robot = make_robot()
    grant(cast, robot)
    assert takeover.end_lease(robot=robot.name, epoch=1, how=LeaseEnd.HAND_BACK)
    assert not takeover.end_lease(robot=robot.name, epoch=1, how=LeaseEnd.LOST)
    assert TakeoverLease.objects.get().how == LeaseEnd.HAND_BACK


def test_renewing_moves_the_expiry_and_an_ended_lease_cannot_be_renewed(cast: Cast):
    robot = make_robot()
    grant(cast, robot)
    TakeoverLease.objects.update(expires_at=timezone.now() + timedelta(seconds=0.5))
    takeover.renew_lease(robot=robot.name, epoch=1)
    left = TakeoverLease.objects.get().expires_at - timezone.now()
    assert LEASE_TTL_S - 1 < left.total_seconds() <= LEASE_TTL_S
    takeover.end_lease(robot=robot.name, epoch=1, how=LeaseEnd.LOST)
    with pytest.raises(LeaseGone):
        takeover.renew_lease(robot=robot.name, epoch=1)


def _make_overdue() -> None:
    past = timezone.now() - timedelta(minutes=1)
    TakeoverLease.objects.update(granted_at=past, expires_at=past + timedelta(seconds=5))


def test_the_sweep_ends_overdue_leases_and_tells_their_robots(
    cast: Cast, published, django_capture_on_commit_callbacks
):
    robot = make_robot()
    grant(cast, robot)
    with django_capture_on_commit_callbacks(execute=True):
        assert takeover.end_expired_leases() == []
    _make_overdue()
    with django_capture_on_commit_callbacks(execute=True):
        assert takeover.end_expired_leases() == [(robot.name, 1)]
    assert takeover.end_expired_leases() == []
    ((channel, payload),) = published
    assert channel == events.commands_of(robot.name)
    assert b"LeaseEnded" in payload
    assert TakeoverLease.objects.get().how == LeaseEnd.EXPIRED


def test_only_a_lead_revokes(cast: Cast, published, django_capture_on_commit_callbacks):
    robot = make_robot()
    grant(cast, robot)
    with pytest.raises(NotAllowed):
        takeover.revoke_lease(robot=robot.name, by=cast.operator)
    with django_capture_on_commit_callbacks(execute=True):
        assert takeover.revoke_lease(robot=robot.name, by=cast.lead)
    assert len(published) == 1
    assert not takeover.revoke_lease(robot=robot.name, by=cast.lead)


def test_the_database_itself_allows_one_open_lease_a_robot(cast: Cast):
    robot = make_robot()
    grant(cast, robot)
    now = timezone.now()
    fields = {
        "robot": robot,
        "operator": cast.lead,
        "granted_at": now,
        "expires_at": now + timedelta(seconds=1),
    }
    with pytest.raises(IntegrityError), transaction.atomic():
        TakeoverLease.objects.create(epoch=2, **fields)
    with pytest.raises(IntegrityError), transaction.atomic():
        TakeoverLease.objects.create(epoch=1, ended_at=now, how=LeaseEnd.LOST, **fields)
    with pytest.raises(IntegrityError), transaction.atomic():
        TakeoverLease.objects.create(epoch=3, ended_at=now, **fields)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_many_who_ask_at_once_one_gets_the_robot():
    robot = make_robot()
    askers = [make_operator() for _ in range(8)]
    results = at_once(
        partial(takeover.grant_lease, robot=robot.name, operator=operator) for operator in askers
    )
    leases = [lease for lease in results if not isinstance(lease, RobotBusy)]
    assert [lease.epoch for lease in leases] == [1]
    assert len(results) == len(askers)
    assert TakeoverLease.objects.filter(ended_at=None).count() == 1


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_many_who_end_a_lease_at_once_one_ends_it():
    robot = make_robot()
    epoch = takeover.grant_lease(robot=robot.name, operator=make_operator()).epoch
    end = partial(takeover.end_lease, robot=robot.name, epoch=epoch, how=LeaseEnd.HAND_BACK)
    ended = at_once([end] * 8)
    assert sorted(ended) == [False] * 7 + [True]


# ---- assigning policies --------------------------------------------------------------------------


def test_a_version_is_assigned_to_every_enabled_robot_and_published_once(
    db, published, django_capture_on_commit_callbacks
):
    names = sorted(make_robot().name for _ in range(3))
    make_robot(enabled=False)
    with django_capture_on_commit_callbacks(execute=True):
        assert sorted(policies.assign_policy(policy(5), weights=b"abc")) == names
    ((channel, payload),) = published
    assert channel == events.POLICIES
    message = events.msgspec.msgpack.decode(payload, type=events.PolicyForRobots)
    assert sorted(message.robots) == names
    assert message.announcement.weights == b"abc"
    assert all(robot.assigned == policy(5) for robot in Robot.objects.filter(enabled=True))


def test_large_weights_are_announced_without_their_bytes(
    db, published, django_capture_on_commit_callbacks
):
    make_robot()
    with django_capture_on_commit_callbacks(execute=True):
        policies.assign_policy(policy(5), weights=bytes(m.MAX_INLINE_WEIGHTS_BYTES + 1))
    assert len(published[0][1]) < 1000


def test_nothing_is_published_when_the_transaction_rolls_back(db, published):
    make_robot()
    with transaction.atomic():
        policies.assign_policy(policy(5))
        transaction.set_rollback(True)
    assert published == []
    assert Robot.objects.get().assigned is None


def test_a_late_older_version_does_not_replace_a_newer_one(db, published):
    robot = make_robot()
    policies.assign_policy(policy(5))
    assert policies.assign_policy(policy(4)) == []
    robot.refresh_from_db()
    assert robot.assigned_number == 5
    assert policies.assign_policy(policy(4), even_if_older=True) == [robot.name]


def test_only_the_named_robots_are_assigned(db, published):
    one, other = make_robot(), make_robot()
    policies.assign_policy(policy(5), robots=[one.name])
    other.refresh_from_db()
    assert other.assigned is None


def test_a_pinned_robot_is_told_its_version_and_passed_by_until_it_is_unpinned(
    db, published, django_capture_on_commit_callbacks
):
    one, other = make_robot(), make_robot(enabled=False)
    policies.assign_policy(policy(5), robots=[one.name])
    with django_capture_on_commit_callbacks(execute=True):
        told = policies.pin_robots([one.name, "nobody"], ref=policy(3), by="lead", reason="demo")
    message = events.msgspec.msgpack.decode(published[0][1], type=events.PolicyForRobots)
    assert len(published) == 1
    assert (told, message.robots, message.announcement.policy) == (
        [one.name], (one.name,), policy(3),
    )  # fmt: skip
    assert policies.assign_policy(policy(6), even_if_older=True) == []
    one.refresh_from_db()
    assert (one.assigned_number, one.pinned_by, one.pin_reason) == (3, "lead", "demo")
    assert policies.unpin_robots([one.name, other.name]) == [one.name]
    assert policies.unpin_robots([one.name]) == []
    assert policies.assign_policy(policy(6)) == [one.name]


def test_a_robot_is_announced_only_what_it_does_not_run(db):
    robot = make_robot()
    assert policies.policy_announcement_for(robot) is None
    policies.assign_policy(policy(5))
    robot.refresh_from_db()
    assert policies.policy_announcement_for(robot) == m.PolicyAnnouncement(policy=policy(5))
    robot.reported_sha256 = policy(5).sha256
    assert policies.policy_announcement_for(robot) is None


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_publishers_at_once_the_highest_number_stays():
    make_robot()
    results = at_once(partial(policies.assign_policy, policy(n)) for n in range(1, 9))
    assert not [came for came in results if isinstance(came, Exception)]
    assert Robot.objects.get().assigned_number == 8


# ---- robots, tasks, tokens -----------------------------------------------------------------------


def test_a_token_is_shown_once_and_stored_hashed(db):
    robot, token = robots.register_robot(name="arm-07")
    assert token is not None
    assert token not in str(vars(robot))
    assert access_robot_by_token(token) == robot
    assert robots.register_robot(name="arm-07") == (robot, None)
    newer = robots.issue_token(robot)
    with pytest.raises(RobotUnknown):
        access_robot_by_token(token)
    assert access_robot_by_token(newer) == robot


def test_a_script_keeps_its_token_when_asked_to(db):
    token = operators.register_script(name="script-1")
    assert access_operator_by_token(token).name == "script-1"
    assert operators.register_script(name="script-1", keep=True) is None
    again = operators.register_script(name="script-1")
    with pytest.raises(NotAllowed):
        access_operator_by_token(token)
    assert access_operator_by_token(again).scripted


def test_an_empty_token_is_nobodys(db):
    make_robot()
    make_operator()
    for token in ("", "x"):
        with pytest.raises(RobotUnknown):
            access_robot_by_token(token)
        with pytest.raises(NotAllowed):
            access_operator_by_token(token)


def test_people_have_no_token(cast: Cast):
    cast.operator.token_hash = hash_token("x")
    with pytest.raises(IntegrityError), transaction.atomic():
        cast.operator.save()


def test_roles_are_ordered(cast: Cast):
    order = [cast.viewer, cast.labeller, cast.operator, cast.lead, cast.admin]
    for rank, operator in enumerate(order):
        assert [operator.may(role) for role in Role] == [i <= rank for i in range(5)]


def test_an_account_that_is_inactive_or_no_operator_gets_nowhere(cast: Cast):
    robot = make_robot()
    assert access_robot(cast.viewer.user, robot.name) == robot
    with pytest.raises(NotAllowed):
        access_robot(cast.outsider, robot.name)
    with pytest.raises(NotAllowed):
        access_robot(cast.viewer.user, robot.name, Role.OPERATOR)
    with pytest.raises(RobotUnknown):
        access_robot(cast.viewer.user, "nobody")
    cast.viewer.user.is_active = False
    with pytest.raises(NotAllowed):
        access_operator(cast.viewer.user)


def test_a_robot_is_assigned_its_own_tasks_or_all_enabled_ones(db):
    robot = make_robot()
    a, _ = make_task("a"), make_task("b")
    make_task("c", enabled=False)
    assert [t.name for t in robots.assignment_of(robot).tasks] == ["a", "b"]
    robot.tasks.add(a)
    assert [t.name for t in robots.assignment_of(robot).tasks] == ["a"]


def test_robots_train_on_layouts_of_their_own(db):
    seeds = [robots.assignment_of(make_robot()).train_seed for _ in range(4)]
    assert len(set(seeds)) == 4
    assert min(b - a for a, b in zip(sorted(seeds), sorted(seeds)[1:], strict=False)) >= 100_000


def test_pausing_a_robot_or_the_fleet_tells_those_concerned(
    db, published, django_capture_on_commit_callbacks
):
    one, other = make_robot(), make_robot()
    with django_capture_on_commit_callbacks(execute=True):
        robots.pause_robot(one, paused=True)
    assert [channel for channel, _ in published] == [events.commands_of(one.name)]
    assert robots.assignment_of(one).paused
    assert not robots.assignment_of(other).paused
    published.clear()
    with django_capture_on_commit_callbacks(execute=True):
        robots.change_settings(paused=True)
    assert events.commands_of(other.name) in [channel for channel, _ in published]
    assert robots.assignment_of(other).paused


def test_a_value_function_is_told_to_every_robot_and_again_to_one_that_missed_it(
    db, published, django_capture_on_commit_callbacks
):
    one, other, old = (make_robot() for _ in range(3))
    ref = ValueRef(number=2, sha256="c" * 64, url="/v", size_bytes=9, correlation=0.7)
    with django_capture_on_commit_callbacks(execute=True):
        assert robots.assign_value(ref)
    assert len(published) == 3
    assert robots.assignment_of(one).value == ref

    def heard(status: m.ValueStatus | None) -> robots.Heard:
        said = m.Heartbeat(
            seq=1, t_mono_ns=1, t_wall_ns=1, mode=Mode.AUTONOMOUS, epoch=0, policy=None,
            value=status,
        )  # fmt: skip
        return robots.Heard(said, timezone.now())

    def repeated() -> list[str]:
        published.clear()
        with django_capture_on_commit_callbacks(execute=True):
            robots.store_heartbeats(
                {
                    one.name: heard(m.ValueStatus(told=ref.sha256)),
                    other.name: heard(m.ValueStatus()),
                    # An agent that knows of no value functions is not told again and again.
                    old.name: heard(None),
                }
            )
        return [channel for channel, _ in published]

    assert repeated() == [events.commands_of(other.name)]
    with django_capture_on_commit_callbacks(execute=True):
        assert not robots.assign_value(ref)
        robots.change_settings(values_on_robots=False)
    assert robots.assignment_of(one).value is None
    assert repeated() == [events.commands_of(one.name)]


def test_settings_out_of_range_are_refused(db):
    from django.core.exceptions import ValidationError

    with pytest.raises(ValidationError):
        robots.change_settings(evaluate_every=5000)
    with pytest.raises(IntegrityError), transaction.atomic():
        FleetSettings.objects.create(pk=2)


def test_a_task_is_told_as_it_is_stored(db):
    task = make_task("reach", paraphrases=["go there"], timeout_ticks=30, layout_high=0.5)
    spec = Task.objects.get(pk=task.pk).spec()
    assert (spec.name, spec.paraphrases, spec.timeout_ticks) == ("reach", ("go there",), 30)
    assert (spec.layout_low, spec.layout_high) == (0.0, 0.5)


def test_a_robot_with_a_broken_clock_is_stored_all_the_same(db):
    robot = make_robot()
    report = m.PolicyReport(number=1, sha256=policy(1).sha256, status="applied", t_wall_ns=2**62)
    assert robots.store_policy_report(robot=robot.name, report=report, offset_ns=2**62)
    assert not robots.store_policy_report(robot=robot.name, report=report, offset_ns=0)


def test_a_hello_of_a_disabled_robot_is_refused(db):
    robot = make_robot(enabled=False)
    hello = m.Hello(
        protocol=1, robot=robot.name, spec=SPEC, agent_version="", t_wall_ns=time.time_ns()
    )
    with pytest.raises(RobotUnknown):
        robots.robot_connected(robot=robot.pk, hello=hello)
