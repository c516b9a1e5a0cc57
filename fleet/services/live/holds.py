"""Leases whose holder's socket is in this process: the copy that commands are checked against."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from fleet.exceptions import LeaseGone
from fleet.protocol import browser as b
from fleet.protocol.control import LEASE_TTL_S, Lease
from fleet.services.live.links import OperatorLink

RENEW_EVERY_S = 1.0


@dataclass(slots=True)
class Hold:
    """One lease in force, and the socket that may use it."""

    robot: str
    lease: Lease
    link: OperatorLink
    expires: float
    # When the database last heard that the lease lives.
    renewed: float
    # The robot's gateway has shown the lease once; from then on its absence means that it ended.
    shown: bool = False


class Holds:
    """At most one hold a robot."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._holds: dict[str, Hold] = {}

    def start(self, robot: str, lease: Lease, link: OperatorLink) -> Hold:
        """Enter a granted lease."""
        now = self._monotonic()
        hold = Hold(robot, lease, link, now + LEASE_TTL_S, now)
        self._holds[robot] = hold
        return hold

    def get(self, robot: str) -> Hold | None:
        """Return the hold of a robot, or None."""
        return self._holds.get(robot)

    def use(self, robot: str, epoch: int, link: OperatorLink) -> Hold:
        """Return the hold that this socket has on the robot, renewed. Raises LeaseGone."""
        hold = self._holds.get(robot)
        if hold is None or hold.lease.epoch != epoch:
            raise LeaseGone(f"epoch {epoch} holds no lease of {robot}")
        if hold.link is not link:
            raise LeaseGone(f"{robot} is held from another window")
        now = self._monotonic()
        if hold.expires <= now:
            raise LeaseGone(f"the lease of {robot} ran out")
        hold.expires = now + LEASE_TTL_S
        hold.lease = msgspec.structs.replace(
            hold.lease, expires_wall_ns=time.time_ns() + int(LEASE_TTL_S * 1e9)
        )
        return hold

    def drop(self, robot: str, epoch: int) -> Hold | None:
        """Forget a hold; None when it is not in force any more."""
        hold = self._holds.get(robot)
        if hold is None or hold.lease.epoch != epoch:
            return None
        return self._holds.pop(robot)

    def of(self, link: OperatorLink) -> list[Hold]:
        """Return the holds of a socket."""
        return [hold for hold in self._holds.values() if hold.link is link]

    def expired(self) -> list[Hold]:
        """Return the holds that were not used in time."""
        now = self._monotonic()
        return [hold for hold in self._holds.values() if hold.expires <= now]

    def due_for_renewal(self) -> list[Hold]:
        """Return the holds used since the database last heard of them, a second ago or more."""
        now = self._monotonic()
        due = [
            hold
            for hold in self._holds.values()
            if now - hold.renewed >= RENEW_EVERY_S and hold.expires - LEASE_TTL_S > hold.renewed
        ]
        for hold in due:
            hold.renewed = now
        return due

    def compare(self, state: b.RobotState) -> Hold | None:
        """Return the hold that `state` proves to be over, or None."""
        hold = self._holds.get(state.robot)
        if hold is None:
            return None
        shown = state.lease.epoch if state.lease else 0
        if shown == hold.lease.epoch:
            hold.shown = True
            return None
        # Until the gateway saw the grant, its states speak of the time before.
        return hold if hold.shown or shown > hold.lease.epoch else None
