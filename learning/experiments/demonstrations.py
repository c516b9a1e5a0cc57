"""Record demonstrations by the scripted experts: `python -m learning.experiments.demonstrations`.

Writes `DIR/<uid>/part-0000.arrow` and `manifest.json` for each success, in the same format as a
robot's own episodes. The same arguments give the same episodes, and what exists is not made again,
so an interrupted run goes on where it stopped.
"""

import argparse
import multiprocessing
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import simplejpeg
from tqdm import tqdm

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
from fleet.protocol.simulation import (
    BASE_LAYOUT,
    DEMONSTRATION_SEEDS_FROM,
    TASKS,
    ObservationKind,
    task_named,
)
from fleet.protocol.spec import TaskSpec

ROBOT = "demonstrator"
JPEG_QUALITY = 90
# An expert that fails this often in a row is broken, or the slice of layouts is not for it.
MAX_FAILURES_IN_A_ROW = 20
_NAMESPACE = uuid.UUID("5b6f0f3c-6a54-4f7e-9f50-0f5c3fb7a3d1")


@dataclass(frozen=True, slots=True)
class Order:
    """What one worker records: `count` successes of one task in one slice of its layouts."""

    folder: Path
    task: str
    count: int
    full_range: bool
    observation: ObservationKind


def demonstrated_task(name: str, *, full_range: bool = False) -> TaskSpec:
    """Return the task with the slice of layouts its demonstrations come from."""
    low, high = (0.0, 1.0) if full_range else BASE_LAYOUT[name]
    return msgspec.structs.replace(task_named(name), layout_low=low, layout_high=high)


def episode_uid(task: TaskSpec, seed: int, observation: ObservationKind) -> str:
    """Return the uid that a demonstration always has, whoever makes it."""
    key = f"{task.name}/{task.layout_low}-{task.layout_high}/{seed}/{observation}"
    return str(uuid.uuid5(_NAMESPACE, key))


def record(driver, task: TaskSpec, seed: int) -> tuple[EpisodeManifest, bytes] | None:
    """Let the expert do the task once; return the closed episode, or None when it failed.

    Args:
        driver: A `MetaWorldDriver`.
        task: Its slice of layouts is the one drawn from.
        seed: Of the layout.
    """
    from fleet.agent.drivers.experts import expert_action

    spec = driver.spec
    driver.reset(task, seed=seed)
    started_ns = time.time_ns()
    steps: list[Step] = []
    for tick in range(task.timeout_ticks):
        reading = driver.read(images=tick % spec.image_every == 0)
        if reading.success:
            break
        action = expert_action(task.name, reading.privileged)
        steps.append(
            Step(
                step=tick,
                t_mono_ns=time.monotonic_ns(),
                t_wall_ns=time.time_ns(),
                state=reading.state,
                action=action,
                operator_action=action,
                control_mode=ControlLabel.HUMAN,
                controller=Controller.OPERATOR,
                reward=reading.reward,
                images={
                    camera: simplejpeg.encode_jpeg(
                        np.ascontiguousarray(image), quality=JPEG_QUALITY, colorspace="RGB"
                    )
                    for camera, image in reading.images.items()
                },
            )
        )
        driver.apply(action)
    else:
        return None
    header = EpisodeHeader(
        episode=episode_uid(task, seed, "image" if spec.cameras else "state"),
        robot=ROBOT,
        task=task,
        instruction=task.instruction,
        seed=seed,
        purpose="demonstration",
        spec=spec,
        started_wall_ns=started_ns,
    )
    part = encode_part(header, steps)
    ref = PartRef(
        index=0, sha256=sha256_of(part), size_bytes=len(part), first_step=0, steps=len(steps)
    )
    manifest = EpisodeManifest(
        header=header,
        ended_wall_ns=time.time_ns(),
        steps=len(steps),
        outcome="success",
        judge="robot",
        parts=(ref,),
        control_period_s=1.0 / spec.control_hz,
    )
    return manifest, part


def write_episode(folder: Path, manifest: EpisodeManifest, parts: Sequence[bytes]) -> None:
    """Make the episode's folder appear whole or not at all."""
    scratch = Path(tempfile.mkdtemp(dir=folder, prefix=".writing-"))
    try:
        for index, part in enumerate(parts):
            (scratch / f"part-{index:04d}.arrow").write_bytes(part)
        (scratch / "manifest.json").write_bytes(encode_manifest(manifest))
        scratch.chmod(0o755)  # temporary folders are private
        scratch.rename(folder / manifest.header.episode)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fulfil(order: Order) -> tuple[str, int]:
    """Record one order; return its task and how many attempts failed."""
    from fleet.agent.drivers.metaworld import MetaWorldDriver

    task = demonstrated_task(order.task, full_range=order.full_range)
    driver = MetaWorldDriver(order.observation)
    done = failed = in_a_row = 0
    seed = DEMONSTRATION_SEEDS_FROM
    while done < order.count:
        if (order.folder / episode_uid(task, seed, order.observation)).is_dir():
            done, in_a_row = done + 1, 0
        elif (made := record(driver, task, seed)) is None:
            failed, in_a_row = failed + 1, in_a_row + 1
            if in_a_row >= MAX_FAILURES_IN_A_ROW:
                raise RuntimeError(f"the expert of {order.task} failed {in_a_row} times in a row")
        else:
            manifest, part = made
            write_episode(order.folder, manifest, [part])
            done, in_a_row = done + 1, 0
        seed += 1
    driver.close()
    return order.task, failed


def demonstrate(
    folder: Path,
    *,
    tasks: tuple[str, ...] = tuple(task.name for task in TASKS),
    per_task: int = 10,
    full_range: bool = False,
    observation: ObservationKind = "image",
    processes: int = 2,
) -> dict[str, int]:
    """Fill `folder` with demonstrations and return the failed attempts of each task.

    Called twice it makes nothing twice. Only successes are kept.

    Raises:
        RuntimeError: An expert keeps failing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    orders = [Order(folder, task, per_task, full_range, observation) for task in tasks]
    # Spawned, so that no OpenGL context is inherited.
    with multiprocessing.get_context("spawn").Pool(min(processes, len(orders))) as pool:
        progress = tqdm(pool.imap_unordered(_fulfil, orders), "demonstrations", len(orders))
        return dict(progress)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--per-task", type=int, default=10)
    parser.add_argument("--tasks", nargs="+", default=[task.name for task in TASKS])
    parser.add_argument("--full-range", action="store_true")
    parser.add_argument("--state", action="store_true", help="privileged state, no cameras")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    arguments = parser.parse_args()
    failed = demonstrate(
        arguments.out,
        tasks=tuple(arguments.tasks),
        per_task=arguments.per_task,
        full_range=arguments.full_range,
        observation="state" if arguments.state else "image",
        processes=arguments.processes,
    )
    for task, count in failed.items():
        print(f"{task}: {arguments.per_task} successes kept, {count} failed attempts dropped")


if __name__ == "__main__":
    main()
