"""Orders: which trials robots run before anything else. `learning` decides, nothing here knows why.

A robot carries out one order at a time. The order is a value in its row, so that it survives every
process, and part of its assignment, so that a robot that connects anew is told again.
"""

from collections.abc import Iterable

import msgspec
from django.db import transaction

from fleet.models import Robot
from fleet.protocol.spec import TrialOrder
from fleet.services.robots import announce_assignments


def order_trials(robot: Robot, order: TrialOrder) -> bool:
    """Give a robot the trials it is to run; False when it has an order of another evaluation.

    True afterwards: its row holds `order` in place of an earlier one of the same evaluation, and it
    is told when the transaction commits. Called twice, it tells twice and changes nothing more.
    Claims the robot by a conditional update, so that of two evaluations one gets it.
    """
    with transaction.atomic():
        mine = Robot.objects.filter(pk=robot.pk, order__evaluation=order.evaluation)
        free = Robot.objects.filter(pk=robot.pk, order__isnull=True)
        value = msgspec.to_builtins(order)
        if not (free.update(order=value) or mine.update(order=value)):
            return False
        robot.refresh_from_db()
        announce_assignments([robot])
    return True


def withdraw_orders(evaluation: str, *, robots: Iterable[Robot] | None = None) -> list[str]:
    """Take the orders of an evaluation back from `robots`, or from all; return their names.

    The trial under way ends at the robot's next tick, and the robot goes on with the fleet's
    version. Robots that have another order, or none, are left alone.
    """
    with transaction.atomic():
        rows = Robot.objects.filter(order__evaluation=evaluation)
        if robots is not None:
            rows = rows.filter(pk__in=[robot.pk for robot in robots])
        found = list(rows.select_for_update().order_by("pk"))
        Robot.objects.filter(pk__in=[robot.pk for robot in found]).update(order=None)
        for robot in found:
            robot.order = None
        announce_assignments(found)
    return [robot.name for robot in found]


def repeat_orders() -> None:
    """Tell every robot again whose order may not have reached it, or whose withdrawal may not have.

    Announcements are lost with the broker; a robot ignores an assignment it has.
    """
    with transaction.atomic():
        ordered = Robot.objects.filter(enabled=True, order__isnull=False)
        left_behind = Robot.objects.filter(enabled=True, order__isnull=True).exclude(evaluation="")
        announce_assignments([*ordered, *left_behind])
