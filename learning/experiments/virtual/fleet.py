"""Robots, operators and learner together on one timeline.

robot ─ episode ends ─ upload_s ─▶ index ─▶ step, step, … ─ gate ─ broadcast_s ─▶ robots
  ▲                                                                                │
  └───────────────────── takes the version before its next episode ────────────────┘
"""

import gc
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from fleet.agent.drivers.base import Driver
from fleet.agent.drivers.experts import expert_action
from fleet.agent.episodes import Progress
from fleet.agent.teleop.desk import Expert
from fleet.protocol import messages as m
from fleet.protocol.episode import EpisodeManifest
from fleet.protocol.simulation import CONTROL_HZ, EVAL_SEEDS
from fleet.protocol.spec import PolicyRef, TaskSpec
from learning.experiments.virtual.learner import Announced, VirtualLearner
from learning.experiments.virtual.rates import Rates
from learning.experiments.virtual.robots import VirtualRobot
from learning.experiments.virtual.room import ControlRoom
from learning.experiments.virtual.timeline import Timeline, VirtualClock

# Layouts that one robot of one run can use up; seeds of runs and robots never overlap.
SEEDS_A_ROBOT = 100_000
ROBOTS_A_RUN = 64


@dataclass(slots=True)
class Tally:
    """What has happened so far; times are simulated seconds."""

    t_s: float = 0.0
    # Training episodes, and how they ended.
    episodes: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    # Time robots acted in training episodes, and of that time driven by operators.
    robot_s: float = 0.0
    human_s: float = 0.0
    # Time operators held robots, resets they waited for included.
    held_s: float = 0.0
    takeovers: int = 0
    # Time robots needed help and had none.
    unmet_s: float = 0.0
    steps: int = 0
    versions: int = 0
    rejected: int = 0
    # Samples the learner may draw, online and offline.
    online_samples: int = 0
    offline_samples: int = 0
    # Online draws over all draws, mean over tasks, as the sampler has it now.
    omega: float = 0.0


