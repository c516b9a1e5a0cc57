"""Management commands in an installation, beside its processes or without them."""

import os
import subprocess
import sys
from pathlib import Path

from learning.experiments.system import ROOT


def manage(var: Path, *words: str) -> str:
    """Run a command in the installation in `var`; returns what it printed.

    Raises:
        CalledProcessError: It failed.
    """
    done = subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env={**os.environ, "SOP_VAR": str(var)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


def shell(var: Path, code: str) -> str:
    """Run Python where the ORM works; returns what it printed."""
    return manage(var, "shell", "--no-imports", "-c", code)
