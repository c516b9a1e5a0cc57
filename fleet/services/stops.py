"""The stop path: publish first, write later. It must work when the database does not."""

import logging
import uuid

import msgspec
from django.db import DatabaseError, transaction
from django.utils import timezone

from fleet.models import Operator, Robot
from fleet.protocol import messages as m
from fleet.protocol.control import Mode
from fleet.services import events

log = logging.getLogger(__name__)


def new_stop(by: str) -> m.Stop:
    """Return a stop with an id of its own."""
    return m.Stop(stop_id=uuid.uuid4().hex, by=by)


def request_stop(*, by: Operator, robots: tuple[str, ...] = (), every: bool = False) -> m.Stop:
    """Stop the robots, from outside a socket (the plain form, a script).

    Any operator may. True afterwards: every web process was told, and the rows say that the stop
    is due, so that a robot which is away is stopped when it connects. Called twice: two stops; a
    robot latches once.
    """
    stop = new_stop(by.name)
    request = events.StopRequest(stop=stop, robots=robots, every=every)
    events.publish(events.STOPS, msgspec.msgpack.encode(request))
    try:
        mark_stop(stop=stop, robots=None if every else robots)
    except DatabaseError:
        log.exception("stop %s is under way but not in the database", stop.stop_id)
    return stop


def mark_stop(*, stop: m.Stop, robots: tuple[str, ...] | None) -> None:
    """Note in the robots' rows that a stop is due; None is every robot.

    A robot that has acknowledged this stop already is left alone: its answer can be written first.
    """
    rows = Robot.objects.all() if robots is None else Robot.objects.filter(name__in=robots)
    rows.exclude(stop_acknowledged=stop.stop_id).update(
        stop_requested=stop.stop_id, stop_by=stop.by[:150], stop_requested_at=timezone.now()
    )


def stop_acknowledged(*, robot: str, stop_id: str) -> None:
    """Note that the robot latched this stop. A stop asked for since stays due."""
    with transaction.atomic():
        rows = Robot.objects.filter(name=robot)
        rows.update(stop_acknowledged=stop_id, mode=Mode.STOPPED)
        rows.filter(stop_requested=stop_id).update(
            stop_requested="", stop_by="", stop_requested_at=None
        )
