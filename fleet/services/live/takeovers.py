"""Takeovers as they happen: who may drive now, checked without the database."""

import asyncio
import logging
import math
from collections.abc import Awaitable
from typing import TYPE_CHECKING, TypeVar

from django.db import DatabaseError

from fleet.exceptions import LeaseGone, Refusal, RobotBusy
from fleet.models import LeaseEnd, Operator
from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.control import COMMAND_TTL_S, STALE_VIDEO_S, Lease, Mode
from fleet.services import takeover
from fleet.services.live.answers import refusal
from fleet.services.live.holds import Hold, Holds
from fleet.services.live.links import OperatorLink, Who
from fleet.services.live.threads import in_thread

if TYPE_CHECKING:
    from fleet.services.live.hub import Hub

T = TypeVar("T")
log = logging.getLogger(__name__)

_DRIVEN = (Mode.HANDOVER, Mode.TAKEOVER)
# An end of the lease before may still be on its way to the database when the next one asks.
_RETRY_BUSY_S = (0.05, 0.1, 0.2)


class Takeovers:
    """Grants, uses and ends leases for the sockets of this process."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._holds = Holds(hub.monotonic)
        self._ending: dict[str, asyncio.Task[object]] = {}
        self._sweeping: asyncio.Task[object] | None = None

    def holder_of(self, robot: str, epoch: int) -> OperatorLink | None:
        """Return the socket in this process that holds the robot under `epoch`."""
        hold = self._holds.get(robot)
        return hold.link if hold is not None and hold.lease.epoch == epoch else None

    # ---- take over, drive, hand back ---------------------------------------------------------

    async def take_over(self, link: OperatorLink, request: b.TakeOver) -> b.TakeoverAnswer:
        """Ask the database for the lease and tell the robot. The only slow step of a takeover."""
        robot = request.robot
        try:
            lease = await self._grant(link.who, robot)
        except Refusal as error:
            lease, reason = None, str(error)
        except DatabaseError:
            log.exception("no lease of %s could be granted", robot)
            lease, reason = None, "the database does not answer"
        if lease is None:
            return b.TakeoverAnswer(
                robot=robot, lease=None, reason=reason, t_client_ms=request.t_client_ms
            )
        self.begin(link, robot, lease)
        return b.TakeoverAnswer(robot=robot, lease=lease, t_client_ms=request.t_client_ms)

    def begin(self, link: OperatorLink, robot: str, lease: Lease) -> None:
        """Let a socket use a lease that the database granted, and tell the robot."""
        hold = self._holds.start(robot, lease, link)
        if link not in self._hub.operators:
            self._end(hold, LeaseEnd.LOST)  # the socket closed while the database worked
        else:
            self._hub.answers.expect(robot, "LeaseGranted", lease.epoch, link)
            self._hub.command(robot, m.LeaseGranted(lease=lease))
            self._hub.help.taken(robot, link.who)

    def hold_of(self, link: OperatorLink, robot: str, epoch: int) -> Hold:
        """Return the lease that this socket has on the robot, renewed. Raises LeaseGone."""
        return self._holds.use(robot, epoch, link)

    def let_go(self, robot: str, epoch: int) -> None:
        """Use a lease no more that has ended in the database: the robot holds."""
        self._holds.drop(robot, epoch)
        self._hub.command(robot, m.LeaseEnded(epoch=epoch, how="lost"))

    async def _grant(self, who: Who, robot: str) -> Lease:
        state = self._hub.states.get(robot)
        if state is None or state.heartbeat is None or state.connection == "offline":
            raise RobotBusy(f"{robot} is not connected")
        if state.stop_pending:
            raise RobotBusy(f"{robot} is being stopped")
        if state.lease is None and robot in self._ending:
            await asyncio.wait([self._ending[robot]])
        for pause_s in (*_RETRY_BUSY_S, None):
            try:
                return await in_thread(
                    _grant, who, robot, state.heartbeat.purpose, state.heartbeat.mode
                )
            except RobotBusy:
                state = self._hub.states.get(robot)
                if pause_s is None or state is None or state.lease or state.heartbeat is None:
                    raise
                if state.heartbeat.purpose == "eval" or state.heartbeat.mode is Mode.STOPPED:
                    raise
                await asyncio.sleep(pause_s)
        raise AssertionError("unreachable")

    def drive(self, link: OperatorLink, drive: b.Drive) -> b.CommandAnswer | None:
        """Check a command against the cached lease and send it on; a refusal is returned."""
        reason = self._refuse_drive(link, drive)
        if reason is None:
            teleop = m.Teleop(
                epoch=drive.epoch,
                seq=drive.seq,
                action=drive.action,
                t_wall_ns=self._hub.wall_ns(),
                t_client_ms=drive.t_client_ms,
            )
            if self._hub.command(drive.robot, teleop, ttl_s=COMMAND_TTL_S):
                return None
            reason = f"{drive.robot} cannot be reached"
        return refusal(
            drive.robot,
            "Teleop",
            reason,
            seq=drive.seq,
            epoch=drive.epoch,
            t_client_ms=drive.t_client_ms,
        )

    def _refuse_drive(self, link: OperatorLink, drive: b.Drive) -> str | None:
        try:
            # Renews first: an operator who looks at stale video is still there.
            self._holds.use(drive.robot, drive.epoch, link)
        except LeaseGone as error:
            return str(error)
        if not all(math.isfinite(value) for value in drive.action):
            return "the action is not finite"
        if not 0 <= drive.frame_age_ms <= STALE_VIDEO_S * 1e3:
            return f"stale video: the newest frame is {drive.frame_age_ms:.0f} ms old"
        return None

    def keep(self, link: OperatorLink, message: b.KeepLease) -> b.CommandAnswer | None:
        """Renew a lease without moving; a refusal is returned. A time that comes along is echoed
        by the robot, which tells a driver at rest how late commands would be.
        """
        try:
            self._holds.use(message.robot, message.epoch, link)
        except LeaseGone as error:
            return refusal(message.robot, "KeepLease", str(error), epoch=message.epoch)
        if message.t_client_ms:
            probe = m.Probe(epoch=message.epoch, t_client_ms=message.t_client_ms)
            self._hub.command(message.robot, probe, ttl_s=COMMAND_TTL_S)
        return None

    def hand_back(self, link: OperatorLink, message: b.HandBack) -> b.CommandAnswer | None:
        """Give the robot back to its policy; the robot's answer is relayed, a refusal returned."""
        try:
            hold = self._holds.use(message.robot, message.epoch, link)
        except LeaseGone as error:
            return refusal(message.robot, "LeaseEnded", str(error), epoch=message.epoch)
        self._hub.answers.expect(message.robot, "LeaseEnded", message.epoch, link)
        self._end(hold, LeaseEnd.HAND_BACK)
        return None

    # ---- ends that nobody asked for -----------------------------------------------------------

    def lost(self, link: OperatorLink) -> None:
        """End every lease of a socket that closed: its robots hold."""
        for hold in self._holds.of(link):
            self._end(hold, LeaseEnd.LOST)

    def stopped(self, robot: str) -> None:
        """End the lease of a robot that is being stopped."""
        hold = self._holds.get(robot)
        if hold is not None:
            self._end(hold, LeaseEnd.LOST)

    def tick(self) -> None:
        """End leases that ran out; renew in the database those that are used."""
        for hold in self._holds.expired():
            self._end(hold, LeaseEnd.EXPIRED)
        for hold in self._holds.due_for_renewal():
            self._hub.spawn(self._renew(hold))

    def sweep(self) -> None:
        """End leases whose process died, unless the last sweep is still at it."""
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = self._hub.spawn(_quietly(in_thread(takeover.end_expired_leases)))

    def passed(self, robot: str, message: m.Message) -> None:
        """Note what a command on its way to a robot here says about its lease."""
        state = self._hub.states.get(robot)
        match message:
            case m.LeaseGranted(lease=lease):
                self._hub.states.change(robot, lease=lease)
            case m.LeaseEnded(epoch=epoch) if state and state.lease and state.lease.epoch <= epoch:
                self._hub.states.change(robot, lease=None)

    def compare(self, state: b.RobotState) -> None:
        """Drop a hold that `state` proves to be over: ended elsewhere, and the robot knows."""
        hold = self._holds.compare(state)
        if hold is not None:
            self._holds.drop(hold.robot, hold.lease.epoch)

    def acknowledged(self, robot: str, answer: m.Acknowledged) -> None:
        """End a lease that the robot did not take."""
        if answer.command == "LeaseGranted" and not answer.accepted:
            self._end_at(robot, answer.epoch, LeaseEnd.REFUSED)

    def reconcile(self, robot: str, heartbeat: m.Heartbeat) -> None:
        """Compare a heartbeat of a robot here with its lease, and end what one of them missed."""
        state = self._hub.states.get(robot)
        lease = state.lease if state else None
        driven = heartbeat.mode in _DRIVEN
        if lease is not None and heartbeat.epoch >= lease.epoch and not driven:
            # It has seen the grant and is not driven: it ended the lease itself.
            self._end_at(robot, lease.epoch, LeaseEnd.LOST)
        elif driven and (lease is None or lease.epoch < heartbeat.epoch):
            self._hub.command(robot, m.LeaseEnded(epoch=heartbeat.epoch, how="lost"))

    # ---- the one way a lease ends here ----------------------------------------------------------

    def _end(self, hold: Hold, how: LeaseEnd) -> None:
        self._holds.drop(hold.robot, hold.lease.epoch)
        self._end_at(hold.robot, hold.lease.epoch, how)

    def _end_at(self, robot: str, epoch: int, how: LeaseEnd) -> None:
        """Tell the robot first, the database second: a hand on the stick must not wait for a disk.

        Should this process die in between, the row ends by expiry.
        """
        self._holds.drop(robot, epoch)
        wire = "hand_back" if how is LeaseEnd.HAND_BACK else "lost"
        self._hub.command(robot, m.LeaseEnded(epoch=epoch, how=wire))
        write = in_thread(takeover.end_lease, robot=robot, epoch=epoch, how=how)
        task = self._hub.spawn(_quietly(write))
        self._ending[robot] = task
        task.add_done_callback(lambda done: self._ended(robot, done))

    def _ended(self, robot: str, task: asyncio.Task[object]) -> None:
        if self._ending.get(robot) is task:
            del self._ending[robot]

    async def _renew(self, hold: Hold) -> None:
        robot, epoch = hold.robot, hold.lease.epoch
        try:
            await in_thread(takeover.renew_lease, robot=robot, epoch=epoch)
        except LeaseGone:
            if self._holds.drop(robot, epoch) is not None:
                self._hub.command(robot, m.LeaseEnded(epoch=epoch, how="lost"))
        except DatabaseError as error:
            log.warning("the lease of %s is not renewed in the database: %s", robot, error)


def _grant(who: Who, robot: str, purpose: str, mode: str) -> Lease:
    operator = Operator.objects.select_related("user").get(pk=who.id)
    return takeover.grant_lease(robot=robot, operator=operator, purpose=purpose, mode=mode)


async def _quietly(work: Awaitable[T]) -> T | None:
    """Await a write whose loss is repaired by expiry; a database that is away is a warning."""
    try:
        return await work
    except DatabaseError as error:
        log.warning("a lease could not be written: %s", error)
        return None
