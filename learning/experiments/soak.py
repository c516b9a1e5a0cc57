"""Days of running: `make experiment NAME=soak`. The real system on a real, faster clock.

The whole product headless, with its own processes, sockets, uploads, rounds and versions, until
its robots have acted for HOURS robot-hours. The robots see states instead of pictures and tick
SPEED times as fast as a robot of 20 Hz, so a robot-hour is 72,000 ticks; scenes are put back as
much faster. Rules stated in seconds (handover, dead-man, publication) keep theirs. On a machine
that cannot keep that rate robots miss ticks; what counts is the ticks they made.

Options, from the environment, or ARGS=--quick for a few minutes:
    HOURS=36  SPEED=4  ROBOTS=8  OPERATORS=2  SEED=0
    FRESH=1 starts anew  OUT=DIR where experiments lie (var/experiments)

An interrupted soak goes on with the same system; memory then counts from the new start. Ends in
one line of JSON: `robot_hours`; `success_change`, held-out success of the last quarter minus the
first; `memory_growth`, the most that any process grew after its first hour, an hour being as many
robot-hours as there are robots.
"""

import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.protocol.simulation import CONTROL_HZ
from learning.core.comparisons import unpaired_difference
from learning.core.statistics import Score
from learning.experiments.console import run_in_folder, say
from learning.experiments.figures import plot_soak
from learning.experiments.loop import progress_line
from learning.experiments.preparation import prepare_system
from learning.experiments.stages import write_json
from learning.experiments.system import System, running_system
from learning.experiments.vitals import growth, look

