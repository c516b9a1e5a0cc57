"""Puts the parts of an agent together and answers the link for them."""

import asyncio
import logging
import random
from pathlib import Path

from fleet.agent import statefile
from fleet.agent.arbiter import Arbiter
from fleet.agent.clock import Clock, RealClock
from fleet.agent.config import AgentConfig
from fleet.agent.decisions import Remembered
from fleet.agent.drivers.base import Driver
from fleet.agent.episodes import Planner, Progress
from fleet.agent.feeds import Feeds
from fleet.agent.helpwatch import Glance, HelpWatch, Standing
from fleet.agent.link import Link
from fleet.agent.outbox import Outbox
from fleet.agent.policies import PolicyKeeper
from fleet.agent.recorder import Recorder
from fleet.agent.runtime import AGENT_VERSION, Runtime
from fleet.agent.situation import Moment
from fleet.agent.spool import Spool
from fleet.agent.trials import Trials
from fleet.agent.uploader import Uploader
from fleet.agent.values import ValueKeeper
from fleet.protocol import messages as m
from fleet.protocol.control import Event, Mode

log = logging.getLogger(__name__)


class Agent:
    """One robot's agent. It is also the link's `Side`."""

    def __init__(self, config: AgentConfig, driver: Driver, *, clock: Clock | None = None) -> None:
        self._config = config
        self._driver = driver
        self._clock = clock = clock or RealClock()
        token = config.secret()
        server = config.server.rstrip("/")
        self.spool = Spool(Path(config.spool), limit_bytes=config.spool_limit_bytes)
        state = self.spool.state
        self._control_file = state / "control.json"
        self._assignment_file = state / "assignment.json"
        self._progress_file = state / "progress.json"
        self._states = statefile.StateWriter()
        self.outbox = Outbox()
        self.arbiter = Arbiter(
            driver.spec,
            clock,
            remembered=_remembered(self._control_file),
            on_change=lambda remembered: self._states.put(self._control_file, remembered),
        )
        # Sent at once when it changes; a loss costs one heartbeat.
        self.help = HelpWatch(
            driver.spec, clock, on_change=lambda need: self.outbox.put_state("help", need)
        )
        # The fleet's version, and apart from it that of an evaluation.
        self.policies, self.trial_policies = (
            PolicyKeeper(
                state / folder,
                driver.spec,
                clock,
                server=server,
                token=token,
                report=self.outbox.put_report,
            )
            for folder in ("policies", "trial_policies")
        )
        self.values = ValueKeeper(state / "values", driver.spec, server=server, token=token)
        self.recorder = Recorder(self.spool)
        self.uploader = Uploader(self.spool, server=server, token=token)
        self.link = Link(
            server=server,
            token=token,
            side=self,
            outbox=self.outbox,
            clock=clock,
            realtime=config.priority == "realtime",
        )
        self.feeds = Feeds(driver, self.outbox, clock, glimpse=lambda: self.runtime.glimpse)
        progress = statefile.read_state(self._progress_file, Progress) or Progress()
        planner = Planner(progress, random.Random())
        self.runtime = Runtime(
            robot=config.robot,
            driver=driver,
            clock=clock,
            arbiter=self.arbiter,
            planner=planner,
            policies=self.policies,
            recorder=self.recorder,
            spool=self.spool,
            tell=self._tell,
            rtt_ms=lambda: self.link.timing.rtt_ms,
            counted=lambda: self._states.put(self._progress_file, progress),
            scene_ready=self.feeds.ready.set,
            watched=lambda: bool(self.outbox.feed.frames),
            trials=Trials(self.trial_policies, planner, clock),
            values=self.values,
            realtime=config.priority == "realtime",
            phase=config.phase,
        )
        self._assignment = statefile.read_state(self._assignment_file, m.Assignment)
        if self._assignment is not None:
            self._take_up(self._assignment)

    def start(self) -> None:
        """Start every thread."""
        self.recorder.start()
        self.uploader.start()
        self.policies.start()
        self.trial_policies.start()
        self.values.start()
        self.feeds.start()
        self.runtime.start()
        self.link.start()
        log.info(
            "agent: %s starts, %s, policy %s, %d episodes in the spool",
            self._config.robot,
            self.arbiter.mode,
            self.policies.active.ref.number if self.policies.active else "none",
            self.spool.depth[0],
        )

    def stop(self) -> None:
        """End the episode, write what is pending, and stop every thread."""
        # The driver closes with the loop, so nothing may render after it.
        self.feeds.stop()
        self.runtime.stop()
        self.recorder.stop()
        self.link.stop()
        self.uploader.stop()
        self.policies.stop()
        self.trial_policies.stop()
        self.values.stop()
        self._states.stop()
        log.info("agent: %s stopped", self._config.robot)

    # ---- the link's side -------------------------------------------------------------------

    def _mode(self) -> tuple[Mode, str]:
        """Return the mode to show and why: a robot that has nothing to do holds."""
        mode, reason = self.arbiter.mode, self.arbiter.reason
        waiting = self.runtime.situation.waiting
        if mode is Mode.AUTONOMOUS and waiting and not self.runtime.situation.between_episodes:
            return Mode.HOLDING, waiting
        return mode, reason

    def hello(self) -> m.Hello:
        """Return the first message of a connection."""
        active = self.policies.active
        return m.Hello(
            protocol=m.PROTOCOL_VERSION,
            robot=self._config.robot,
            spec=self._driver.spec,
            agent_version=AGENT_VERSION,
            t_wall_ns=self._clock.wall_ns(),
            policy=active.ref if active else None,
            epoch=self.arbiter.epoch,
            mode=self._mode()[0],
            spool_episodes=self.spool.depth[0],
        )

    def heartbeat(self, seq: int) -> m.Heartbeat:
        """Return what the robot is now."""
        keeper, situation = self.runtime.acting.keeper, self.runtime.situation
        active = keeper.active
        mode, reason = self._mode()
        episodes, size_bytes = self.spool.depth
        return m.Heartbeat(
            seq=seq,
            t_mono_ns=self._clock.monotonic_ns(),
            t_wall_ns=self._clock.wall_ns(),
            mode=mode,
            epoch=self.arbiter.epoch,
            policy=active.ref if active else None,
            policy_since_wall_ns=keeper.since_wall_ns,
            task=situation.task,
            instruction=situation.instruction,
            purpose=situation.purpose,
            evaluation=self.runtime.evaluation,
            episode=situation.episode,
            tick=situation.tick,
            left_s=situation.left_s,
            reason=reason[:500],
            recent="".join(self.runtime.recent),
            loop=self.runtime.meter.take(),
            spool_episodes=episodes,
            spool_bytes=size_bytes,
            rtt_ms=self.link.timing.rtt_ms,
            clock_offset_ns=self.link.timing.offset_ns,
            upload_error=(self.recorder.error or self.uploader.error)[:500],
            help=self.help.stand(self._standing()),
            value=self.values.status(),
        )

    def heard(self) -> None:
        """Note that the server is there."""
        self.arbiter.heard()

    async def received(self, message: m.ToRobot) -> None:
        """Take one message of the server."""
        match message:
            case m.Welcome():
                self.arbiter.saw_epoch(message.epoch)
            case m.Assignment():
                self._assign(message)
            case m.PolicyAnnouncement():
                self.policies.offer(message)
            case m.AskForHelp():
                self._ask(message)
            case _:
                await self._command(message)

    async def _command(self, message: m.ToRobot) -> None:
        before = self.arbiter.mode
        answer = self.arbiter.handle(message, clock_offset_ns=self.link.timing.offset_ns)
        if answer is None:
            return
        if not isinstance(message, m.Teleop | m.Probe):
            log.info(
                "command: %s %s, %s -> %s %s",
                answer.command,
                "accepted" if answer.accepted else "refused",
                before,
                answer.mode,
                answer.reason,
            )
        if isinstance(message, m.Stop):
            # The robot has stopped; its answer also promises that a restart will not wake it.
            await asyncio.to_thread(self._states.flush, 2.0)
        self.outbox.put_answer(answer)

    def _ask(self, message: m.AskForHelp) -> None:
        self.help.ask(message)
        answer = m.Acknowledged(
            seq=message.seq,
            command=type(message).__name__,
            mode=self.arbiter.mode,
            t_wall_ns=self._clock.wall_ns(),
        )
        self.outbox.put_answer(answer)

    def _assign(self, assignment: m.Assignment) -> None:
        if assignment == self._assignment:
            return
        self._assignment = assignment
        self._take_up(assignment)
        self._states.put(self._assignment_file, assignment)
        trials = len(assignment.order.trials) if assignment.order else 0
        log.info("assignment: %d tasks, %d trials", len(assignment.tasks), trials)

    def _take_up(self, assignment: m.Assignment) -> None:
        self.runtime.assign(assignment)
        self.help.limits = assignment.help
        self.values.offer(assignment.value)

    def _standing(self) -> Standing:
        held_by = self.arbiter.held_by
        return Standing(
            self.arbiter.mode,
            fault=held_by is Event.FAULT,
            abandoned=held_by is Event.LEASE_LOST,
            why=self.arbiter.reason,
        )

    def _value_counts(self) -> bool:
        return self.values.ranks(self.help.limits.value_correlation)

    def _tell(self, moment: Moment) -> None:
        situation, recent = moment.situation, self.runtime.recent
        self.help.observe(
            Glance(
                self._standing(),
                situation.episode,
                situation.task,
                situation.purpose,
                moment.reading.state,
                moment.proposal,
                moment.doubt,
                # Where it ranks poorly, its falls say nothing.
                value=moment.value if self._value_counts() else float("nan"),
                last_outcome=recent[-1] if recent else "",
                pressed=moment.reading.asks_help,
            )
        )
        request = self.outbox.feed
        if request.telemetry:
            self.outbox.put_state("telemetry", moment.telemetry(privileged=request.privileged))


def _remembered(path: Path) -> Remembered | None:
    found = statefile.read_state(path, Remembered)
    if found is None and path.exists():
        # Whatever it said, a person may have stopped this robot.
        return Remembered(mode=Mode.HOLDING, reason="what the agent remembered cannot be read")
    return found
