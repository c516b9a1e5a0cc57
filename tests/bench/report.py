"""What a benchmark found: values with their spread, the table, the file, the last line."""

import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from learning.experiments.analysis import quantile

PACKAGES = (
    "torch",
    "numpy",
    "mujoco",
    "Django",
    "channels",
    "daphne",
    "celery",
    "redis",
    "pyarrow",
)


@dataclass(frozen=True, slots=True)
class Measure:
    """One key of the result: its figure, and the values it was taken from."""

    key: str
    figure: float | int | None
    unit: str
    # What it may be at most or at least, in words of the target; empty when there is none.
    target: str = ""
    values: Sequence[float] = field(default=(), repr=False)
    # How it was measured, or why it could not be.
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target or a figure."""
        if not self.target or self.figure is None or not math.isfinite(self.figure):
            return None
        sign, limit = self.target.split()[:2]
        bound = float(limit)
        return self.figure <= bound if sign == "<=" else self.figure >= bound

    def summary(self) -> dict[str, Any]:
        """Return the measure as plain JSON values, its spread included."""
        values = list(self.values)
        spread = {
            "n": len(values),
            "min": quantile(values, 0.0),
            "p05": quantile(values, 0.05),
            "median": quantile(values, 0.5),
            "p95": quantile(values, 0.95),
            "max": quantile(values, 1.0),
        }
        return {
            "figure": clean(self.figure),
            "unit": self.unit,
            "target": self.target,
            "met": self.met,
            "note": self.note,
            **({k: clean(v) for k, v in spread.items()} if values else {"n": 0}),
        }


def clean(value: float | int | None) -> float | int | None:
    """Return a number that JSON can hold, to four significant decimals; None for the rest."""
    if value is None or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.5g}")


def machine() -> dict[str, Any]:
    """Return what the figures depend on: cores, memory, system, versions."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_1m": round(os.getloadavg()[0], 2),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def table(measures: Sequence[Measure]) -> str:
    """Return the measures as an aligned table."""
    rows = [("key", "figure", "target", "", "n", "median", "p95", "min", "max")]
    for one in measures:
        s = one.summary()
        verdict = {True: "met", False: "MISSED", None: ""}[one.met]
        spread = [_text(s.get(name)) for name in ("median", "p95", "min", "max")]
        rows.append(
            (one.key, f"{_text(s['figure'])} {one.unit}", one.target, verdict, str(s["n"]), *spread)
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    notes = [f"{one.key}: {one.note}" for one in measures if one.note]
    return "\n".join([*lines, "", *notes])


def _text(value: float | int | None) -> str:
    return "" if value is None else f"{value:g}"


def last_line(measures: Sequence[Measure]) -> str:
    """Return every key with its figure as one line of strict JSON."""
    return json.dumps({one.key: clean(one.figure) for one in measures}, allow_nan=False)
