"""Episodes as a robot sends them, without torch: headers, parts and manifests."""

import itertools
import uuid
from dataclasses import dataclass

import numpy as np
import simplejpeg

from fleet.models import Robot, Task
from fleet.protocol.control import Controller
from fleet.protocol.episode import (
    EpisodeHeader,
    EpisodeManifest,
    InterventionSpan,
    PartRef,
    Step,
    encode_manifest,
    encode_part,
    sha256_of,
)
from fleet.protocol.spec import RobotSpec
from learning.models import Episode
from learning.services.ingest import close_episode, store_part

SPEC = RobotSpec(
    embodiment="test",
    control_hz=20.0,
    action_names=("x", "y"),
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    action_slew=(0.2, 0.2),
    state_names=("x", "y", "z"),
    cameras=(),
    simulated=True,
)
_CONTROLLER = {
    0: Controller.POLICY,
    1: Controller.OPERATOR,
    2: Controller.BLEND,
    3: Controller.HOLD,
}
_seeds = itertools.count(1)


@dataclass(frozen=True)
class Recorded:
    """An episode that a robot recorded and did not send yet."""

    uid: uuid.UUID
    parts: tuple[bytes, ...]
    manifest: EpisodeManifest

    def sha256(self, index: int) -> str:
        return sha256_of(self.parts[index])

    @property
    def manifest_json(self) -> bytes:
        return encode_manifest(self.manifest)


def picture(step: int) -> bytes:
    """What every camera sees at a step: a grey that says which."""
    return bytes(
        simplejpeg.encode_jpeg(np.full((16, 16, 3), (step * 20) % 256, np.uint8), quality=90)
    )


def record(
    robot: Robot | None,
    task: Task,
    *,
    modes: tuple[int, ...] = (0,) * 6,
    numbers: tuple[int, ...] | None = None,
    steps_per_part: int = 4,
    purpose: str = "train",
    outcome: str = "success",
    complete: bool = True,
    seed: int | None = None,
    policy_number: int | None = 1,
    policy_sha256: str = "",
    trial: str = "",
    uid: uuid.UUID | None = None,
    spec: RobotSpec = SPEC,
    values: tuple[float, ...] = (),
    value_sha256: str = "c" * 64,
) -> Recorded:
    """`modes` and `numbers` are the control mode and the policy number of each step.

    `values` is what the robot's value function said at each step; empty where it had none.
    """
    uid = uid or uuid.uuid4()
    seed = next(_seeds) if seed is None else seed
    numbers = numbers or (policy_number if policy_number is not None else -1,) * len(modes)
    header = EpisodeHeader(
        episode=str(uid),
        robot=robot.name if robot else "expert",
        task=task.spec(),
        instruction=task.instruction,
        seed=seed,
        purpose=purpose,
        spec=spec,
        started_wall_ns=1_700_000_000_000_000_000,
        policy_number=policy_number,
        policy_sha256=policy_sha256,
        trial=trial,
        value_number=2 if values else None,
        value_sha256=value_sha256 if values else "",
    )
    rng = np.random.default_rng(seed)
    parts, refs = [], []
    for index, first in enumerate(range(0, len(modes), steps_per_part)):
        steps = [
            Step(
                step=i,
                t_mono_ns=i,
                t_wall_ns=i,
                state=rng.normal(size=3).astype(np.float32),
                action=rng.uniform(-1, 1, 2).astype(np.float32),
                control_mode=modes[i],
                controller=_CONTROLLER[modes[i]],
                policy_number=numbers[i],
                images={camera.name: picture(i) for camera in spec.cameras}
                if i % spec.image_every == 0
                else {},
                value=values[i] if values else float("nan"),
            )
            for i in range(first, min(first + steps_per_part, len(modes)))
        ]
        data = encode_part(header, steps, index=index)
        parts.append(data)
        refs.append(
            PartRef(
                index=index,
                sha256=sha256_of(data),
                size_bytes=len(data),
                first_step=first,
                steps=len(steps),
            )
        )
    manifest = EpisodeManifest(
        header=header,
        ended_wall_ns=1_700_000_010_000_000_000,
        steps=len(modes),
        outcome=outcome,
        judge="robot",
        parts=tuple(refs),
        interventions=_spans(modes, values),
        complete=complete,
    )
    return Recorded(uid, tuple(parts), manifest)


def send(recorded: Recorded, robot: Robot | None) -> Episode:
    """Store and close through the ingest service."""
    send_parts(recorded, robot)
    return close_episode(uid=recorded.uid, manifest=recorded.manifest, robot=robot)


def send_parts(recorded: Recorded, robot: Robot | None) -> None:
    for index, data in enumerate(recorded.parts):
        store_part(
            uid=recorded.uid, index=index, data=data, sha256=recorded.sha256(index), robot=robot
        )


def _spans(modes: tuple[int, ...], values: tuple[float, ...]) -> tuple[InterventionSpan, ...]:
    held = [mode in (1, 2) for mode in modes]
    edges = [i for i in range(len(modes) + 1) if [*held, False][i] != [False, *held][i]]
    return tuple(
        InterventionSpan(
            start=start, end=end, epoch=1, operator="ann", value=values[start] if values else None
        )
        for start, end in zip(edges[::2], edges[1::2], strict=True)
    )
