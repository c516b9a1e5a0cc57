"""A robot on a rail, its expert and its demonstrations: a task that is learned in a minute."""

import uuid
from dataclasses import dataclass, field

import numpy as np

from fleet.agent.drivers.base import Reading
from fleet.protocol.control import ControlLabel, Controller
from fleet.protocol.episode import (
    EpisodeHeader,
    EpisodeManifest,
    PartRef,
    Step,
    encode_manifest,
    encode_part,
    sha256_of,
)
from fleet.protocol.spec import RobotSpec, TaskSpec
from learning.core.policies.base import PolicyConfig, build_policy, save_policy
from learning.core.seeding import seed_everything

SPEC = RobotSpec(
    embodiment="rail",
    control_hz=20.0,
    action_names=("x", "gripper"),
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    action_slew=(0.25, 0.5),
    state_names=("x", "goal"),
    cameras=(),
    simulated=True,
)
TASK = TaskSpec(name="reach", instruction="reach the mark", timeout_ticks=100)
CONFIG = PolicyConfig(
    kind="state",
    state_dim=2,
    action_dim=2,
    width=32,
    action_low=SPEC.action_low,
    action_high=SPEC.action_high,
)
SPEED = 0.02


@dataclass
class RailDriver:
    """A carriage on a rail, to be brought to a mark that the seed places on either side."""

    spec: RobotSpec = SPEC
    x: float = 0.0
    goal: float = 1.0
    seeds: list[int] = field(default_factory=list)
    ticks: int = 0

    def reset(self, task, *, seed, held_out=False):
        self.seeds.append(seed)
        rng = np.random.default_rng([seed, int(held_out)])
        self.x, self.goal = 0.0, float(rng.choice([-1.0, 1.0]) * rng.uniform(0.4, 0.8))

    def read(self, *, images):
        gap = abs(self.goal - self.x)
        return Reading(
            state=np.array([self.x, self.goal], np.float32),
            success=gap < 0.05,
            reward=10 * (1 - gap),
            privileged=(self.x, self.goal),
        )

    def apply(self, action):
        self.ticks += 1
        self.x += SPEED * float(action[0])

    def close(self):
        pass


def rail_expert(task, privileged):
    x, goal = privileged
    return np.array([np.clip((goal - x) / SPEED, -1, 1), 0.0], np.float32)


def rail_base():
    """Return the artifact of a policy that was never trained."""
    seed_everything(0)
    return save_policy(build_policy(CONFIG))


def write_demonstrations(folder, seeds=(7,)):
    """Write the expert's episodes as demonstrations are written."""
    for seed in seeds:
        driver, steps = RailDriver(), []
        driver.reset(TASK, seed=seed)
        while not (reading := driver.read(images=False)).success:
            action = rail_expert(TASK.name, reading.privileged)
            steps.append(
                Step(
                    step=len(steps),
                    t_mono_ns=len(steps),
                    t_wall_ns=len(steps),
                    state=reading.state,
                    action=action,
                    operator_action=action,
                    control_mode=ControlLabel.HUMAN,
                    controller=Controller.OPERATOR,
                )
            )
            driver.apply(action)
        header = EpisodeHeader(
            episode=str(uuid.uuid5(uuid.NAMESPACE_OID, str(seed))),
            robot="demonstrator",
            task=TASK,
            instruction=TASK.instruction,
            seed=seed,
            purpose="demonstration",
            spec=SPEC,
            started_wall_ns=0,
        )
        part = encode_part(header, steps)
        manifest = EpisodeManifest(
            header=header,
            ended_wall_ns=1,
            steps=len(steps),
            outcome="success",
            judge="robot",
            parts=(
                PartRef(
                    index=0,
                    sha256=sha256_of(part),
                    size_bytes=len(part),
                    first_step=0,
                    steps=len(steps),
                ),
            ),
            control_period_s=1 / SPEC.control_hz,
        )
        own = folder / header.episode
        own.mkdir(parents=True)
        (own / "part-0000.arrow").write_bytes(part)
        (own / "manifest.json").write_bytes(encode_manifest(manifest))
    return folder
