"""Episodes played by the driver alone, as fast as the machine allows: scripts and policies.

The scripts change their skill within an episode (fast, slow, sloppy), because that is when an
advantage says something a whole episode's outcome does not: behaviour that varies only between
episodes is told apart by filtering episodes.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from fleet.agent.drivers.base import Driver, Reading
from fleet.protocol.control import ControlLabel, Controller
from fleet.protocol.episode import (
    EpisodeHeader,
    EpisodeManifest,
    Part,
    PartRef,
    Step,
    decode_manifest,
    encode_manifest,
    encode_part,
    open_part,
    sha256_of,
)
from fleet.protocol.spec import TaskSpec

_NAMESPACE = uuid.UUID("c1f0a3a8-5f0e-4b53-9a61-2f5b0f1c7d10")
SKILLS = ("fast", "slow", "sloppy")
# How many ticks a script keeps its skill.
SKILL_TICKS = (15, 45)
SLOW = 0.4
# Of a sloppy script, in the action's unit: an offset that lasts, and noise at each tick.
SLOPPY_OFFSET = 0.45
SLOPPY_NOISE = 0.4

Act = Callable[[Reading], np.ndarray]


class MixedSkill:
    """The task's expert, whose skill changes every 15 to 44 ticks."""

    def __init__(self, task_name: str, generator: np.random.Generator) -> None:
        self._task = task_name
        self._generator = generator
        self._left = 0
        self._skill = ""
        self._offset = np.zeros(3)

    def __call__(self, reading: Reading) -> np.ndarray:
        """Return the action, float32 (4,) in [-1, 1]."""
        from fleet.agent.drivers.experts import expert_action

        if not self._left:
            others = [skill for skill in SKILLS if skill != self._skill]
            self._skill = others[int(self._generator.integers(len(others)))]
            self._left = int(self._generator.integers(*SKILL_TICKS))
            self._offset = self._generator.normal(scale=SLOPPY_OFFSET, size=3)
        self._left -= 1
        action = expert_action(self._task, reading.privileged).astype(np.float64)
        if self._skill == "slow":
            action[:3] *= SLOW
        elif self._skill == "sloppy":
            noise = self._generator.normal(scale=SLOPPY_NOISE, size=3)
            action[:3] += self._offset + noise
        return np.clip(action, -1.0, 1.0).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Played:
    """One episode: how it went, and its record where one was asked for."""

    task: str
    seed: int
    success: bool
    ticks: int
    manifest: EpisodeManifest | None = None
    part: bytes = b""


def play(
    driver: Driver,
    task: TaskSpec,
    seed: int,
    act: Act,
    *,
    held_out: bool = False,
    record_as: str = "",
) -> Played:
    """Let `act` do the task once.

    Args:
        driver: Of a robot without cameras.
        task: With its timeout.
        seed: Of the layout.
        act: Called with each reading; what it returns is clipped and executed.
        held_out: Draw the layout as an evaluation does.
        record_as: Who acts, to record the episode; empty keeps no record.
    """
    spec = driver.spec
    low, high = np.array(spec.action_low, np.float32), np.array(spec.action_high, np.float32)
    driver.reset(task, seed=seed, held_out=held_out)
    steps: list[Step] = []
    success = False
    for tick in range(task.timeout_ticks):
        reading = driver.read(images=False)
        success = reading.success
        if success:
            break
        action = np.clip(act(reading), low, high).astype(np.float32)
        if record_as:
            steps.append(
                Step(
                    step=tick,
                    t_mono_ns=time.monotonic_ns(),
                    t_wall_ns=time.time_ns(),
                    state=reading.state,
                    action=action,
                    policy_action=action,
                    control_mode=ControlLabel.POLICY,
                    controller=Controller.POLICY,
                    reward=reading.reward,
                )
            )
        driver.apply(action)
    else:
        tick = task.timeout_ticks
        success = driver.read(images=False).success
    if not steps:
        return Played(task.name, seed, success, tick)
    header = EpisodeHeader(
        episode=str(uuid.uuid5(_NAMESPACE, f"{record_as}/{task.name}/{seed}")),
        robot=record_as,
        task=task,
        instruction=task.instruction,
        seed=seed,
        purpose="train",
        spec=spec,
        started_wall_ns=steps[0].t_wall_ns,
    )
    part = encode_part(header, steps)
    ref = PartRef(
        index=0, sha256=sha256_of(part), size_bytes=len(part), first_step=0, steps=len(steps)
    )
    manifest = EpisodeManifest(
        header=header,
        ended_wall_ns=time.time_ns(),
        steps=len(steps),
        outcome="success" if success else "timeout",
        judge="robot",
        parts=(ref,),
        control_period_s=1.0 / spec.control_hz,
    )
    return Played(task.name, seed, success, tick, manifest, part)


def write_played(folder: Path, episodes: Iterable[Played]) -> None:
    """Keep recorded episodes in a folder that appears whole or not at all."""
    scratch = folder.with_name(f".{folder.name}.writing")
    scratch.mkdir(parents=True, exist_ok=True)
    manifests = []
    for played in episodes:
        if played.manifest is not None:
            (scratch / f"{played.manifest.parts[0].sha256}.arrow").write_bytes(played.part)
            manifests.append(msgspec.json.decode(encode_manifest(played.manifest)))
    (scratch / "manifests.json").write_text(json.dumps(manifests))
    scratch.rename(folder)


def read_played(folder: Path) -> Iterator[tuple[EpisodeManifest, Part]]:
    """Yield the episodes of a folder in the order they were played."""
    for manifest in json.loads((folder / "manifests.json").read_text()):
        decoded = decode_manifest(json.dumps(manifest).encode())
        yield decoded, open_part(str(folder / f"{decoded.parts[0].sha256}.arrow"))
