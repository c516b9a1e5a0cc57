"""Stages of an experiment, whose results are kept: an interrupted one goes on where it was."""

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, complete or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(part, path)


class Stages:
    """The finished stages of one experiment: a JSON file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "stages").mkdir(parents=True, exist_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / "stages" / f"{name}.json"

    def done(self, name: str) -> bool:
        """Say whether a stage is finished."""
        return self._path(name).exists()

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return a stage's result, computing it only when it is not there yet.

        What is returned has been through JSON in either case, so that a resumed experiment
        computes with the same values as one that was never interrupted.
        """
        path = self._path(name)
        if not path.exists():
            write_json(path, compute())
        return json.loads(path.read_text())


def open_experiment(
    root: Path, name: str, settings: Mapping[str, Any], *, fresh: bool = False
) -> Path:
    """Return the folder to work in: the newest unfinished one of equal settings, or a new one.

    Args:
        root: Where experiments lie.
        name: The experiment's name, the beginning of its folder's.
        settings: What it runs with; kept in `settings.json`.
        fresh: Never resume.
    """
    wanted = json.loads(json.dumps(settings))
    for folder in sorted(root.glob(f"{name}-*"), reverse=True):
        kept = folder / "settings.json"
        unfinished = kept.exists() and not (folder / "result.json").exists()
        if unfinished and not fresh and json.loads(kept.read_text()) == wanted:
            return folder
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    folder = root / f"{name}-{stamp}"
    count = 1
    while folder.exists():
        count += 1
        folder = root / f"{name}-{stamp}-{count}"
    folder.mkdir(parents=True)
    write_json(folder / "settings.json", wanted)
    return folder
