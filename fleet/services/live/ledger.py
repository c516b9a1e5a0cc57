"""What the live links write down: heartbeats at most once a second, policy reports; and what they
read back: which version each robot is to run, reconciled with what it says it runs.
"""

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from django.db import DatabaseError

from fleet.protocol import messages as m
from fleet.protocol.spec import PolicyRef
from fleet.services import robots
from fleet.services.events import PolicyForRobots
from fleet.services.live.threads import in_thread

if TYPE_CHECKING:
    from fleet.services.live.hub import Hub

log = logging.getLogger(__name__)

# An announcement is not repeated sooner: the robot may still be fetching the weights.
REPEAT_AFTER_S = 2.0
# A version the robot has verified waits for an episode to end; one it rejected stays rejected.
REPEAT_KNOWN_AFTER_S = 30.0


class Ledger:
    """Rows of the robots connected here, written off the sockets' path."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._heard: dict[str, robots.Heard] = {}
        self._writing: asyncio.Task[None] | None = None
        # Per robot: sha256 last announced, when, and whether the robot has answered for it.
        self._announced: dict[str, tuple[str, float, bool]] = {}

    def note(self, robot: str, heartbeat: m.Heartbeat) -> None:
        """Keep a heartbeat until the next flush; only the newest counts."""
        self._heard[robot] = robots.Heard(heartbeat, datetime.now(UTC))

    def forget(self, robot: str) -> None:
        """A robot connected anew: what it was told before does not count."""
        self._announced.pop(robot, None)

    def flush(self) -> None:
        """Write what was heard since the last flush, unless that one is still writing."""
        if self._heard and (self._writing is None or self._writing.done()):
            heard, self._heard = self._heard, {}
            self._writing = self._hub.spawn(self._write(heard))

    async def _write(self, heard: dict[str, robots.Heard]) -> None:
        asked_at = self._hub.monotonic()
        try:
            assigned = await in_thread(robots.store_heartbeats, heard)
        except DatabaseError as error:
            log.warning("heartbeats are not in the database: %s", error)
            return
        for robot, told in assigned.items():
            self._hub.states.change(robot, pinned=told.pinned)
            _, told_at, _ = self._announced.get(robot, ("", 0.0, False))
            # What was announced while the row was read may be newer than the row.
            if told.policy is not None and told_at < asked_at:
                self._reconcile(robot, told.policy, heard[robot].heartbeat.policy)

    def _reconcile(self, robot: str, assigned: PolicyRef, active: PolicyRef | None) -> None:
        self._hub.states.change(robot, assigned_number=assigned.number)
        if active is not None and active.sha256 == assigned.sha256:
            return
        sha256, at, known = self._announced.get(robot, ("", 0.0, False))
        wait_s = REPEAT_KNOWN_AFTER_S if known else REPEAT_AFTER_S
        if sha256 != assigned.sha256 or self._hub.monotonic() - at >= wait_s:
            self.tell(robot, m.PolicyAnnouncement(policy=assigned))

    def announce(self, message: PolicyForRobots) -> None:
        """Pass a fresh announcement to the robots it is for, as far as they are here."""
        for robot in message.robots:
            if robot in self._hub.states:
                number = message.announcement.policy.number
                self._hub.states.change(robot, assigned_number=number)
            sha256, at, _ = self._announced.get(robot, ("", 0.0, False))
            echo = (
                sha256 == message.announcement.policy.sha256
                and self._hub.monotonic() - at < REPEAT_AFTER_S
            )
            if not echo:
                self.tell(robot, message.announcement)

    def tell(self, robot: str, announcement: m.PolicyAnnouncement) -> None:
        """Send an announcement to a robot connected here."""
        link = self._hub.links.get(robot)
        if link is not None:
            self._announced[robot] = (announcement.policy.sha256, self._hub.monotonic(), False)
            link.send_state("policy", announcement)

    def reported(self, robot: str, report: m.PolicyReport, offset_ns: int) -> None:
        """Write down what became of a version; stop repeating it soon."""
        sha256, at, _ = self._announced.get(robot, ("", 0.0, False))
        if sha256 == report.sha256:
            self._announced[robot] = (sha256, at, True)
        self._hub.spawn(self._store(robot, report, offset_ns))

    async def _store(self, robot: str, report: m.PolicyReport, offset_ns: int) -> None:
        try:
            await in_thread(
                robots.store_policy_report, robot=robot, report=report, offset_ns=offset_ns
            )
        except DatabaseError:
            log.exception("%s %s version %s: not stored", robot, report.status, report.number)
