"""A robot whose control loop a test ticks by hand: fake driver and clock, all else real."""

import random
from collections.abc import Callable
from pathlib import Path

from fleet.agent.arbiter import Arbiter
from fleet.agent.episodes import Planner, Progress
from fleet.agent.policies import PolicyKeeper
from fleet.agent.recorder import Recorder
from fleet.agent.runtime import Runtime
from fleet.agent.situation import Moment
from fleet.agent.spool import Spool
from fleet.agent.trials import Trials
from fleet.protocol import messages as m
from fleet.protocol.control import ControlLabel, Lease
from fleet.protocol.episode import EpisodeManifest, sha256_of
from fleet.protocol.spec import PolicyRef
from learning.core.policies.base import save_policy
from tests.agent.making import column
from tests.fakes import SPEC, TASK, FakeClock, FakeDriver, fake_policy

# Who chose a recorded step.
P, H, T, N = (
    ControlLabel.POLICY,
    ControlLabel.HUMAN,
    ControlLabel.TRANSITION,
    ControlLabel.NONE,
)
TICK_S = 1 / SPEC.control_hz
ASSIGNMENT = m.Assignment(tasks=(TASK,), evaluate_every=0, eval_seeds=(900, 901), reset_s=0.5)


class Robot:
    """A whole agent but for its link, with the test as every thread."""

    def __init__(self, folder: Path, **driver: object) -> None:
        self.clock = FakeClock()
        self.driver = FakeDriver(**driver)
        self.spool = Spool(folder)
        self.arbiter = Arbiter(SPEC, self.clock)
        self.recorder = Recorder(self.spool)
        self.reports: list[m.PolicyReport] = []
        self.policies, self.trial_policies = (
            PolicyKeeper(
                folder / "state" / name,
                SPEC,
                self.clock,
                server="http://127.0.0.1:9",
                token="t",
                report=self.reports.append,
            )
            for name in ("policies", "trial_policies")
        )
        self.planner = Planner(Progress(), random.Random(1))
        self.telemetry: list[Moment] = []
        self.runtime = Runtime(
            robot="robot-1",
            driver=self.driver,
            clock=self.clock,
            arbiter=self.arbiter,
            planner=self.planner,
            policies=self.policies,
            recorder=self.recorder,
            spool=self.spool,
            tell=self.telemetry.append,
            trials=Trials(self.trial_policies, self.planner, self.clock),
        )
        self.seq = 0

    def publish(self, number: int, bias: float = 0.0) -> None:
        artifact = save_policy(fake_policy((bias, 0.0, 0.2)))
        ref = PolicyRef(
            number=number, sha256=sha256_of(artifact), url="/w", size_bytes=len(artifact)
        )
        self.policies.offer(m.PolicyAnnouncement(policy=ref, weights=artifact))
        self.policies.work()

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.arbiter.heard()
            self.runtime.tick()
            self.clock.advance(TICK_S)

    def tick_until(self, condition: Callable[[], bool], limit: int = 500) -> int:
        for count in range(limit):
            if condition():
                return count
            self.tick()
        raise AssertionError("it does not happen")

    def begin(self) -> None:
        self.tick_until(lambda: bool(self.runtime.situation.episode))

    def finish(self) -> EpisodeManifest:
        """Tick to the end of the episode and return what was recorded."""
        self.tick_until(lambda: not self.runtime.situation.episode)
        return self.recorded()

    def recorded(self) -> EpisodeManifest:
        self.recorder._queue.put(None)
        self.recorder._run()
        manifest = list(self.spool._closed.values())[-1]
        assert isinstance(manifest, EpisodeManifest)
        return manifest

    def drive(self, epoch: int = 1, x: float = -0.5) -> None:
        self.seq += 1
        answer = self.arbiter.handle(
            m.Teleop(epoch=epoch, seq=self.seq, action=(x, 0, -1), t_wall_ns=self.clock.wall_ns())
        )
        assert answer is not None
        assert answer.accepted, answer.reason

    def grant(self, epoch: int = 1) -> m.Acknowledged | None:
        return self.arbiter.handle(m.LeaseGranted(lease=Lease(epoch=epoch, holder="ada")))

    def hand_back(self, epoch: int = 1) -> None:
        self.arbiter.handle(m.LeaseEnded(epoch=epoch, how="hand_back"))

    def labels(self, manifest: EpisodeManifest) -> list[int]:
        return column(self.spool, manifest, "control_mode").tolist()
