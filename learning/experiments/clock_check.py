"""Does the virtual clock tell the truth? `make experiment NAME=clock_check LOOP=DIR`.

DIR is the folder of a finished `loop` experiment with POLICY=state: the real system on the real
clock. The same fleet is run on the virtual clock at the rates that were measured there (updates a
second, versions), with the same recipe, held-out episodes and length, and both are judged on the
same layouts. Several virtual seeds stand beside the one real run.

Options: SEEDS=3  PROCESSES=2  OUT=DIR  FRESH=1. Ends in one line of JSON: success and episodes on
both clocks, and their ratio.
"""

import dataclasses
import json
import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from learning.core.statistics import Score
from learning.experiments.virtual.command import Laboratory, Outcome, rates_table, run_command
from learning.experiments.virtual.rates import Rates
from learning.experiments.virtual.runs import Run
from learning.experiments.virtual.summary import Estimate, as_result, spread, success

# The running system's own: one episode in six is held out, and a scene is put back in a second.
EVALUATE_EVERY = 6
RESET_S = 1.0
# Measured there: uploads are over in less than a second, versions arrive in about one.
UPLOAD_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is done; the rest is the loop's."""

    seeds: int = 3
    loop: str = ""


def measured(result: Mapping[str, Any]) -> tuple[Rates, float]:
    """Return the rates of a finished loop, and its minutes until its last version."""
    versions = result["versions"]
    minutes = versions["final"]["minute"]
    steps = versions["final"]["step"] - versions["base"]["step"]
    # Its learner began when its robots did; what it took is over all of the time.
    rates = Rates(
        updates_per_s=steps / (60 * minutes),
        publish_every_s=result["config"].get("publish_every_s", 8.0),
        publish_steps=result["config"].get("publish_steps", 25),
        reset_s=RESET_S,
        upload_s=UPLOAD_S,
    )
    return rates, minutes


def conduct(laboratory: Laboratory, size: Size) -> Outcome:
    """Run the loop's fleet on the virtual clock and put both side by side."""
    folder = Path(size.loop)
    result = json.loads((folder / "result.json").read_text())
    curve = json.loads((folder / "curve.json").read_text())
    settings, config = result["settings"], result["config"]
    if settings["policy"] != "state":
        raise SystemExit(f"{folder} is of the image policy; run the loop with POLICY=state")
    rates, minutes = measured(result)
    base, shown = laboratory.base()
    run = Run(
        base=base,
        demonstrations=shown,
        algorithm=result.get("algorithm", "hg_dagger"),
        options=config.get("learner", {}),
        sampler=config.get("sampler", {"kind": "adaptive"}),
        batch_size=config.get("batch_size", 60),
        robots=settings["robots"],
        operators=settings["operators"],
        minutes=minutes,
        rates=rates,
        evaluate_every=EVALUATE_EVERY,
        trials=settings["trials"],
    )
    runs = {f"virtual-seed-{seed}": replace(run, seed=seed) for seed in range(size.seeds)}
    figures = list(laboratory.perform(runs).values())
    virtual = success([one["final"] for one in figures])
    arm = result["arms"]["final"].values()
    real = Score(sum(s["successes"] for s in arm), sum(s["trials"] for s in arm))
    last = curve["samples"][-1]
    rows = {
        "episodes": (last["episodes"], [one["tallies"][-1]["episodes"] for one in figures]),
        "operator minutes": (
            last["human_minutes"],
            [one["tallies"][-1]["human_s"] / 60 for one in figures],
        ),
        "takeovers": (last["corrections"], [one["tallies"][-1]["takeovers"] for one in figures]),
    }
    keys = {
        "real": Estimate(real.rate, *real.interval),
        "virtual": virtual,
        "episodes_ratio": spread([v / rows["episodes"][0] for v in rows["episodes"][1]]),
    }
    table = "| | real clock | virtual clock |\n|---|---|---|\n"
    table += f"| success, n | {keys['real']}, {real.trials} | {virtual}, {real.trials} a seed |\n"
    for name, (there, here) in rows.items():
        values = ", ".join(f"{value:.0f}" for value in here)
        table += f"| {name} | {there:.0f} | {statistics.fmean(here):.0f} ({values}) |\n"
    return Outcome(as_result(keys), table, rates_table(rates), {"rates": dataclasses.asdict(rates)})


def main() -> int:
    """Run from the command line."""
    size = Size(loop=os.environ.get("LOOP", ""))
    if not (Path(size.loop) / "result.json").exists():
        print("LOOP=DIR must name the folder of a finished loop experiment with POLICY=state")
        return 2
    quick = replace(size, seeds=1)
    return run_command("clock_check", full=size, quick=quick, conduct=conduct)


if __name__ == "__main__":
    raise SystemExit(main())
