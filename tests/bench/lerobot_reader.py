"""Runs in LeRobot's environment, without ours: keeps frames its way, and reads them at random.

    python lerobot_reader.py FOLDER     FOLDER holds an NPZ an episode

A line in is a line out: `version`, or `video|pictures FRAMES SEED` for frames a second.
"""

import logging
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset

FPS = 10

try:
    # LeRobot's default; it needs FFmpeg's libraries on the system.
    import torchcodec.decoders  # noqa: F401

    BACKEND = "torchcodec"
except (ImportError, RuntimeError):
    BACKEND = "pyav"


def keep(folder: Path, name: str) -> LeRobotDataset:
    """Return a dataset of the episodes in `folder`, as video or as pictures."""
    episodes = [dict(np.load(path)) for path in sorted(folder.glob("*.npz"))]
    cameras = [key for key in episodes[0] if key not in ("state", "action")]
    features = {
        key: {"dtype": "float32", "shape": episodes[0][key].shape[1:], "names": None}
        for key in ("state", "action")
    }
    for camera in cameras:
        features[f"observation.images.{camera}"] = {
            "dtype": "video" if name == "video" else "image",
            "shape": episodes[0][camera].shape[1:],
            "names": ["height", "width", "channels"],
        }
    root = folder / name
    made = LeRobotDataset.create(
        f"bench/{name}", fps=FPS, features=features, root=root, use_videos=name == "video"
    )
    for episode in episodes:
        for t in range(len(episode["state"])):
            frame = {key: episode[key][t] for key in ("state", "action")}
            frame |= {f"observation.images.{camera}": episode[camera][t] for camera in cameras}
            made.add_frame(frame | {"task": "bench"})
        made.save_episode()
    made.finalize()
    return LeRobotDataset(f"bench/{name}", root=root, video_backend=BACKEND)


def rate(dataset: LeRobotDataset, frames: int, seed: int) -> float:
    """Return frames a second over so many random draws."""
    rows = np.random.default_rng(seed).integers(len(dataset), size=frames).tolist()
    started = time.perf_counter()
    for row in rows:
        dataset[row]
    return frames / (time.perf_counter() - started)


def main() -> None:
    """Answer until the input ends."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    # Whatever its libraries print would be taken for an answer.
    answers, sys.stdout = sys.stdout, sys.stderr
    kept: dict[str, LeRobotDataset] = {}
    for line in sys.stdin:
        words = line.split()
        if words == ["version"]:
            print(version("lerobot"), "with", BACKEND, file=answers, flush=True)
            continue
        name, frames, seed = words
        if name not in kept:
            kept[name] = keep(Path(sys.argv[1]), name)
            rate(kept[name], 50, seed=10_000)
        print(rate(kept[name], int(frames), int(seed)), file=answers, flush=True)


if __name__ == "__main__":
    main()
