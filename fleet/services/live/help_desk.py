"""The help queue as pages see it: what robots say at once, what the database made of it after.

State: of each robot the newest request. A need is shown and passed to the other processes before
anything is written, so that a slow or absent database delays nobody who could help.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec
from django.db import DatabaseError

from fleet.exceptions import Refusal
from fleet.models import Operator
from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.help import HelpReason
from fleet.selectors import help as queue
from fleet.services import events, help
from fleet.services.live.links import Who, watches
from fleet.services.live.threads import in_thread

if TYPE_CHECKING:
    from fleet.services.live.hub import Hub

log = logging.getLogger(__name__)


class HelpDesk:
    """Requests for help in this process."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._states: dict[str, b.HelpState] = {}
        # What each robot connected here said last, and what of that is in the database.
        self._said: dict[str, tuple[m.HelpNeed, int]] = {}
        self._stored: dict[str, m.HelpNeed] = {}
        self._writing: set[str] = set()
        self._sweeping: asyncio.Task[object] | None = None

    # ---- robots ----------------------------------------------------------------------------

    def heard(self, robot: str, need: m.HelpNeed, offset_ns: int) -> None:
        """Take what a robot connected here says it needs; what it said before is ignored."""
        if self._said.get(robot, (None, 0))[0] != need:
            self._said[robot] = need, offset_ns
            known, now_ns = self._states.get(robot), self._hub.wall_ns()
            new = help.after_need(robot, known, need, offset_ns=offset_ns, now_ns=now_ns)
            if new is not None and self.learn(new):
                payload = msgspec.json.encode(new)
                self._hub.bus.publish_state(events.HELP, payload, key=robot)
        if self._stored.get(robot) != need and robot not in self._writing:
            self._writing.add(robot)
            self._hub.spawn(self._store(robot))

    def forget(self, robot: str) -> None:
        """A robot connected anew: its request may have expired meanwhile."""
        self._said.pop(robot, None)
        self._stored.pop(robot, None)

    async def _store(self, robot: str) -> None:
        """Write the newest need until it is the one that is stored."""
        try:
            while (said := self._said.get(robot)) and self._stored.get(robot) != said[0]:
                need, offset_ns = said
                state = await in_thread(
                    help.store_need, robot=robot, need=need, offset_ns=offset_ns
                )
                self._stored[robot] = need
                if state is not None:
                    # Without Redis and with nothing changed it was not published.
                    self.learn(state)
        except DatabaseError as error:
            # The next heartbeat says it again.
            log.warning("what %s needs is not in the database: %s", robot, error)
        finally:
            self._writing.discard(robot)

    # ---- operators -------------------------------------------------------------------------

    async def act(self, who: Who, message: b.ClaimHelp | b.SkipHelp | b.EscalateHelp) -> None:
        """Do what an operator asks for; everybody sees the outcome. Raises Refusal."""
        try:
            state = await in_thread(_act, who, message)
        except DatabaseError:
            log.exception("%s: %s is not done", message.robot, type(message).__name__)
            raise _Unanswered("the database does not answer") from None
        self.learn(state)
        if isinstance(message, b.SkipHelp) and HelpReason.EXPLICIT in state.reasons:
            # Whoever asked has the answer: the robot asks for it no more.
            withdrawn = m.AskForHelp(seq=self._hub.answers.next_seq(), by=who.name, wanted=False)
            self._hub.command(state.robot, withdrawn, ttl_s=2.0)

    def taken(self, robot: str, who: Who) -> None:
        """Note who drives a robot now: its request, if it has one, is theirs."""
        state = self._states.get(robot)
        if state is not None and state.status in help.LIVE:
            self._hub.spawn(self._taken(robot, who))

    async def _taken(self, robot: str, who: Who) -> None:
        try:
            await in_thread(_taken, robot, who)
        except DatabaseError as error:
            log.warning("who helps %s is not in the database: %s", robot, error)

    # ---- everybody -------------------------------------------------------------------------

    def learn(self, state: b.HelpState) -> bool:
        """Show a request unless a newer one is known. False when it is not newer."""
        known = self._states.get(state.robot)
        if known is not None and state.revision <= known.revision:
            return False
        self._states[state.robot] = state
        text = msgspec.json.encode(state).decode()
        for link in self._hub.operators:
            if watches(link.watch, state.robot):
                link.send_state(("help", state.robot), text)
        return True

    async def know(self) -> None:
        """Read what waits from the database, and what ended that is shown as waiting here."""
        live = [state.robot for state in self._states.values() if state.status in help.LIVE]
        for state in await in_thread(queue.newest, live):
            self.learn(state)

    def snapshot(self, robots: Iterable[str] | None = None) -> tuple[b.HelpState, ...]:
        """Return what is not closed of these robots, or of all; the first to be helped first."""
        names = None if robots is None else set(robots)
        live = [
            state
            for state in self._states.values()
            if state.status in help.LIVE and (names is None or state.robot in names)
        ]
        return tuple(sorted(live, key=queue.order))

    def sweep(self) -> None:
        """Let time do its part, while anything waits and unless the last sweep is still at it."""
        waits = any(state.status in help.LIVE for state in self._states.values())
        if waits and (self._sweeping is None or self._sweeping.done()):
            self._sweeping = self._hub.spawn(self._sweep())

    async def _sweep(self) -> None:
        try:
            await in_thread(help.sweep_help)
        except DatabaseError as error:
            log.warning("the help queue is not swept: %s", error)


class _Unanswered(Refusal):
    code = "unanswered"


def _act(who: Who, message: b.ClaimHelp | b.SkipHelp | b.EscalateHelp) -> b.HelpState:
    by = Operator.objects.select_related("user").get(pk=who.id)
    match message:
        case b.ClaimHelp():
            return help.claim_help(robot=message.robot, by=by, operator=message.operator)
        case b.SkipHelp():
            return help.skip_help(
                robot=message.robot, number=message.number, by=by, reason=message.reason
            )
        case b.EscalateHelp():
            return help.escalate_help(
                robot=message.robot, number=message.number, by=by, reason=message.reason
            )


def _taken(robot: str, who: Who) -> None:
    by = Operator.objects.select_related("user").get(pk=who.id)
    help.drive_help(robot=robot, by=by)
