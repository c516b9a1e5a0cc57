"""The live links of one web process, joined: robots, operators, viewers, and the other processes.

One hub an event loop. Its parts each own one thing: `States` what is shown, `Takeovers` who holds
what, `Handovers` who asks for it, `HelpDesk` who needs help, `PendingStops` which stops are under
way, `FeedDesk` who sees what, `Ledger` what becomes rows, `Exchange` what other processes say.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from django.conf import settings

from fleet.models import Robot
from fleet.protocol import browser as b
from fleet.protocol import codec
from fleet.protocol import messages as m
from fleet.services import events
from fleet.services.live.answers import Answers
from fleet.services.live.exchange import Exchange
from fleet.services.live.feed_desk import FeedDesk
from fleet.services.live.handovers import Handovers
from fleet.services.live.help_desk import HelpDesk
from fleet.services.live.ledger import Ledger
from fleet.services.live.links import OperatorLink, RobotLink, watches
from fleet.services.live.outbox import OutboxFull
from fleet.services.live.pending_stops import PendingStops
from fleet.services.live.states import States
from fleet.services.live.takeovers import Takeovers
from fleet.services.live.threads import in_thread

log = logging.getLogger(__name__)

TICK_S = 0.1
SLOW_TICK_S = 1.0
STOP_WITHIN_S = 5.0


class Hub:
    """Everything live in this process. Not thread-safe."""

    def __init__(
        self,
        *,
        redis_url: str = "",
        monotonic: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.process = f"{os.uname().nodename}:{os.getpid()}:{id(self):x}"
        self.monotonic = monotonic
        self.wall_ns = wall_ns
        self.links: dict[str, RobotLink] = {}
        self._link_heard: dict[RobotLink, float] = {}
        self.operators: set[OperatorLink] = set()
        self.exchange = Exchange(self, redis_url)
        self.bus = self.exchange.bus
        self.states = States(self._state_changed, wall_ns=wall_ns, monotonic=monotonic)
        self.answers = Answers(monotonic)
        self.takeovers = Takeovers(self)
        self.handovers = Handovers(self)
        self.stops = PendingStops(self)
        self.feeds = FeedDesk(self)
        self.ledger = Ledger(self)
        self.help = HelpDesk(self)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timers: list[asyncio.Task[Any]] = []

    # ---- life ------------------------------------------------------------------------------

    def start(self, *, timers: bool = True) -> None:
        """Begin to listen to other processes and to let time pass."""
        self.exchange.start()
        if timers:
            self._timers = [
                self.spawn(self._every(TICK_S, self.tick)),
                self.spawn(self._every(SLOW_TICK_S, self.slow_tick)),
            ]

    async def stop(self) -> None:
        """End all tasks of this hub; writes that are under way get a moment to finish."""
        for timer in self._timers:
            timer.cancel()
        await self.exchange.stop()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=STOP_WITHIN_S)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run slow work beside the sockets; a failure is logged."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background work failed", exc_info=error)

    async def _every(self, period_s: float, step: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(period_s)
            try:
                step()
            except Exception:
                # Timers end leases and repeat stops: they must outlive any one failure.
                log.exception("a timer failed")

    def tick(self) -> None:
        """What must happen within a tenth of a second."""
        self.stops.repeat()
        self.takeovers.tick()
        self.states.silence()
        for link, answer in self.answers.overdue():
            link.send(answer)

    def slow_tick(self) -> None:
        """What must happen within a second."""
        self._close_silent_links()
        self.feeds.refresh()
        self.ledger.flush()
        self.takeovers.sweep()
        self.handovers.repeat()
        self.help.sweep()

    # ---- robots ----------------------------------------------------------------------------

    def attach_robot(self, link: RobotLink) -> None:
        """Take a robot's socket; an older one of the same robot is closed."""
        old = self.links.get(link.robot)
        if old is not None and old is not link:
            old.close(m.CloseCode.REPLACED)
        self.links[link.robot] = link
        self.bus.subscribe(events.commands_of(link.robot), events.demand_of(link.robot))
        taken = events.LinkTaken(robot=link.robot, process=self.process)
        self.bus.publish_command(events.LINKS, msgspec.msgpack.encode(taken))
        self.states.heard(link.robot)
        self.ledger.forget(link.robot)
        self.help.forget(link.robot)
        self.stops.robot_attached(link.robot)
        self.feeds.robot_attached(link.robot)

    def link_heard(self, link: RobotLink) -> None:
        """Note that a link carries messages; one that does not is closed (`slow_tick`)."""
        self._link_heard[link] = self.monotonic()

    def _close_silent_links(self) -> None:
        # Daphne buffers without bound for a peer that does not read: a dead link must not stay.
        now = self.monotonic()
        for link in list(self.links.values()):
            if now - self._link_heard.get(link, now) > 2 * m.STALE_AFTER_S:
                log.warning("%s went silent", link.robot)
                link.close(m.CloseCode.GOING_AWAY)

    def detach_robot(self, link: RobotLink) -> None:
        """Let go of a robot's socket, unless another one has replaced it."""
        self._link_heard.pop(link, None)
        if self.links.get(link.robot) is not link:
            return
        self.states.change(link.robot, connection="stale")
        self._forget(link.robot)

    def _forget(self, robot: str) -> None:
        del self.links[robot]
        self.bus.unsubscribe(events.commands_of(robot), events.demand_of(robot))

    def link_taken(self, taken: events.LinkTaken) -> None:
        """Let go of a robot that is connected to another process now."""
        link = self.links.get(taken.robot)
        if link is not None and taken.process != self.process:
            # From now on commands go to where the robot is, while this socket is still closing.
            self._forget(taken.robot)
            link.close(m.CloseCode.REPLACED)

    def command(
        self, robot: str, message: m.Message, *, ttl_s: float | None = None, first: bool = False
    ) -> bool:
        """Send a command to a robot, here or through Redis. False when nobody can reach it."""
        link = self.links.get(robot)
        if link is None:
            state = self.states.get(robot)
            if state is None or state.connection == "offline" or not self.bus.enabled:
                return False
            payload = codec.encode_link(message)
            self.bus.publish_command(events.commands_of(robot), payload, ttl_s=ttl_s or 5.0)
            return True
        self.takeovers.passed(robot, message)
        try:
            link.send(message, ttl_s=ttl_s, first=first)
        except OutboxFull:
            if ttl_s is None:
                # Losing this one silently would leave the robot with a wrong idea of who drives.
                log.warning("%s does not read its link", robot)
                link.close(m.CloseCode.OVERFLOW)
            return False
        return True

    def acknowledged(self, robot: str, answer: m.Acknowledged) -> None:
        """Take a robot's answer: act on it, and relay it to who waits."""
        state = self.states.get(robot)
        if state is not None and state.heartbeat and state.heartbeat.mode != answer.mode:
            heartbeat = msgspec.structs.replace(state.heartbeat, mode=answer.mode)
            self.states.change(robot, heartbeat=heartbeat)
        if answer.stop_id:
            self.stops.acknowledged(robot, answer.stop_id)
        self.takeovers.acknowledged(robot, answer)
        relayed = b.CommandAnswer(robot=robot, answer=answer)
        if not self.relay(relayed) and not answer.stop_id:
            self.bus.publish_command(events.ANSWERS, msgspec.json.encode(relayed), ttl_s=1.0)

    def relay(self, relayed: b.CommandAnswer) -> bool:
        """Pass an answer to the socket here that waits for it. False when none does."""
        link = self.answers.resolve(relayed.robot, relayed.answer)
        if link is None and relayed.answer.command in ("Teleop", "Probe"):
            link = self.takeovers.holder_of(relayed.robot, relayed.answer.epoch)
        if link is not None:
            link.send(relayed, ttl_s=1.0)
        return link is not None

    # ---- operators -------------------------------------------------------------------------

    def attach_operator(self, link: OperatorLink) -> None:
        """Take an operator's socket."""
        self.operators.add(link)

    def detach_operator(self, link: OperatorLink) -> None:
        """Let go of an operator's socket; robots it held stay holding."""
        self.operators.discard(link)
        self.answers.forget(link)
        self.takeovers.lost(link)
        self.handovers.forget(link)
        self.feeds.refresh()

    async def know_robots(self) -> None:
        """Read robots that never connected to this process from the database."""
        for state in await in_thread(_offline_states):
            self.states.add(state)

    def _state_changed(self, state: b.RobotState) -> None:
        self.takeovers.compare(state)
        payload = msgspec.json.encode(state)
        text = payload.decode()
        for link in self.operators:
            if watches(link.watch, state.robot):
                link.send_state(("state", state.robot), text)
        if state.robot in self.links:
            self.bus.publish_state(events.ROBOTS, payload, key=state.robot)


_live: Hub | None = None


def live() -> Hub:
    """Return the hub of the running event loop, started on first use."""
    if _live is None or _live.loop is not asyncio.get_running_loop():
        hub = use(Hub(redis_url=settings.REDIS_URL))
        hub.start()
        return hub
    return _live


def use(hub: Hub) -> Hub:
    """Make `hub` the one that new sockets of this process join."""
    global _live
    _live = hub
    return hub


def _offline_states() -> list[b.RobotState]:
    return [
        b.RobotState(
            robot=robot.name,
            revision=int(robot.last_heartbeat_at.timestamp() * 1e6)
            if robot.last_heartbeat_at
            else 1,
            connection="offline",
            simulated=robot.kind == Robot.Kind.SIMULATED,
            assigned_number=robot.assigned_number,
            pinned=robot.pinned_at is not None,
            stop_pending=bool(robot.stop_requested),
        )
        for robot in Robot.objects.filter(enabled=True)
    ]
