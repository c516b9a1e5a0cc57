"""What the experiments on the virtual clock have in common: options, folder, stages, last line.

Options, from the environment or as ARGS="--quick …":
    QUICK=1      a check in about two minutes; its figures mean nothing
    SEEDS=n      runs of each arm
    PROCESSES=n  side by side (2)
    --set NAME=VALUE  another number in the experiment's `Size`, such as minutes=8
    FRESH=1      starts anew instead of resuming an unfinished experiment of equal settings
    OUT=DIR      where experiments lie (var/experiments)
"""

import argparse
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.protocol.simulation import CONTROL_HZ
from learning.experiments.console import run_in_folder, say
from learning.experiments.preparation import demonstrations, state_base
from learning.experiments.stages import Stages, write_json
from learning.experiments.virtual.machine import evaluate_base
from learning.experiments.virtual.rates import Rates
from learning.experiments.virtual.runs import Run, perform_all
from learning.experiments.virtual.summary import Row


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an experiment found."""

    # Its keys, without those that say which experiment it was.
    result: Mapping[str, Any]
    # Markdown: the one table that says it, and whatever else a reader wants to know.
    table: str
    notes: str
    # Anything else worth keeping.
    details: Mapping[str, Any]
    # False when only a part was asked for: the same command goes on from there.
    finished: bool = True


@dataclass(frozen=True, slots=True)
class Laboratory:
    """One experiment in its folder: performs runs and keeps their figures."""

    folder: Path
    kept: Path
    stages: Stages
    processes: int

    def base(self, *, per_task: int = 10) -> tuple[str, str]:
        """Return artifact and demonstrations of the base state policy, made when missing."""
        shown = self.demonstrations(per_task=per_task)
        return str(state_base(Path(shown))), shown

    def demonstrations(self, *, per_task: int) -> str:
        """Return the folder of so many demonstrations a task, made when missing."""
        return str(demonstrations(self.kept, "state", per_task=per_task))

    def perform(self, runs: Mapping[str, Run]) -> dict[str, dict[str, Any]]:
        """Return the figures of every run by name; those of an earlier attempt are used."""
        return perform_all(self.stages, runs, processes=self.processes, say=say)

    def evaluate(
        self, name: str, artifact: str, *, curve: int, trials: int, patience: int = 1
    ) -> dict[str, list[Row]]:
        """Return rollouts of a policy on the curves' layouts and on the final ones, as a stage."""
        return self.stages.once(
            name,
            lambda: evaluate_base(artifact, curve=curve, trials=trials, patience=patience),
        )


def resized(size: Any, changes: Sequence[str]) -> Any:
    """Return a size with NAME=VALUE applied. Raises ValueError for what is no number of it."""
    for change in changes:
        name, _, text = change.partition("=")
        value = getattr(size, name, None)
        if not isinstance(value, int | float):
            raise ValueError(f"{change}: no number of that name")
        size = dataclasses.replace(size, **{name: type(value)(text)})
    return size


def run_command(
    name: str,
    *,
    full: Any,
    quick: Any,
    conduct: Callable[[Laboratory, Any], Outcome],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run an experiment from the command line; returns the exit status.

    Args:
        name: The experiment's, the beginning of its folder's.
        full: Its size: a frozen dataclass with a field `seeds`.
        quick: Its size for a check.
        conduct: Performs the runs and draws the plot into the folder.
        arguments: Of the command line.
    """
    parser = argparse.ArgumentParser(prog=f"make experiment NAME={name}")
    parser.add_argument("--quick", action="store_true", default=bool(os.environ.get("QUICK")))
    parser.add_argument("--seeds", type=int, default=int(os.environ.get("SEEDS") or 0))
    processes = int(os.environ.get("PROCESSES") or min(2, os.cpu_count() or 1))
    parser.add_argument("--processes", type=int, default=processes)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    asked = parser.parse_args(arguments)
    try:
        size = resized(quick if asked.quick else full, asked.set)
    except ValueError as error:
        parser.error(str(error))
    if asked.seeds:
        size = dataclasses.replace(size, seeds=asked.seeds)
    settings = {"clock": "virtual", "policy": "state", "quick": asked.quick}
    settings |= dataclasses.asdict(size)

    def run(folder: Path) -> dict[str, Any]:
        kept = folder.parent / "kept"
        kept.mkdir(parents=True, exist_ok=True)
        outcome = conduct(Laboratory(folder, kept, Stages(folder), asked.processes), size)
        result = {"experiment": name, "clock": "virtual", "policy": "state", "quick": asked.quick}
        result |= {"seeds": size.seeds, **outcome.result}
        (folder / "table.md").write_text(outcome.table)
        (folder / "report.md").write_text(f"{outcome.table}\n{outcome.notes}")
        if outcome.finished:
            write_json(
                folder / "result.json", {"result": result, "settings": settings, **outcome.details}
            )
        return result

    return run_in_folder(name, settings, run)


def rates_table(rates: Rates) -> str:
    """Return the stated rates as Markdown."""
    values = {"control_hz": CONTROL_HZ, **dataclasses.asdict(rates)}
    rows = "".join(f"| {name} | {value:g} |\n" for name, value in values.items())
    return "| rate | value |\n|---|---|\n" + rows