class VirtualFleet:
    """A fleet that learns, on a virtual clock; a context manager, for it has a scratch folder."""

    def __init__(
        self,
        *,
        drivers: Sequence[Driver],
        tasks: Sequence[TaskSpec],
        learner: VirtualLearner,
        rates: Rates,
        operators: int,
        seed: int,
        scratch: Path,
        evaluate_every: int = 0,
        human_budget_s: float | None = None,
        start_s: float = 0.0,
        progress: Sequence[Progress] | None = None,
        expert: Expert = expert_action,
    ) -> None:
        """Put a fleet together that has no version yet: publish one, then run.

        Args:
            drivers: One for each robot; none at all is a learner by itself.
            tasks: What the robots do, each as often.
            learner: What learns.
            rates: How fast.
            operators: Scripted operators over all robots.
            seed: Decides the robots' tasks and layouts; 0 to 80.
            scratch: Where robots keep spools and versions; best in memory.
            evaluate_every: One episode in this many is held out, as on the running system; 0 is
                none, because the virtual clock evaluates beside the run.
            human_budget_s: Seconds operators may hold robots; None is without a limit.
            start_s: Where the clock begins, when a run is continued.
            progress: How far each robot was in its layouts, when a run is continued.
            expert: What operators do.
        """
        self.learner, self.rates = learner, rates
        self.timeline = Timeline(VirtualClock(round(start_s * 1e9)))
        self.tally = Tally()
        # Whether the learner takes steps; offline rounds let it rest while robots act.
        self.learning = True
        self.version: Announced | None = None
        # Called with every episode when it ends, before it is uploaded.
        self.keep: Callable[[EpisodeManifest, list[bytes]], object] = lambda manifest, parts: None
        self._last_published_ns = self.timeline.clock.now_ns
        self._period_s = 1.0 / CONTROL_HZ
        self.progress = list(progress or (Progress() for _ in drivers))
        self._exit = ExitStack()
        self._scratch = Path(self._exit.enter_context(tempfile.TemporaryDirectory(dir=scratch)))
        self.room = ControlRoom(
            self.timeline, rates, operators=operators, budget_s=human_budget_s, expert=expert
        )
        self.robots: list[VirtualRobot] = []
        for index, driver in enumerate(drivers):
            robot = VirtualRobot(
                f"robot-{index}",
                driver,
                self.timeline,
                folder=self._scratch / f"robot-{index}",
                seed=seed,
                progress=self.progress[index],
                tell=self.room.telemetry,
                closed=self._closed,
            )
            first_seed = (seed * ROBOTS_A_RUN + index) * SEEDS_A_ROBOT
            robot.runtime.assign(
                m.Assignment(
                    tasks=tuple(tasks),
                    evaluate_every=evaluate_every,
                    eval_seeds=EVAL_SEEDS,
                    train_seed=first_seed,
                    reset_s=rates.reset_s,
                )
            )
            self.room.join(robot)
            # Robots tick one after another within a period, not all at once.
            robot.start(index * self._period_s / len(drivers))
            self.robots.append(robot)
        self.timeline.every(1.0 / rates.updates_per_s, self._learn)

    def __enter__(self) -> Self:
        # What is loaded stays: collecting it at every episode's begin would take longer than
        # the episode.
        gc.collect()
        gc.freeze()
        return self

    def __exit__(self, *error: object) -> None:
        for robot in self.robots:
            robot.stop()
        self._exit.close()
        gc.unfreeze()

    # ---- learning ------------------------------------------------------------------------------

    def _closed(self, robot: VirtualRobot, manifest: EpisodeManifest, parts: list[bytes]) -> None:
        if manifest.header.purpose == "train":
            outcomes = self.tally.outcomes
            outcomes[manifest.outcome] = outcomes.get(manifest.outcome, 0) + 1
            self.tally.episodes += 1
        self.keep(manifest, parts)
        self.timeline.after(self.rates.upload_s, lambda: self.learner.index(manifest, parts))

    def _learn(self) -> None:
        if not self.learning or not self.learner.step():
            return
        due_ns = self._last_published_ns + round(self.rates.publish_every_s * 1e9)
        stepped = self.learner.trainer.step_number - self.learner.published_step
        if stepped >= self.rates.publish_steps and self.timeline.clock.now_ns >= due_ns:
            self.publish()

    def train(self, updates: int) -> None:
        """Take gradient steps while no simulated time passes: what an offline round does."""
        for _ in range(updates):
            self.learner.step()

    def publish(self, *, broadcast_s: float | None = None) -> Announced | None:
        """Send a version of the present weights to every robot, if the gate lets it pass."""
        self._last_published_ns = self.timeline.clock.now_ns
        version = self.learner.publish(self.timeline.now_s)
        if version is None:
            return None
        self.version = version
        ref, artifact = version.ref, version.artifact
        delay_s = self.rates.broadcast_s if broadcast_s is None else broadcast_s
        self.timeline.after(delay_s, lambda: self._announce(ref, artifact))
        return version

    def announce_base(self, artifact: bytes, sha256: str) -> None:
        """Give every robot the policy to begin with, as version 0, at once."""
        ref = PolicyRef(number=0, sha256=sha256, url="memory:0", size_bytes=len(artifact))
        self._announce(ref, artifact)

    def _announce(self, ref: PolicyRef, artifact: bytes) -> None:
        for robot in self.robots:
            robot.offer(m.PolicyAnnouncement(policy=ref, weights=artifact))

    # ---- running -------------------------------------------------------------------------------

    def run(self, seconds: float) -> Tally:
        """Let `seconds` of simulated time pass; return a copy of the tally."""
        self.timeline.run_until(self.timeline.clock.now_ns + round(seconds * 1e9))
        return self.measure()

    def measure(self) -> Tally:
        """Return what has happened so far."""
        tally, learner, period_s = self.tally, self.learner, self._period_s
        tally.t_s = self.timeline.now_s
        tally.robot_s = sum(r.times.policy + r.times.driven for r in self.robots) * period_s
        tally.human_s = sum(r.times.driven for r in self.robots) * period_s
        tally.held_s = self.room.held_s()
        tally.takeovers = self.room.times.takeovers
        tally.unmet_s = self.room.times.unmet_ticks * period_s
        tally.steps = learner.trainer.step_number
        tally.versions, tally.rejected = learner.number, learner.rejected
        samples = learner.buffer.stats().samples
        tally.online_samples = sum(n for (_, online), n in samples.items() if online)
        tally.offline_samples = sum(n for (_, online), n in samples.items() if not online)
        mixtures = learner.trainer.sampler.mixtures(learner.buffer)
        tally.omega = sum(x.omega for x in mixtures) / max(1, len(mixtures))
        return Tally(**{**asdict(tally), "outcomes": dict(tally.outcomes)})
