"""Stops under way: sent at once, repeated until the robot says that it latched."""

import logging
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from django.db import DatabaseError

from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.control import Mode
from fleet.services import events, stops
from fleet.services.live.threads import in_thread

if TYPE_CHECKING:
    from fleet.services.live.hub import Hub

log = logging.getLogger(__name__)

REPEAT_S = 0.2


@dataclass(slots=True)
class _Pending:
    stop: m.Stop
    sent: float


class PendingStops:
    """The stops this process knows of. No step before the send awaits anything."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._pending: dict[str, _Pending] = {}
        # Stops applied here: the copy that comes back through Redis is not a new one.
        self._applied: deque[str] = deque(maxlen=1000)

    def pending(self, robot: str) -> m.Stop | None:
        """Return the stop the robot has not acknowledged, or None."""
        entry = self._pending.get(robot)
        return entry.stop if entry else None

    def request(self, *, by: str, robots: tuple[str, ...] = (), every: bool = False) -> m.Stop:
        """Stop robots for an operator of this process; rows are written afterwards."""
        stop = stops.new_stop(by)
        request = events.StopRequest(stop=stop, robots=robots, every=every)
        self.apply(request)
        self._hub.bus.publish_command(events.STOPS, msgspec.msgpack.encode(request))
        log.warning("stop %s by %s: %s", stop.stop_id, by, "every robot" if every else robots)
        names = None if every else robots
        self._write(in_thread(stops.mark_stop, stop=stop, robots=names))
        return stop

    def apply(self, request: events.StopRequest) -> None:
        """Send a stop to the robots it is for; those that are away get it when they connect."""
        if request.stop.stop_id in self._applied:
            return
        self._applied.append(request.stop.stop_id)
        names = request.robots
        if request.every:
            names = tuple({*self._hub.states.names(), *self._hub.links})
        for robot in names:
            if robot in self._hub.states or robot in self._hub.links:
                self._stop(robot, request.stop)

    def _stop(self, robot: str, stop: m.Stop) -> None:
        self._pending[robot] = _Pending(stop, self._hub.monotonic())
        self._send(robot, stop)
        self._hub.takeovers.stopped(robot)
        self._hub.states.change(robot, stop_pending=True)

    def _send(self, robot: str, stop: m.Stop) -> None:
        # Only to sockets here: every process heard of the stop and does the same.
        if robot in self._hub.links:
            self._hub.command(robot, stop, first=True)

    def repeat(self) -> None:
        """Send again what no robot acknowledged within REPEAT_S."""
        now = self._hub.monotonic()
        for robot, entry in self._pending.items():
            if now - entry.sent >= REPEAT_S:
                entry.sent = now
                self._send(robot, entry.stop)

    def robot_attached(self, robot: str) -> None:
        """Stop a robot that was away when it was to stop."""
        entry = self._pending.get(robot)
        if entry is not None:
            self._send(robot, entry.stop)

    def due_from_database(self, robot: str, stop: m.Stop) -> None:
        """Stop a robot whose row says that a stop is due, as another process may have died."""
        if robot not in self._pending and stop.stop_id not in self._applied:
            self._stop(robot, stop)

    def acknowledged(self, robot: str, stop_id: str) -> None:
        """End the repetition: the robot latched."""
        entry = self._pending.get(robot)
        if entry is None or entry.stop.stop_id != stop_id:
            return
        del self._pending[robot]
        self._hub.states.change(robot, stop_pending=False)
        self._write(in_thread(stops.stop_acknowledged, robot=robot, stop_id=stop_id))

    def learned(self, state: b.RobotState) -> None:
        """Take from another process that a robot there has stopped."""
        stopped = state.heartbeat is not None and state.heartbeat.mode is Mode.STOPPED
        if stopped and not state.stop_pending:
            self._pending.pop(state.robot, None)

    def _write(self, work: Awaitable[object]) -> None:
        self._hub.spawn(_logged(work))


async def _logged(work: Awaitable[object]) -> None:
    try:
        await work
    except DatabaseError as error:
        log.warning("a stop is not in the database: %s", error)
