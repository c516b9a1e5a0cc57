"""What tests put in the place of time, a robot and a network of millions of weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from fleet.agent.drivers.base import Reading
from fleet.protocol.messages import FeedSize
from fleet.protocol.spec import Camera, RobotSpec, TaskSpec
from learning.core.policies.base import Policy, PolicyConfig, register
from learning.core.types import Batch, Observation

SPEC = RobotSpec(
    embodiment="fake",
    control_hz=20.0,
    action_names=("x", "y", "gripper"),
    action_low=(-1.0, -1.0, -1.0),
    action_high=(1.0, 1.0, 1.0),
    action_slew=(0.25, 0.25, 0.5),
    state_names=("x", "y"),
    cameras=(Camera(name="front", width_px=32, height_px=24),),
    image_every=2,
    simulated=True,
)
TASK = TaskSpec(
    name="reach", instruction="reach the mark", paraphrases=("go to the mark",), timeout_ticks=40
)


class FakeClock:
    """Time that passes only when told to; both clocks move together."""

    def __init__(self, *, wall_ns: int = 1_700_000_000_000_000_000) -> None:
        self.now_ns = 1_000_000_000
        self._wall_ahead_ns = wall_ns - self.now_ns

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns + self._wall_ahead_ns

    def sleep_until(self, t_mono_ns: int) -> None:
        self.now_ns = max(self.now_ns, t_mono_ns)

    def advance(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


@dataclass
class FakeDriver:
    """A point that moves by a tenth of the action; success when x passes `goal`."""

    spec: RobotSpec = SPEC
    goal: float = math.inf
    applied: list[np.ndarray] = field(default_factory=list)
    resets: list[tuple[str, int, bool]] = field(default_factory=list)
    image_reads: int = 0
    closed: bool = False
    x: np.ndarray = field(default_factory=lambda: np.zeros(2, np.float32))

    def reset(self, task: TaskSpec, *, seed: int, held_out: bool = False) -> None:
        self.resets.append((task.name, seed, held_out))
        self.x = np.zeros(2, np.float32)

    def read(self, *, images: bool) -> Reading:
        self.image_reads += images
        shown = {c.name: self.render_feed(c.name, "full") for c in self.spec.cameras}
        return Reading(
            state=self.x.copy(),
            images=shown if images else {},
            success=bool(self.x[0] > self.goal),
            reward=float(self.x[0]),
            privileged=(1.0, 2.0),
        )

    def apply(self, action: np.ndarray) -> None:
        self.applied.append(action)
        self.x = self.x + np.float32(0.1) * action[:2]

    def render_feed(self, camera: str, size: FeedSize) -> np.ndarray:
        height, width = (24, 32) if size == "full" else (16, 16)
        return np.full((height, width, 3), 128, np.uint8)

    def close(self) -> None:
        self.closed = True


@register("fake")
class FakePolicy(Policy):
    """Proposes its bias, counting up by 0.01 within a chunk, so that chunk positions show."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.bias = nn.Parameter(torch.zeros(config.action_dim))
        self.calls: list[Observation] = []

    def act(self, observation: Observation) -> tuple[Tensor, float]:
        self.calls.append(observation)
        steps = torch.arange(self.config.horizon)[:, None] * 0.01
        return self.bias.detach() + steps, 0.5

    def loss(self, batch: Batch) -> Tensor:
        return ((batch.action - self.bias) ** 2).mean(dim=(1, 2))


def fake_policy(bias: tuple[float, ...] = (0.5, 0.0, 0.2), *, horizon: int = 8) -> FakePolicy:
    """Return a policy for `SPEC` that looks through its camera."""
    policy = FakePolicy(
        PolicyConfig(
            kind="fake",
            state_dim=len(SPEC.state_names),
            action_dim=len(SPEC.action_names),
            cameras=("front",),
            horizon=horizon,
            execute=4,
        )
    )
    with torch.no_grad():
        policy.bias.copy_(torch.tensor(bias))
    return policy
