"""What an experiment's system starts from: demonstrations, base policy, rows; before any clock.

Demonstrations (and the base of a state policy) are the same whatever the experiment, so they are
made once and kept beside the experiments; each system gets its own copy.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from fleet.protocol.simulation import (
    BASE_LAYOUT,
    CONTROL_HZ,
    LAYOUT_FROM_TOP,
    TASKS,
    ObservationKind,
    robot_spec,
)
from learning.experiments.system import ROOT

DEMONSTRATIONS_A_TASK = 10


def _run(arguments: list[str], *, var: Path) -> None:
    environment = {
        **os.environ,
        "SOP_VAR": str(var),
        "DJANGO_SETTINGS_MODULE": "sop_web.settings",
        "OMP_NUM_THREADS": "1",
    }
    (var / "logs").mkdir(parents=True, exist_ok=True)
    with (var / "logs" / "prepare.log").open("ab") as log:
        subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=log, check=True
        )


def demonstrations(
    kept: Path, policy: ObservationKind, *, per_task: int = DEMONSTRATIONS_A_TASK
) -> Path:
    """Return the folder of demonstrations for a kind of policy, made when they are not there.

    Its name holds a digest of what they depend on: other tasks, slices or cameras make others.
    Fewer a task are the first of more.
    """
    decides = (TASKS, BASE_LAYOUT, LAYOUT_FROM_TOP, robot_spec(policy))
    digest = hashlib.sha256(msgspec.json.encode(decides)).hexdigest()[:8]
    count = "" if per_task == DEMONSTRATIONS_A_TASK else f"-{per_task}"
    folder = kept / f"demonstrations-{policy}-{digest}{count}"
    complete = folder.with_name(f"{folder.name}.complete")
    if not complete.exists():
        words = ["-m", "learning.experiments.demonstrations", "--out", str(folder)]
        words += ["--per-task", str(per_task)]
        _run([*words, *(["--state"] if policy == "state" else [])], var=kept)
        complete.touch()
    return folder


def state_base(shown: Path) -> Path:
    """Return the artifact of the base state policy, trained when it is not there (a minute)."""
    path = shown.with_name(f"{shown.name}.base.safetensors")
    if path.exists():
        return path
    import torch

    from learning.core.policies.base import save_policy
    from learning.experiments.training import (
        Recipe,
        Samples,
        policy_config,
        read_demonstrations,
        train,
    )

    torch.set_num_threads(1)
    samples = Samples(policy_config(robot_spec("state")))
    for part in read_demonstrations(shown):
        samples.add_part(part)
    part = path.with_name(path.name + ".part")
    part.write_bytes(save_policy(train(samples, Recipe(per_task=40))))
    part.replace(path)
    return path


def prepare_system(
    var: Path,
    *,
    kept: Path,
    robots: int,
    operators: int,
    policy: ObservationKind,
    seed: int,
    control_hz: float = CONTROL_HZ,
    reset_s: float | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> tuple[str, ...]:
    """Fill `var` so that a system started there begins at once and from the base.

    Args:
        var: The system's folder, empty or new.
        kept: Where what experiments share is kept.
        robots: How many simulated robots.
        operators: How many scripted operators.
        policy: "image" or "state".
        seed: Of the learner's draws.
        control_hz: Of every robot.
        reset_s: Pause between two episodes; that of a fresh installation by default.
        recipe: What differs from the recipe of a fresh installation.

    Returns:
        Options that `scripts/run.py` needs to find everything in place.

    Raises:
        subprocess.CalledProcessError: A step failed; the reason is on the error stream and in
            `var`/logs.
    """
    shown = demonstrations(kept, policy)
    shutil.copytree(shown, var / "demonstrations", dirs_exist_ok=True)
    fleet = ["--robots", str(robots), "--operators", str(operators), "--seed", str(seed)]
    base = ["--base", str(state_base(shown))] if policy == "state" else []
    changes = ["--recipe", json.dumps(dict(recipe))] if recipe else []
    changes += [] if reset_s is None else ["--reset-s", str(reset_s)]
    _run(["manage.py", "prepare", *fleet, *base, *changes], var=var)
    for path in (var / "robots").glob("*.json"):
        config = json.loads(path.read_text())
        driver = {"observation": policy, "control_hz": control_hz}
        config["options"] = {**config.get("options", {}), **driver}
        path.write_text(json.dumps(config, indent=1) + "\n")
    _run(["manage.py", "import_episodes", str(var / "demonstrations")], var=var)
    # What `scripts/run.py` would otherwise make again.
    names = "\n".join(task.name for task in TASKS)
    (var / "demonstrations" / "imported.txt").write_text(names + "\n")
    return tuple(base)
