from dataclasses import dataclass

import msgspec
import pytest
from django.utils import timezone

from fleet.models import Robot
from fleet.protocol import codec
from fleet.protocol import messages as m
from fleet.protocol.control import Mode
from fleet.protocol.spec import PolicyRef, TaskSpec, Trial, TrialOrder
from fleet.services import events, robots
from fleet.services.trials import order_trials, repeat_orders, withdraw_orders
from tests.factories import make_robot, make_task
from tests.fleet.peers import SPEC

pytestmark = pytest.mark.django_db


@dataclass
class Told:
    """What robots were told, in order."""

    messages: list[tuple[str, m.Message]]

    def orders(self) -> list[tuple[str, str]]:
        """Return robot and evaluation of each assignment; empty for one without an order."""
        return [
            (name, message.order.evaluation if message.order else "")
            for name, message in self.messages
            if isinstance(message, m.Assignment)
        ]


@pytest.fixture
def told(monkeypatch) -> Told:
    found = Told([])

    def publish(channel, payload):
        name = channel.removeprefix("sop:commands:")
        found.messages.append((name, codec.decode_to_robot(payload)))

    monkeypatch.setattr(events, "publish", publish)
    return found


def order(evaluation: str = "job-1", *names: str) -> TrialOrder:
    task = TaskSpec(name="door", instruction="open the door")
    return TrialOrder(
        evaluation=evaluation,
        policy=PolicyRef(number=4, sha256="a" * 64, url="/w", size_bytes=7),
        trials=tuple(Trial(uid=name, task=task, seed=2**30) for name in names or ("t1",)),
    )


def hello(robot: Robot) -> m.Hello:
    return m.Hello(protocol=1, robot=robot.name, spec=SPEC, agent_version="1", t_wall_ns=0)


def test_an_ordered_robot_is_told_with_its_assignment_and_again_when_it_connects(
    told, django_capture_on_commit_callbacks
):
    make_task("door")
    robot = make_robot("arm-1")
    with django_capture_on_commit_callbacks(execute=True):
        assert order_trials(robot, order("job-1", "t1", "t2"))
    ((name, assignment),) = told.messages
    assert (name, assignment.order) == ("arm-1", order("job-1", "t1", "t2"))
    assert [task.name for task in assignment.tasks] == ["door"]
    # By any process, after any restart: the row knows.
    connected = robots.robot_connected(robot=robot.pk, hello=hello(robot))
    assert connected.assignment.order == order("job-1", "t1", "t2")


def test_a_robot_carries_out_one_evaluation_at_a_time(told, django_capture_on_commit_callbacks):
    robot = make_robot("arm-1")
    with django_capture_on_commit_callbacks(execute=True):
        assert order_trials(robot, order("job-1"))
        assert not order_trials(robot, order("job-2"))
        assert order_trials(robot, order("job-1", "t2"))
    robot.refresh_from_db()
    assert robots.assignment_of(robot).order == order("job-1", "t2")
    assert told.orders() == [("arm-1", "job-1"), ("arm-1", "job-1")]


def test_a_withdrawn_order_gives_the_robot_back_and_leaves_others_alone(
    told, django_capture_on_commit_callbacks
):
    one, two, other = (make_robot(f"arm-{i}") for i in range(3))
    for robot, evaluation in ((one, "job-1"), (two, "job-1"), (other, "job-2")):
        order_trials(robot, order(evaluation))
    told.messages.clear()
    with django_capture_on_commit_callbacks(execute=True):
        assert withdraw_orders("job-1", robots=[one, other]) == ["arm-0"]
    assert told.orders()[-1] == ("arm-0", "")
    with django_capture_on_commit_callbacks(execute=True):
        assert withdraw_orders("job-1") == ["arm-1"]
        assert withdraw_orders("job-1") == []
    other.refresh_from_db()
    assert other.order is not None


def test_lost_orders_and_lost_withdrawals_are_repeated(told, django_capture_on_commit_callbacks):
    ordered, left_behind = make_robot("arm-0"), make_robot("arm-1", evaluation="job-0")
    make_robot("arm-2")
    order_trials(ordered, order("job-1"))
    told.messages.clear()
    with django_capture_on_commit_callbacks(execute=True):
        repeat_orders()
    assert told.orders() == [("arm-0", "job-1"), (left_behind.name, "")]


def test_a_heartbeat_says_which_evaluation_a_robot_works_on():
    robot = make_robot("arm-1")
    heartbeat = m.Heartbeat(
        seq=1, t_mono_ns=1, t_wall_ns=1, mode=Mode.AUTONOMOUS, epoch=0, purpose="eval",
        policy=PolicyRef(number=4, sha256="a" * 64, url="/w", size_bytes=7), evaluation="job-1",
    )  # fmt: skip
    for said in ("job-1", ""):
        heard = robots.Heard(msgspec.structs.replace(heartbeat, evaluation=said), timezone.now())
        robots.store_heartbeats({"arm-1": heard})
        robot.refresh_from_db()
        assert (robot.evaluation, robot.reported_number) == (said, 4)