SAMPLE_EVERY_S = 15.0
# Of a fresh installation.
RESET_S = 1.0
# Memory for decoded samples: filled within the first hour, so that what grows later is a leak.
CACHE_BYTES = 32 * 2**20
# At the robots' normal speed; about what the learner of four of them makes in the `loop`.
UPDATES_PER_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a soak runs with; soaks of equal settings resume each other."""

    hours: float = 36.0
    speed: float = 4.0
    robots: int = 8
    operators: int = 2
    seed: int = 0


QUICK = Settings(hours=0.3, robots=2, operators=1)


def read_settings(environment: Mapping[str, str], *, quick: bool) -> Settings:
    """Return the settings an environment asks for. Raises ValueError for what is no number."""
    start = QUICK if quick else Settings()
    asked = {
        field.name: type(field.default)(environment[field.name.upper()])
        for field in dataclasses.fields(Settings)
        if environment.get(field.name.upper())
    }
    return dataclasses.replace(start, **asked)


class Soak:
    """One soak in its folder."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self._kept = folder / "looks.json"
        self.looks: list[dict[str, Any]] = []
        if self._kept.exists():
            self.looks = json.loads(self._kept.read_text())

    def run(self) -> dict[str, Any]:
        """Run the system until the hours are full; returns the result."""
        var, s = self.folder / "system", self.settings
        prepared = self.folder / "prepared.json"
        if not prepared.exists():
            say("preparing demonstrations, base policy and database")
            options = prepare_system(
                var,
                kept=self.folder.parent / "kept",
                robots=s.robots,
                operators=s.operators,
                policy="state",
                seed=s.seed,
                control_hz=s.speed * CONTROL_HZ,
                reset_s=RESET_S / s.speed,
                recipe={
                    "cache_bytes": CACHE_BYTES,
                    "updates_per_s": UPDATES_PER_S * s.speed,
                },
            )
            write_json(prepared, options)
        arguments = tuple(json.loads(prepared.read_text()))
        if not self.looks or self.looks[-1]["robot_hours"] < s.hours:
            with running_system(
                var, robots=s.robots, operators=s.operators, arguments=arguments
            ) as system:
                say(f"live after {system.ready_s:.1f} s at {system.url}")
                self._watch(system)
        return self._conclude()

    def _watch(self, system: System) -> None:
        life = self.looks[-1]["life"] + 1 if self.looks else 0
        first_s = self.looks[0]["wall_s"] if self.looks else time.time()
        while True:
            now_s = time.time()
            sample = system.ledger.sample(first_s, now_s)
            hours = sample.robot_minutes / 60 * self.settings.speed
            vitals = look(system)
            self.looks.append(
                {
                    "life": life,
                    "wall_s": now_s,
                    "robot_hours": hours,
                    "sample": dataclasses.asdict(sample),
                    **dataclasses.asdict(vitals),
                }
            )
            write_json(self._kept, self.looks)
            say(f"{hours:.2f} robot-hours  {progress_line(sample)}")
            if hours >= self.settings.hours:
                return
            time.sleep(SAMPLE_EVERY_S)

    # ---- figures -------------------------------------------------------------------------------

    def _score(self, start: float, end: float) -> Score:
        """Return held-out success between two shares of the robot-hours."""
        whole = self.looks[-1]["robot_hours"]
        inside = [x for x in self.looks if start * whole <= x["robot_hours"] <= end * whole]
        first, last = inside[0]["sample"], inside[-1]["sample"]
        return Score(
            last["eval_successes"] - first["eval_successes"],
            last["eval_trials"] - first["eval_trials"],
        )

    def _conclude(self) -> dict[str, Any]:
        s, end = self.settings, self.looks[-1]
        first, last = self._score(0.0, 0.25), self._score(0.75, 1.0)
        change = last.rate - first.rate
        change_low, change_high = unpaired_difference(first, last)
        # Of the system, not of one robot: an hour of it is as many robot-hours as it has robots.
        hours = [x["robot_hours"] / s.robots for x in self.looks]
        grown = growth(self.looks, hours=hours)
        most = max(grown.values(), default=math.nan)
        wall_hours = (end["wall_s"] - self.looks[0]["wall_s"]) / 3600
        result = {
            "experiment": "soak",
            "clock": f"real, robots tick at {s.speed:g} times 20 Hz",
            "policy": "state",
            "robot_hours": round(end["robot_hours"], 2),
            "success_change": round(change, 4),
            "success_change_low": round(change_low, 4),
            "success_change_high": round(change_high, 4),
            "memory_growth": round(most, 4),
            "wall_hours": round(wall_hours, 3),
            "starts": end["life"] + 1,
        }
        by_hour = self._by_hour()
        table, notes = _hours_table(by_hour), self._notes(first, last, grown)
        (self.folder / "table.md").write_text(table)
        (self.folder / "report.md").write_text(f"{table}\n{notes}")
        plot_soak(
            self.folder / "plot.png",
            hours=hours,
            rss_mb={
                name: [x["rss_mb"].get(name, math.nan) for x in self.looks]
                for name in end["rss_mb"]
            },
            scores=by_hour,
            title=f"soak, {s.robots} robots, {end['robot_hours']:.1f} robot-hours",
        )
        write_json(
            self.folder / "result.json",
            {
                "result": result,
                "settings": dataclasses.asdict(s),
                "growth": grown,
                "by_hour": [[hour, score.successes, score.trials] for hour, score in by_hour],
            },
        )
        return result

    def _by_hour(self) -> list[tuple[float, Score]]:
        """Return held-out success of each hour of the system, by the hour's end."""
        robots = self.settings.robots
        whole = self.looks[-1]["robot_hours"] / robots
        scores = []
        for hour in range(math.ceil(whole)):
            inside = [x for x in self.looks if hour <= x["robot_hours"] / robots <= hour + 1]
            if len(inside) > 1:
                first, last = inside[0]["sample"], inside[-1]["sample"]
                won = last["eval_successes"] - first["eval_successes"]
                tried = last["eval_trials"] - first["eval_trials"]
                scores.append((min(hour + 1.0, whole), Score(won, tried)))
        return scores

    def _notes(self, first: Score, last: Score, grown: Mapping[str, float]) -> str:
        lines = [
            f"First quarter {first.successes} of {first.trials}, last {last.successes} of "
            f"{last.trials}.",
            "",
            "| process | MB at the end | growth after its first hour |",
            "|---|---:|---:|",
        ]
        for name, used in sorted(self.looks[-1]["rss_mb"].items()):
            rise = f"{grown[name]:+.1%}" if name in grown else "ran for less than two hours"
            lines.append(f"| {name} | {used:.0f} | {rise} |")
        deepest = {q: max(x["queues"][q] for x in self.looks) for q in self.looks[-1]["queues"]}
        spooled = [x["spooled"] for x in self.looks]
        lines += [
            "",
            "Deepest queues: "
            + ", ".join(f"{name} {depth}" for name, depth in deepest.items())
            + f"; episodes waiting in spools: at most {max(spooled)}, {spooled[-1]} at the end.",
        ]
        return "\n".join(lines) + "\n"


def _hours_table(by_hour: Sequence[tuple[float, Score]]) -> str:
    lines = ["| hour of the system | held-out success | n |", "|---:|---|---:|"]
    for hour, score in by_hour:
        low, high = score.interval
        lines.append(f"| {hour:.1f} | {score.rate:.3f} ({low:.3f}–{high:.3f}) | {score.trials} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] = ()) -> int:
    """Run from the command line; returns the exit status."""
    arguments = arguments or sys.argv[1:]
    try:
        settings = read_settings(os.environ, quick="--quick" in arguments)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return run_in_folder(
        "soak", dataclasses.asdict(settings), lambda folder: Soak(settings, folder).run()
    )


if __name__ == "__main__":
    raise SystemExit(main())
