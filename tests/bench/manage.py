"""Management commands of a system that does not run now."""

import os
import subprocess
import sys
from pathlib import Path

from learning.experiments.system import ROOT


def manage(var: Path, *words: str) -> None:
    """Run a command in the installation in `var`. Raises CalledProcessError when it fails."""
    subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env={**os.environ, "SOP_VAR": str(var)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
