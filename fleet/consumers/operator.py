"""Operators' sockets: browsers by session, scripts by token. JSON both ways."""

import asyncio
import logging
from typing import Any, assert_never

from django.db import DatabaseError

from fleet.consumers.base import Socket
from fleet.exceptions import NotAllowed, Refusal
from fleet.models import Operator, Role
from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.codec import BadMessage, decode_from_browser
from fleet.selectors.access import access_operator, access_operator_by_token
from fleet.services.live.answers import refusal
from fleet.services.live.hub import live
from fleet.services.live.links import Who
from fleet.services.live.threads import in_thread
from fleet.services.robots import fleet_state

log = logging.getLogger(__name__)
Command = b.HoldRobot | b.ResumeRobot | b.Judge | b.ReleaseRobot | b.AskHelp

# How long a socket may outlive the sign-out or the role of its operator.
REVALIDATE_S = 15.0


class PersonSocket(Socket):
    """A socket that belongs to an operator."""

    who: Who
    _watchman: asyncio.Task[None]

    async def joined(self) -> None:
        """Begin to look, now and then, whether the operator is still one."""
        self._watchman = self.hub.spawn(self._revalidate())

    def left(self) -> None:
        """Stop looking."""
        self._watchman.cancel()

    async def _revalidate(self) -> None:
        while True:
            await asyncio.sleep(REVALIDATE_S)
            await self.revalidate()

    async def revalidate(self) -> None:
        """Renew the role; close the socket of somebody who signed out or is no operator now."""
        try:
            self.who = await in_thread(_still_welcome, self.who.id, self.scope.get("session"))
        except NotAllowed:
            self.close(m.CloseCode.FORBIDDEN)
        except DatabaseError as error:
            # An operator with a hand on a robot must not lose it to a database that is away.
            log.warning("cannot look up %s again: %s", self.who.name, error)

    async def authenticate(self) -> None:
        """By bearer token when there is one, else by session and origin. Raises Refusal."""
        self.hub = live()
        if token := self.bearer_token():
            operator = await in_thread(access_operator_by_token, token)
        else:
            if not self.same_origin():
                raise NotAllowed("this page is not from here")
            operator = await in_thread(_by_session, self.scope.get("user"))
        self.who = Who.of(operator)

    def _text(self, data: str | bytes) -> str:
        if isinstance(data, bytes):
            raise BadMessage("this socket speaks JSON text")
        return data

    def _pong(self, ping: m.Ping) -> None:
        pong = m.Pong(t_sender_ns=ping.t_sender_ns, t_wall_ns=self.hub.wall_ns())
        self.send_state("pong", pong)


def _by_session(user: object) -> Operator:
    return access_operator(user)


def _still_welcome(operator_id: int, session: Any) -> Who:
    operator = (
        Operator.objects.select_related("user").filter(pk=operator_id, user__is_active=True).first()
    )
    if operator is None:
        raise NotAllowed("this account is not an operator any more")
    if not operator.scripted and (session is None or not session.exists(session.session_key)):
        raise NotAllowed("signed out")
    return Who.of(operator)


