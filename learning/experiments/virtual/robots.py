"""One robot on a virtual clock: the agent's own parts without its threads and its link."""

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fleet.agent.arbiter import Arbiter
from fleet.agent.drivers.base import Driver
from fleet.agent.episodes import Planner, Progress
from fleet.agent.policies import PolicyKeeper
from fleet.agent.recorder import Recorder
from fleet.agent.runtime import Runtime
from fleet.agent.situation import Moment
from fleet.agent.spool import Spool
from fleet.protocol import messages as m
from fleet.protocol.episode import EpisodeManifest
from learning.experiments.virtual.timeline import Timeline

# Ticks after an episode's end that still send telemetry: an operator learns that it ended.
LINGER_TICKS = 3


@dataclass(slots=True)
class RobotTimes:
    """Control ticks of a robot, by what it did."""

    # In training episodes: the policy acted, or an operator drove (handovers included).
    policy: int = 0
    driven: int = 0
    # In episodes held out for evaluation.
    held_out: int = 0

    @property
    def acting(self) -> int:
        """Ticks of all episodes; resets excluded."""
        return self.policy + self.driven + self.held_out


class VirtualRobot:
    """Ticks the agent's `Runtime` at the robot's rate and hands over what it recorded.

    Control loop, arbiter, limits, planner, recorder, spool and the verifying of weights are the
    agent's. In place of threads, each is called when its moment has come.
    """

    def __init__(
        self,
        name: str,
        driver: Driver,
        timeline: Timeline,
        *,
        folder: Path,
        seed: int,
        progress: Progress,
        tell: Callable[["VirtualRobot", Moment], None],
        closed: Callable[["VirtualRobot", EpisodeManifest, list[bytes]], None],
    ) -> None:
        """Make a robot that rests until it has an assignment and a policy.

        Args:
            name: Its name.
            driver: The simulation; only this robot uses it while the robot lives.
            timeline: What its ticks are planned on.
            folder: For its spool and its versions.
            seed: Of its choice of tasks and words, and of the episodes' uids.
            progress: How far it is in its layouts; counted up in place.
            tell: Called every tick.
            closed: Called when an episode closed, with its parts in order.
        """
        self.name = name
        self.times = RobotTimes()
        self._timeline = timeline
        self._tell_room = tell
        self._closed = closed
        self._lingered = 0
        self._period_ns = int(1e9 / driver.spec.control_hz)
        clock = timeline.clock
        uids = random.Random(f"{name}/{seed}/uid")
        self.arbiter = Arbiter(driver.spec, clock)
        self.policies = PolicyKeeper(
            folder / "policies", driver.spec, clock, server="", token="", report=lambda report: None
        )
        self.spool = Spool(folder / "spool")
        self.recorder = Recorder(self.spool)
        self.runtime = Runtime(
            robot=name,
            driver=driver,
            clock=clock,
            arbiter=self.arbiter,
            planner=Planner(progress, random.Random(f"{name}/{seed}/plan")),
            policies=self.policies,
            recorder=self.recorder,
            spool=self.spool,
            tell=self._tell,
            make_uid=lambda: str(uuid.UUID(int=uids.getrandbits(128), version=4)),
        )

    def start(self, first_s: float) -> None:
        """Tick from `first_s` from now on."""
        self._timeline.after(first_s, self._tick)

    def receive(self, message: m.ToRobot) -> m.Acknowledged | None:
        """Take a command and answer it; clocks agree here."""
        return self.arbiter.handle(message)

    def offer(self, announcement: m.PolicyAnnouncement) -> None:
        """Verify an announced version; the loop takes it before its next episode."""
        self.policies.offer(announcement)
        self.policies.work()

    def stop(self) -> None:
        """End the running episode as aborted, as an agent does that is told to stop."""
        if self.runtime.situation.episode:
            self.runtime.abort()
            self._hand_over()
        self.policies.stop()

    def _tick(self) -> None:
        clock = self._timeline.clock
        due_ns = clock.now_ns
        self.arbiter.heard()
        self.runtime.tick()
        if self.runtime.situation.episode:
            self._lingered = 0
        else:
            self._hand_over()
            self._lingered += 1
            resting = self._lingered > LINGER_TICKS and not self.arbiter.driven
            if resting:
                # Nothing moves until the next episode: no physics for a scene about to be reset.
                self._timeline.at(
                    max(due_ns + self._period_ns, self._begins_ns(due_ns)), self._tick
                )
                return
        self._timeline.at(due_ns + self._period_ns, self._tick)

    def _begins_ns(self, now_ns: int) -> int:
        """Return the first tick at which an episode may begin; a resting robot looks once a second.

        Later ticks keep the phase of the earlier ones, so that robots stay staggered.
        """
        begins_ns = self.runtime.may_begin_ns
        if begins_ns <= now_ns:
            begins_ns = now_ns + 1_000_000_000
        periods = max(1, -(-(begins_ns - now_ns) // self._period_ns))
        return now_ns + periods * self._period_ns

    def _tell(self, moment: Moment) -> None:
        if moment.situation.episode:
            if moment.situation.purpose == "eval":
                self.times.held_out += 1
            elif self.arbiter.driven:
                self.times.driven += 1
            else:
                self.times.policy += 1
        self._tell_room(self, moment)

    def _hand_over(self) -> None:
        self.recorder.drain()
        while (manifest := self.spool.head()) is not None:
            uid = manifest.header.episode
            parts = [self.spool.part(uid, ref.index) for ref in manifest.parts]
            self.spool.delete(uid)
            self._closed(self, manifest, parts)
