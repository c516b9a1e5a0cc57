"""Who asks for a robot that somebody else holds, and how it passes from one to the other.

An ask belongs to a socket and ends with it. Each process tells the others who asks in it, as state
that is repeated and runs out. A lease is passed by the database in one step; the robot holds from
the end of the one to the start of the other, which is as long as the messages take.
"""

from typing import TYPE_CHECKING

import msgspec
from django.db import DatabaseError

from fleet.exceptions import LeaseGone, NotAllowed, Refusal, RobotBusy
from fleet.models import Role
from fleet.protocol import browser as b
from fleet.protocol import codec
from fleet.protocol.control import Lease
from fleet.services import events, takeover
from fleet.services.live.answers import refusal
from fleet.services.live.links import OperatorLink, watches
from fleet.services.live.threads import in_thread

if TYPE_CHECKING:
    from fleet.services.live.hub import Hub

# What another process said counts for this long; it is repeated every second.
HEARD_FOR_S = 3.0


class Handovers:
    """Asks of the sockets here, and what other processes say of theirs."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._here: dict[str, list[OperatorLink]] = {}
        self._elsewhere: dict[str, dict[str, tuple[float, tuple[str, ...]]]] = {}
        self._told: dict[str, tuple[str, ...]] = {}
        # Robots that nobody held at the last repetition: their asks are over at the next.
        self._free: set[str] = set()

    def names(self, robot: str) -> tuple[str, ...]:
        """Return who asks for a robot, here or elsewhere."""
        names = set(self._names_here(robot))
        for _, operators in self._elsewhere.get(robot, {}).values():
            names.update(operators)
        return tuple(sorted(names))[: b.MAX_ASKING]

    def _names_here(self, robot: str) -> tuple[str, ...]:
        return tuple(sorted({link.who.name for link in self._here.get(robot, [])}))

    # ---- asking --------------------------------------------------------------------------------

    def ask(self, link: OperatorLink, message: b.AskControl) -> None:
        """State: note or drop an ask. Raises Refusal when there is nobody to ask."""
        robot = message.robot
        asking = self._here.get(robot, [])
        if not message.asking:
            if link in asking:
                self._drop(robot, link)
            return
        if not link.who.may(Role.OPERATOR):
            raise NotAllowed(f"needs the role operator; {link.who.name} is {link.who.role}")
        state = self._hub.states.get(robot)
        if state is None or state.lease is None:
            raise RobotBusy(f"nobody holds {robot}: take it over")
        if link not in asking:
            self._here.setdefault(robot, []).append(link)
            self._free.discard(robot)
            self._publish(robot)

    def forget(self, link: OperatorLink) -> None:
        """Drop the asks of a socket that closed."""
        for robot in [robot for robot, links in self._here.items() if link in links]:
            self._drop(robot, link)

    def show(self, link: OperatorLink) -> None:
        """Tell a socket who asks for what it watches; for its first look."""
        for robot in self._told:
            if watches(link.watch, robot):
                self._send(link, robot)

    def heard(self, asking: events.Asking) -> None:
        """Note who asks in another process."""
        if asking.process == self._hub.process:
            return
        there = self._elsewhere.setdefault(asking.robot, {})
        there[asking.process] = (self._hub.monotonic() + HEARD_FOR_S, asking.operators)
        self._tell(asking.robot)

    def repeat(self) -> None:
        """Say again who asks here, and forget what others say no more; once a second."""
        now = self._hub.monotonic()
        for robot in list(self._here):
            state = self._hub.states.get(robot)
            if state is not None and state.lease is not None:
                self._free.discard(robot)
                self._publish(robot)
            elif robot in self._free:
                del self._here[robot]
                self._free.discard(robot)
                self._publish(robot)
            else:
                self._free.add(robot)
        for robot, there in list(self._elsewhere.items()):
            kept = {process: said for process, said in there.items() if said[0] > now}
            if len(kept) < len(there):
                self._elsewhere[robot] = kept
                self._tell(robot)

    # ---- passing on ------------------------------------------------------------------------------

    def pass_on(self, link: OperatorLink, message: b.PassControl) -> b.CommandAnswer | None:
        """Command: give a held robot to somebody who asked; a refusal is returned or sent."""
        robot, epoch = message.robot, message.epoch
        try:
            self._hub.takeovers.hold_of(link, robot, epoch)
        except LeaseGone as error:
            return refusal(robot, "PassControl", str(error), epoch=epoch)
        if message.to not in self.names(robot):
            reason = f"{message.to} does not ask for {robot}"
            return refusal(robot, "PassControl", reason, epoch=epoch)
        self._hub.spawn(self._pass_on(link, message))
        return None

    async def _pass_on(self, link: OperatorLink, message: b.PassControl) -> None:
        robot, epoch = message.robot, message.epoch
        try:
            lease = await in_thread(takeover.pass_lease, robot=robot, epoch=epoch, to=message.to)
        except Refusal as error:
            link.send(refusal(robot, "PassControl", str(error), epoch=epoch))
            return
        except DatabaseError:
            reason = "the database does not answer: you still hold the robot"
            link.send(refusal(robot, "PassControl", reason, epoch=epoch))
            return
        self._hub.takeovers.let_go(robot, epoch)
        if not self._give(robot, lease):
            payload = msgspec.msgpack.encode(events.Passed(robot=robot, lease=lease))
            self._hub.bus.publish_command(events.PASSES, payload, ttl_s=2.0)

    def passed(self, passed: events.Passed) -> None:
        """Take a lease for somebody here; one that nobody takes runs out, and the robot holds."""
        self._give(passed.robot, passed.lease)

    def _give(self, robot: str, lease: Lease) -> bool:
        for link in self._here.get(robot, []):
            if link.who.name == lease.holder:
                self._hub.takeovers.begin(link, robot, lease)
                link.send(b.TakeoverAnswer(robot=robot, lease=lease))
                self._drop(robot, link)
                return True
        return False

    # ---- telling -------------------------------------------------------------------------------

    def _drop(self, robot: str, link: OperatorLink) -> None:
        self._here[robot].remove(link)
        if not self._here[robot]:
            del self._here[robot]
        self._publish(robot)

    def _publish(self, robot: str) -> None:
        asking = events.Asking(
            robot=robot, process=self._hub.process, operators=self._names_here(robot)
        )
        self._hub.bus.publish_state(events.ASKS, msgspec.msgpack.encode(asking), key=robot)
        self._tell(robot)

    def _tell(self, robot: str) -> None:
        names = self.names(robot)
        if self._told.get(robot, ()) == names:
            return
        self._told[robot] = names
        for link in self._hub.operators:
            if watches(link.watch, robot):
                self._send(link, robot)
        if not names:
            del self._told[robot]

    def _send(self, link: OperatorLink, robot: str) -> None:
        asked = b.ControlAsked(robot=robot, operators=self.names(robot))
        link.send_state(("asked", robot), codec.encode_text(asked))
