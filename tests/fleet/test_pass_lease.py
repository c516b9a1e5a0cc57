import pytest

from fleet.exceptions import LeaseGone, NotAllowed, RobotBusy
from fleet.models import LeaseEnd, Robot, TakeoverLease
from fleet.services.takeover import end_lease, grant_lease, open_lease, pass_lease
from tests.factories import Cast, make_cast, make_robot

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast() -> Cast:
    return make_cast()


@pytest.fixture
def held(cast: Cast) -> Robot:
    robot = make_robot("arm-01")
    grant_lease(robot="arm-01", operator=cast.operator)
    return robot


def test_passing_ends_one_lease_and_opens_the_next(cast: Cast, held: Robot):
    lease = pass_lease(robot="arm-01", epoch=1, to="lead")
    assert (lease.epoch, lease.holder) == (2, "lead")
    assert open_lease(held) == lease
    first = TakeoverLease.objects.get(epoch=1)
    assert (first.how, first.ended_at is not None) == (LeaseEnd.PASSED, True)


def test_a_lease_passes_once(cast: Cast, held: Robot):
    pass_lease(robot="arm-01", epoch=1, to="lead")
    with pytest.raises(LeaseGone):
        pass_lease(robot="arm-01", epoch=1, to="admin")
    assert TakeoverLease.objects.filter(ended_at__isnull=True).count() == 1


@pytest.mark.parametrize(
    ("to", "refusal"), [("viewer", NotAllowed), ("nobody", NotAllowed), ("", NotAllowed)]
)
def test_it_passes_only_to_somebody_who_may_drive(cast: Cast, held: Robot, to: str, refusal):
    with pytest.raises(refusal):
        pass_lease(robot="arm-01", epoch=1, to=to)
    lease = open_lease(held)
    assert lease is not None
    assert lease.epoch == 1


def test_a_lease_that_ended_or_a_robot_that_is_stopped_passes_to_nobody(cast: Cast, held: Robot):
    Robot.objects.filter(pk=held.pk).update(stop_requested="stop-1")
    with pytest.raises(RobotBusy):
        pass_lease(robot="arm-01", epoch=1, to="lead")
    # The refusal undid the end of the first lease as well.
    assert open_lease(held) is not None
    end_lease(robot="arm-01", epoch=1, how=LeaseEnd.LOST)
    with pytest.raises(LeaseGone):
        pass_lease(robot="arm-01", epoch=1, to="lead")
    with pytest.raises(LeaseGone):
        pass_lease(robot="arm-99", epoch=1, to="lead")
