"""Does RECAP pay on data of mixed skill? `make experiment NAME=recap`, ends in one line of JSON.

Scripts whose skill changes within an episode fill an offline buffer. On it, with the same data,
network and number of updates: behaviour cloning of all, of successes, of the fastest quarter, of
the steps whose indicator is positive, advantage-weighted regression, and RECAP acting
unconditioned, told "positive" (β = 1) and guided beyond (β = 1.5). Then RECAP goes on alone:
iterations of acting, judging by the task's own signal, and learning, with no takeover; once acting
as told, once unconditioned. And from a base that never saw an indicator, with and without a step
that introduces it on the offline buffer.

State policy, five tasks, the driver's own clock (no real time passes): robots do not slow each
other, so ticks are exact. Layouts of the final figures are used for nothing else; those for tuning
(`--tuning`) are others.

    make experiment NAME=recap ARGS="--seeds 3"
    make experiment NAME=recap ARGS="--seeds 1 --quick"

Stages are kept in var/experiments/recap-<time>/; the same command goes on where an interrupted one
stopped. Outputs beside them: result.json, table.md, plot.png.
"""

import argparse
import json
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from learning.experiments.analysis import last_line
from learning.experiments.console import say
from learning.experiments.recap_report import RESET_S, plot, result_of, table
from learning.experiments.recap_study import QUICK, RUNS, TASKS, Sizes, Study
from learning.experiments.stages import open_experiment, write_json

OFFLINE = ("bc_all", "bc_success", "bc_fastest", "bc_positive", "awr")
# Name of a figure → arm it is trained as, and the guidance it acts with (None: it has none).
CELLS: dict[str, tuple[str, float | None]] = {
    **{arm: (arm, None) for arm in OFFLINE},
    "recap_unconditioned": ("recap", 0.0),
    "recap_positive": ("recap", 1.0),
    "recap_guided": ("recap", 1.5),
}
# Filtered behaviour cloning of everything the positive run had at its end.
FINAL_CLONES = ("bc_fastest", "bc_positive")


# A job: folder, sizes, seed, what to call, its arguments.
Job = tuple[Path, Sizes, int, str, tuple[Any, ...]]


def _work(job: Job) -> tuple[int, str, Any]:
    import torch

    from learning.core.allocation import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
    folder, sizes, seed, method, arguments = job
    study = Study(folder, sizes, seed)
    name = "-".join([method, *map(str, arguments)])
    return seed, name, study.stages.once(name, lambda: getattr(study, method)(*arguments))


def evaluated(run: str, iteration: int) -> tuple[str, float | None]:
    """Return the weights and the guidance that a run is evaluated with after an iteration.

    What a run starts from may be an arm that is evaluated already.
    """
    start, guidance = RUNS[run]
    if iteration == 0 and start == "recap":
        return "recap", guidance
    if iteration == 0 and run == "from_base_plain":
        return "bc_all", None
    return f"{run}-{iteration}", guidance


def figures(iterations: int) -> dict[str, tuple[str, float | None]]:
    """Return every figure of the study: its name, the weights it is of, and their guidance."""
    online = {
        f"{run}_{iteration}": evaluated(run, iteration)
        for run in RUNS
        for iteration in range(iterations + 1)
    }
    final: dict[str, tuple[str, float | None]] = {
        f"final_{arm}": (f"final_{arm}", None) for arm in FINAL_CLONES
    }
    return {**CELLS, **online, "positive_guided": (f"positive-{iterations}", 1.5), **final}


def phases(sizes: Sizes) -> Iterable[list[tuple[str, tuple[Any, ...]]]]:
    """Yield what can be done side by side, of one seed, once its data and all before are there."""
    wanted = list(dict.fromkeys(figures(sizes.iterations).values()))

    def evaluations(*names: str) -> list[tuple[str, tuple[Any, ...]]]:
        return [("evaluate", cell) for cell in wanted if cell[0] in names]

    yield [("train", (arm,)) for arm in (*OFFLINE, "recap")]
    yield evaluations(*OFFLINE, "recap")
    for iteration in range(sizes.iterations + 1):
        yield [("iterate", (run, iteration)) for run in RUNS]
        yield evaluations(*(f"{run}-{iteration}" for run in RUNS))
    yield [("clone_final", (arm,)) for arm in FINAL_CLONES]
    yield evaluations(*(f"final_{arm}" for arm in FINAL_CLONES))


def conduct(folder: Path, sizes: Sizes, *, processes: int) -> Iterator[dict[int, dict[str, Any]]]:
    """Run every stage that is not there yet; yield all of them, by seed and name, seed by seed."""
    found: dict[int, dict[str, Any]] = {}
    seeds = range(sizes.seeds)
    # Spawned, so that no torch thread is inherited.
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes) as pool:

        def run(jobs: list[Job]) -> None:
            for seed, name, value in pool.imap_unordered(_work, jobs):
                say(f"seed {seed}: {name}")
                found.setdefault(seed, {})[name] = value

        run([(folder, sizes, seed, "offline", (task,)) for seed in seeds for task in TASKS])
        run([(folder, sizes, seed, "judge", ()) for seed in seeds])
        for seed in seeds:
            for phase in phases(sizes):
                run([(folder, sizes, seed, method, arguments) for method, arguments in phase])
            yield {done: found[done] for done in range(seed + 1)}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--quick", action="store_true", help="a check that it runs, no evidence")
    parser.add_argument("--trials", type=int, help="held-out layouts a task in each figure")
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--tuning", action="store_true", help="on the layouts for tuning")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--fresh", action="store_true", help="do not resume")
    parser.add_argument("--into", type=Path, help="go on in this folder, with more seeds")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "var/experiments")))
    arguments = parser.parse_args()
    asked = {
        name: getattr(arguments, name)
        for name in ("seeds", "trials", "iterations")
        if getattr(arguments, name) is not None
    }
    if arguments.into:
        kept = json.loads((arguments.into / "settings.json").read_text())
        folder, sizes = arguments.into, replace(Sizes(**kept), seeds=asked.get("seeds", 3))
    else:
        sizes = replace(QUICK if arguments.quick else Sizes(), tuning=arguments.tuning, **asked)
        folder = open_experiment(arguments.out, "recap", asdict(sizes), fresh=arguments.fresh)
    say(f"working in {folder}")
    for stages in conduct(folder, sizes, processes=arguments.processes):
        result = result_of(stages, figures(sizes.iterations), iterations=sizes.iterations)
        (folder / "table.md").write_text(table(result))
        plot(folder / "plot.png", result)
        say(f"{len(stages)} of {sizes.seeds} seeds\n{table(result)}")
    write_json(folder / "result.json", {"reset_s": RESET_S, **result})
    print(last_line(result["line"]))


if __name__ == "__main__":
    main()
