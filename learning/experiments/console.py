"""What experiments do alike at the command line: work in a folder, report, end in one line."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from learning.experiments.analysis import last_line
from learning.experiments.stages import open_experiment
from learning.experiments.system import ROOT


def say(text: str) -> None:
    """Tell what happens; the last line of standard output is the result alone."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def run_in_folder(
    name: str,
    settings: Mapping[str, Any],
    run: Callable[[Path], Mapping[str, object]],
    *,
    report: str = "report.md",
) -> int:
    """Run an experiment in the folder to resume, or a new one; returns the exit status.

    Args:
        name: The experiment's, the beginning of its folder's.
        settings: What it runs with: only an experiment of equal settings is resumed.
        run: Works in the folder, writes the outputs, and returns the result.
        report: The file of the folder to print at the end.
    """
    root = Path(os.environ.get("OUT") or ROOT / "var" / "experiments")
    folder = open_experiment(root, name, settings, fresh=bool(os.environ.get("FRESH")))
    say(f"{name} in {folder}")
    # SIGTERM ends like Ctrl-C: through every context manager, so that nothing is left running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result = run(folder)
    except KeyboardInterrupt:
        say(f"interrupted; the same command goes on in {folder}")
        return 130
    say(f"outputs in {folder}")
    with contextlib.suppress(OSError):
        print((folder / report).read_text())
    print(last_line(result))
    return 0