class OperatorSocket(PersonSocket):
    """Watches robots' state and sends them commands."""

    watch = b.Watch()

    async def joined(self) -> None:
        """Join; nothing is watched yet."""
        await super().joined()
        self.hub.attach_operator(self)

    def left(self) -> None:
        """End the leases held from here: their robots hold and do not resume."""
        super().left()
        self.hub.detach_operator(self)

    async def received(self, data: str | bytes) -> None:
        """Act on one message; what needs the database runs beside, so that a stop never waits."""
        message = decode_from_browser(self._text(data))
        match message:
            case b.Drive():
                self._answer(self.hub.takeovers.drive(self, message))
            case b.StopRobots():
                self.hub.stops.request(by=self.who.name, robots=message.robots, every=message.every)
            case b.KeepLease():
                self._answer(self.hub.takeovers.keep(self, message))
            case b.HandBack():
                self._answer(self.hub.takeovers.hand_back(self, message))
            case b.AskControl():
                self.hub.handovers.ask(self, message)
            case b.PassControl():
                self._answer(self.hub.handovers.pass_on(self, message))
            case b.TakeOver():
                self.hub.spawn(self._take_over(message))
            case b.Watch():
                self._watch(message)
            case b.ClaimHelp() | b.SkipHelp() | b.EscalateHelp():
                self.hub.spawn(self._help(message))
            case b.HoldRobot() | b.ResumeRobot() | b.Judge() | b.ReleaseRobot() | b.AskHelp():
                self._command(message)
            case m.Ping():
                self._pong(message)
            case m.Pong():
                pass
            case _:
                assert_never(message)

    def _answer(self, answer: b.CommandAnswer | None) -> None:
        if answer is not None:
            # One slot a robot: a flood of refused commands is answered by the newest.
            key = ("answer", answer.robot, answer.answer.command)
            self.outbox.put_state(key, answer)

    async def _take_over(self, message: b.TakeOver) -> None:
        self.send(await self.hub.takeovers.take_over(self, message))

    async def _help(self, message: b.ClaimHelp | b.SkipHelp | b.EscalateHelp) -> None:
        """Command: everybody is told what came of it; a refusal goes to whoever asked."""
        try:
            await self.hub.help.act(self.who, message)
        except Refusal as error:
            self.refuse(error.code, str(error))

    def _watch(self, watch: b.Watch) -> None:
        """State. Joined before the snapshot: what changes in between is an event with a higher
        revision, so nothing is missed.
        """
        if watch.privileged and not self.who.scripted:
            raise NotAllowed("privileged telemetry is for scripted operators only")
        self.watch = watch
        self.hub.feeds.refresh()
        self.hub.spawn(self._snapshot(watch))

    async def _snapshot(self, watch: b.Watch) -> None:
        await self.hub.know_robots()
        await self.hub.help.know()
        fleet = await in_thread(fleet_state)
        if self.watch is not watch:
            return
        robots = None if watch.every else watch.robots
        snapshot = b.Snapshot(
            robots=self.hub.states.snapshot(robots),
            operator=self.who.name,
            operator_kind=self.who.kind,
            operator_role=self.who.role,
            help=self.hub.help.snapshot(robots),
        )
        self.send(snapshot)
        self.send_state(("fleet",), fleet)
        self.hub.handovers.show(self)
        self.hub.feeds.refresh()

    def _command(self, message: Command) -> None:
        """Command: to the robot with a number of its own; the robot's answer comes back."""
        robot = message.robot
        seq = self.hub.answers.next_seq()
        command = self._to_robot(message, seq)
        name = type(command).__name__
        reason = self._reason_against(message)
        if reason is None and not self.hub.command(robot, command, ttl_s=2.0):
            reason = f"{robot} cannot be reached"
        if reason is None:
            self.hub.answers.expect(robot, name, seq, self)
        else:
            self._answer(refusal(robot, name, reason, seq=seq))

    def _to_robot(
        self, message: Command, seq: int
    ) -> m.Hold | m.Resume | m.MarkOutcome | m.Release | m.AskForHelp:
        match message:
            case b.HoldRobot():
                return m.Hold(seq=seq, reason=f"{self.who.name} asked to hold")
            case b.ResumeRobot():
                state = self.hub.states.get(message.robot)
                epoch = state.heartbeat.epoch if state and state.heartbeat else 0
                return m.Resume(seq=seq, epoch=epoch)
            case b.Judge():
                return m.MarkOutcome(
                    seq=seq,
                    outcome=message.outcome,
                    judge=f"operator:{self.who.name}",
                    episode=message.episode,
                )
            case b.ReleaseRobot():
                return m.Release(seq=seq, by=self.who.name)
            case b.AskHelp():
                return m.AskForHelp(
                    seq=seq, by=self.who.name, reason=message.reason, wanted=message.wanted
                )

    def _reason_against(self, message: m.Message) -> str | None:
        if not self.who.may(Role.OPERATOR):
            return f"needs the role operator; {self.who.name} is {self.who.role}"
        state = self.hub.states.get(message.robot)
        if state is None or state.connection == "offline":
            return f"{message.robot} is not connected"
        if isinstance(message, b.ReleaseRobot) and state.stop_pending:
            return f"{message.robot} has not acknowledged the stop yet"
        held = state.lease is not None and state.lease.holder != self.who.name
        if isinstance(message, b.Judge) and held:
            return f"{message.robot} is held by {state.lease.holder}, who judges"
        return None
