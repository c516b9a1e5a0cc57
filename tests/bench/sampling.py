"""Frames a second read at random, over LeRobot's dataset class on the same frames and machine.

LeRobot has an environment of its own, made once (`var/lerobot`, about 3 GB): it brings another
torch. It keeps the frames as video, its default, and again as pictures; both are measured, in turn
with ours, and the key compares with the faster. A frame is one step with all its cameras, state
and action. Ours is read as the learner reads, with its cache of decoded frames at its default
size, and once more without any, where both sides do nothing but decode.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fleet.protocol.episode import Part, decode_manifest, open_part
from fleet.protocol.simulation import robot_spec
from learning.core.buffer import ReplayBuffer
from learning.core.decode import decode_image
from learning.core.learners.base import build_learner
from learning.core.policies.base import PolicyConfig, build_policy
from learning.core.records import record_from
from learning.experiments.analysis import quantile
from learning.services.recipes import Recipe
from tests.bench.report import Measure

LEROBOT = "lerobot==0.4.4"
# LeRobot leaves torchcodec open, which must fit torch to the minor version.
PACKAGES = (LEROBOT, "torch==2.7.1", "torchvision==0.22.1", "torchcodec==0.5")
READER = Path(__file__).with_name("lerobot_reader.py")
FORMATS = ("video", "pictures")
ROUNDS = 5
BATCH = 60
# Frames a round: each side reads for about two seconds.
OURS, UNCACHED, THEIRS = 30_000, 4000, 300
INSTALL_S = 1200


def environment(home: Path) -> Path:
    """Return the Python of LeRobot's environment, made when missing."""
    python = home / "bin" / "python"
    mark = home / LEROBOT
    if not mark.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PACKAGES], check=True, timeout=INSTALL_S, stdout=sys.stderr)
        mark.touch()
    return python


class Frames:
    """Demonstrations of one folder: as a replay buffer, and as plain arrays for somebody else."""

    def __init__(self, folder: Path, cache_bytes: int) -> None:
        spec = robot_spec("image")
        self.px = spec.cameras[0].width_px
        self.cameras = tuple(camera.name for camera in spec.cameras)
        self._paths: dict[str, Path] = {}
        config = PolicyConfig(
            kind="image",
            state_dim=len(spec.state_names),
            action_dim=len(spec.action_names),
            cameras=self.cameras,
            # As recorded: LeRobot's class returns no smaller picture either.
            image_px=self.px,
        )
        rules = build_learner("hg_dagger", build_policy(config))
        self.buffer = ReplayBuffer(config, rules, self._open, cache_bytes=cache_bytes)
        self._parts: list[Part] = []
        for number, path in enumerate(sorted(folder.glob("*/manifest.json")), start=1):
            manifest = decode_manifest(path.read_bytes())
            for ref in manifest.parts:
                self._paths[ref.sha256] = path.parent / f"part-{ref.index:04d}.arrow"
            parts = [self._open(ref.sha256) for ref in manifest.parts]
            self._parts += parts
            self.buffer.add(record_from(manifest, parts, closed_seq=number))

    def _open(self, sha256: str) -> Part:
        return open_part(str(self._paths[sha256]))

    def export(self, folder: Path) -> None:
        """Write one NPZ an episode: state, action and every camera, at the steps with pictures."""
        for number, part in enumerate(self._parts):
            steps = [t for t in range(part.table.num_rows) if part.image(self.cameras[0], t)]
            arrays = {name: part.array(name)[steps] for name in ("state", "action")}
            for camera in self.cameras:
                shown = [decode_image(part.image(camera, t) or b"", self.px) for t in steps]
                arrays[camera] = np.stack(shown).transpose(0, 2, 3, 1)  # (t, ih, iw, c)
            np.savez(folder / f"{number:04d}.npz", **arrays)

    def rate(self, frames: int, seed: int) -> float:
        """Return frames a second over so many random draws."""
        generator = np.random.default_rng(seed)
        started = time.perf_counter()
        for _ in range(frames // BATCH):
            task = generator.integers(len(self.buffer.tasks), size=BATCH)
            rows = self.buffer.draw(task, np.zeros(BATCH, bool), generator)
            self.buffer.gather(rows, generator)
        return frames / (time.perf_counter() - started)


@contextmanager
def lerobot(python: Path, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start the reader on exported frames; it answers a line with a line."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "hf")}
    reader = subprocess.Popen(
        [str(python), str(READER), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        yield reader
    finally:
        reader.kill()
        reader.wait()


def ask(reader: subprocess.Popen[str], question: str) -> str:
    """Return the reader's answer. Raises RuntimeError when it ended instead."""
    assert reader.stdin is not None
    assert reader.stdout is not None
    reader.stdin.write(question + "\n")
    reader.stdin.flush()
    answer = reader.stdout.readline()
    if not answer:
        raise RuntimeError(f"LeRobot's reader ended with {reader.wait()}")
    return answer.strip()


def measure(demonstrations: Path, home: Path) -> list[Measure]:
    """Read the frames of a folder of demonstrations with both, in turn."""
    python = environment(home)
    cached, uncached = Frames(demonstrations, Recipe().cache_bytes), Frames(demonstrations, 0)
    ours: list[float] = []
    decoding: list[float] = []
    theirs: dict[str, list[float]] = {name: [] for name in FORMATS}
    with tempfile.TemporaryDirectory(prefix="sop-lerobot-") as folder:
        cached.export(Path(folder))
        with lerobot(python, Path(folder)) as reader:
            version = ask(reader, "version")
            # Every frame is in the cache, as after the learner's first rounds.
            cached.rate(4 * OURS, seed=ROUNDS)
            for seed in range(ROUNDS):
                for name in FORMATS:
                    theirs[name].append(float(ask(reader, f"{name} {THEIRS} {seed}")))
                ours.append(cached.rate(OURS, seed))
                decoding.append(uncached.rate(UNCACHED, seed))
    fastest = np.max([theirs[name] for name in FORMATS], axis=0)  # (ROUNDS,)
    ratios = (np.array(ours) / fastest).tolist()
    without = (np.array(decoding) / fastest).tolist()
    stats = cached.buffer.stats()
    rates = ", ".join(f"{name} {quantile(theirs[name], 0.5):.0f}" for name in FORMATS)
    return [
        Measure(
            "sample_vs_lerobot",
            quantile(ratios, 0.5),
            "",
            ">= 10",
            ratios,
            f"frames a second at random, {len(cached.cameras)} cameras of {cached.px}²: "
            f"{quantile(ours, 0.5):.0f} in batches of {BATCH} with chunks and words, from "
            f"{stats.frames} frames of which {stats.cached_bytes / 2**20:.0f} MB are kept decoded; "
            f"{quantile(decoding, 0.5):.0f} without a cache, which is "
            f"{quantile(without, 0.5):.1f} times ({min(without):.1f} to {max(without):.1f}); "
            f"LeRobot {version}: {rates}",
        )
    ]


if __name__ == "__main__":
    found = measure(Path(sys.argv[1]), Path(sys.argv[2]))
    print(json.dumps({one.key: one.summary() for one in found}))
