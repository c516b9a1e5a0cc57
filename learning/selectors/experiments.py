"""Past experiments: folders that `make experiment` wrote. Read, never written, never trusted.

Only names of a known form reach the disk, and what they lead to must lie in the folder itself, so
that no request can name anything else.
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings

from learning.exceptions import NotFound

# An experiment's name and when it began, as `learning/experiments/stages.py` writes them.
_FOLDER = re.compile(r"([a-z][a-z0-9_]{0,39})-(\d{8}-\d{6})(?:-\d{1,3})?", re.ASCII)
# What may be served, with its type. Nothing a browser would run is among it.
FILES = {
    "plot.png": "image/png",
    "result.json": "application/json",
    "curve.json": "application/json",
    "settings.json": "application/json",
    "table.md": "text/markdown; charset=utf-8",
}
# Larger ones are not read into a page; they can still be fetched.
MAX_SHOWN_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Experiment:
    """One run of an experiment."""

    # Of its folder, and of the command that made it.
    folder: str
    name: str
    began: datetime
    # The object it ended with, what it ran with; empty while unfinished or unreadable.
    result: dict[str, Any]
    settings: dict[str, Any]
    files: tuple[str, ...]

    @property
    def finished(self) -> bool:
        """Whether it has a result."""
        return bool(self.result)


def experiments() -> list[Experiment]:
    """Return every experiment, newest first."""
    root = _root()
    if not root.is_dir():
        return []
    found = [_read(path) for path in root.iterdir() if _is_experiment(path)]
    return sorted(found, key=lambda e: (e.began, e.folder), reverse=True)


def experiment_named(folder: str) -> Experiment:
    """Return one experiment. Raises NotFound."""
    path = _root() / folder
    if not _FOLDER.fullmatch(folder) or not _is_experiment(path):
        raise NotFound("there is no such experiment")
    return _read(path)


def experiment_file(folder: str, name: str) -> tuple[Path, str]:
    """Return where a file of an experiment is, and its type. Raises NotFound."""
    experiment = experiment_named(folder)
    if name not in experiment.files:
        raise NotFound("there is no such file")
    return _root() / folder / name, FILES[name]


def table_of(experiment: Experiment) -> list[list[str]]:
    """Return the cells of its Markdown table, the header first; empty without one."""
    if "table.md" not in experiment.files:
        return []
    text = _text(_root() / experiment.folder / "table.md")
    rows = [line.strip().strip("|").split("|") for line in text.splitlines() if "|" in line]
    cells = [[cell.strip().strip("*") for cell in row] for row in rows]
    return [row for row in cells if not all(set(cell) <= set("-: ") for cell in row)]


def _root() -> Path:
    return Path(settings.SOP_EXPERIMENTS)


def _is_experiment(path: Path) -> bool:
    # A link would lead out of the folder.
    return bool(_FOLDER.fullmatch(path.name)) and path.is_dir() and not path.is_symlink()


def _read(path: Path) -> Experiment:
    match = _FOLDER.fullmatch(path.name)
    assert match is not None
    try:
        began = datetime.strptime(match[2], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        # Digits that are no date: the folder's own time.
        began = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    result = _json(path / "result.json")
    inner = result.get("result")
    return Experiment(
        folder=path.name,
        name=match[1],
        began=began,
        result=inner if isinstance(inner, dict) else result,
        settings=_json(path / "settings.json"),
        files=tuple(name for name in FILES if _is_file(path / name)),
    )


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_text(path))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(path: Path) -> str:
    try:
        if not _is_file(path) or path.stat().st_size > MAX_SHOWN_BYTES:
            return ""
        return path.read_text(errors="replace")
    except OSError:
        return ""
