"""Measure this machine: `make bench`. A table, `var/bench.json`, and one line of JSON at the end.

The whole system is started in a folder of its own and measured from outside: by a real browser,
by operators whose connections are cut, by what its robots and its database say. About forty
minutes.
`--only KEY,KEY` measures a part; the keys that were not measured are then null.
"""

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fleet.agent.priority import come_first
from learning.experiments.analysis import quantile
from learning.experiments.preparation import prepare_system
from learning.experiments.stages import write_json
from learning.experiments.system import ROOT, System, SystemFailed, running_system
from tests.bench import (
    chromium,
    deadman,
    efficiency,
    fleet,
    grants,
    helping,
    kills,
    labelling,
    sampling,
    search,
    video,
)
from tests.bench.report import Measure, last_line, machine, table
from tests.bench.steal import StealWatch

ROBOTS = 4
OPERATORS = 2
# Operators that no process uses: the benchmark's own clients.
SPARE = OPERATORS


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured."""

    watch_s: float = 120.0
    presses: int = 120
    cuts: int = 120
    kills: int = 100
    grants: int = 100
    labels: int = 60
    asks: int = 120
    pictures: video.Lengths = field(default_factory=video.Lengths)


# To see that everything can be measured, not to measure it.
QUICK = Extent(
    watch_s=30.0,
    presses=10,
    cuts=12,
    kills=8,
    grants=8,
    labels=8,
    asks=12,
    pictures=video.Lengths(10.0, 5.0, 60.0),
)


def say(text: str) -> None:
    """Tell what happens, on the error stream."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def at_work(system: System, extent: Extent) -> list[Measure]:
    """Measure the fleet while it works: four robots rendering and watched, a learner learning."""
    say(f"watching the fleet for {extent.watch_s:.0f} s")
    since = fleet.now_stamp()
    with StealWatch() as steal:
        window = asyncio.run(
            fleet.watch(system.url, system.operator_token(), seconds_=extent.watch_s)
        )
    ledger = system.ledger
    late, at_ns = fleet.lateness_ms(ledger, system.var / "store", since)
    lateness = late.tolist()
    calm = late[steal.calm(at_ns)].tolist()
    gradient = fleet.episode_to_gradient_s(ledger, since)
    transfer = fleet.publish_transfer_s(ledger, ROBOTS, since)
    missed = window.missed_ticks / max(1, window.ticks + window.missed_ticks)
    rates = [
        json.loads(values).get("steps_per_s") or 0.0
        for (values,) in ledger.rows(
            'SELECT "values" FROM learning_learnermetric WHERE at >= ?', since
        )
    ]
    return [
        Measure(
            "loop_jitter_p99_ms",
            quantile(lateness, 0.99),
            "ms",
            "<= 10",
            lateness,
            f"lateness of control ticks of {ROBOTS} robots rendering, thumbnails and telemetry "
            f"watched; p99 of each robot's seconds: median "
            f"{quantile(window.jitter_p99_ms, 0.5):.1f}, worst "
            f"{quantile(window.jitter_p99_ms, 1):.1f} ms; {missed:.2%} of ticks missed; busy "
            f"{quantile(window.busy_p50_ms, 0.5):.1f} ms of 50; "
            f"{len(window.frame_ages_ms)} frames, age p95 "
            f"{quantile(window.frame_ages_ms, 0.95):.0f} ms; "
            f"learner {quantile(rates, 0.5):.1f} updates/s beside it; {steal}; while it took none "
            f"p99 was {quantile(calm, 0.99):.1f} ms (n={len(calm)})",
        ),
        Measure(
            "episode_to_gradient_p50_s",
            quantile(gradient, 0.5),
            "s",
            "<= 2",
            gradient,
            "end of a corrected episode to the first gradient step that used it",
        ),
        Measure(
            "publish_transfer_p95_s",
            quantile(transfer, 0.95),
            "s",
            "<= 1",
            transfer,
            f"version's row to its bytes verified on all {ROBOTS} robots; "
            f"{fleet.published(ledger, since)} published",
        ),
    ]


def cuts(system: System, extent: Extent) -> list[Measure]:
    """Measure the dead-man's time."""
    say(f"cutting {extent.cuts} connections")
    with StealWatch() as steal:
        stops, lost = asyncio.run(
            deadman.measure(
                system.url,
                token=system.operator_token(SPARE),
                ledger=system.ledger,
                store=system.var / "store",
                robots=list(system.robots),
                cuts=extent.cuts,
                budget_s=480,
            )
        )
    calm = [ms for at_ns, ms in stops if steal.calm(np.array([at_ns]))[0]]
    stops_ms = [ms for _, ms in stops]
    return [
        Measure(
            "deadman_max_ms",
            max(stops_ms, default=float("nan")),
            "ms",
            "<= 250",
            stops_ms,
            "last command to the end of the first control tick with zero motion, as the robot "
            f"recorded it; half of the connections aborted, half gone silent; {lost} cuts without "
            f"a measurement; {steal}; while it took none the longest was "
            f"{max(calm, default=float('nan')):.0f} ms (n={len(calm)})",
        )
    ]


def keys(system: System, extent: Extent) -> list[Measure]:
    """Measure driving from a real browser."""
    say(f"pressing {extent.presses} keys in Chromium")
    name, password = system.login("operator")
    # An operator's computer is not the robots': theirs must not keep the browser waiting.
    come_first()
    with StealWatch() as steal:
        presses, lost = chromium.measure(
            system.url,
            name=name,
            password=password,
            robot=next(iter(system.robots)),
            presses=extent.presses,
            budget_s=180,
        )
    latencies = [press.total_ms for press in presses]
    reasons = ", ".join(f"{reason} ({n})" for reason, n in lost.most_common()) or "none"
    return [
        Measure(
            "command_p95_ms",
            quantile(latencies, 0.95),
            "ms",
            "<= 50",
            latencies,
            "key down in Chromium on the robot page to the command accepted by the robot's "
            "arbiter, browser and robots on the same cores; until the page sent it p95 "
            f"{quantile([press.sent_ms for press in presses], 0.95):.0f} ms, from there "
            f"{quantile([press.total_ms - press.sent_ms for press in presses], 0.95):.0f} ms; "
            f"presses without a measurement: {reasons}; {steal}",
        )
    ]


def granted(system: System, extent: Extent) -> list[Measure]:
    """Measure how long an operator waits for a robot."""
    say(f"taking robots over {extent.grants} times")
    with StealWatch() as steal:
        found = asyncio.run(
            grants.measure(
                system.url,
                token=system.operator_token(SPARE),
                robots=list(system.robots),
                grants=extent.grants,
                budget_s=240,
            )
        )
    return [
        Measure(
            "grant_p95_ms",
            quantile(found.granted_ms, 0.95),
            "ms",
            "<= 200",
            found.granted_ms,
            "takeover asked to the lease, on an operator's socket; until the operator sees that "
            f"the robot obeys a person p95 {quantile(found.human_ms, 0.95):.0f} ms; "
            f"{found.refused} refused; {steal}",
        )
    ]


def labels(system: System, extent: Extent) -> list[Measure]:
    """Measure how soon the next episode is seen after a label."""
    say(f"judging {extent.labels} episodes in Chromium")
    name, password = system.login("labeller")
    come_first()
    with StealWatch() as steal:
        found = labelling.measure(
            system.url, name=name, password=password, labels=extent.labels, budget_s=180
        )
    return [
        Measure(
            "label_next_frame_p95_ms",
            quantile(found, 0.95),
            "ms",
            "<= 150",
            found,
            "key down in Chromium on the labelling desk to the first picture of the next episode "
            f"drawn, browser and {ROBOTS} robots on the same cores; {steal}",
        )
    ]


def helped(system: System, extent: Extent) -> list[Measure]:
    """Measure how soon an operator sees that a robot asks for help."""
    say(f"asking for help {extent.asks} times")
    with StealWatch() as steal:
        seen, lost = asyncio.run(
            helping.measure(
                system.url,
                token=system.operator_token(SPARE),
                robots=list(system.robots),
                asks=extent.asks,
                budget_s=120,
            )
        )
    latencies = [one.seen_ms for one in seen]
    return [
        Measure(
            "help_p95_ms",
            quantile(latencies, 0.95),
            "ms",
            "<= 300",
            latencies,
            "need raised on the robot to its request on another operator's socket; with the way "
            "of a person's wish to the robot before it p95 "
            f"{quantile([one.asked_ms for one in seen], 0.95):.0f} ms; {lost} asks without a "
            f"measurement; {steal}",
        )
    ]


def ready(system: System) -> list[Measure]:
    """Report how long the second start took."""
    return [
        Measure(
            "run_ready_s",
            system.ready_s,
            "s",
            "<= 20",
            [system.ready_s],
            "second start of the system: processes started to every robot live",
        )
    ]


def killed(system: System, extent: Extent) -> list[Measure]:
    """Kill agents in the middle of episodes and look for halves of episodes in the index."""
    say(f"killing {extent.kills} agents in the middle of episodes")
    uids, drained = asyncio.run(
        kills.measure(
            system.url,
            token=system.operator_token(SPARE),
            var=system.var,
            robots=list(system.robots),
            kills=extent.kills,
            budget_s=600,
        )
    )
    ledger = system.ledger
    found = {
        uid.replace("-", ""): (state, complete)
        for uid, state, complete in ledger.rows("SELECT uid, state, complete FROM learning_episode")
    }
    kept = [found.get(uid.replace("-", "")) for uid in uids]
    closed = sum(1 for row in kept if row is not None and row[0] == "closed")
    return [
        Measure(
            "partial_episodes",
            ledger.partial_episodes() + sum(1 for row in kept if row == ("closed", 1)),
            "",
            "<= 0",
            (),
            f"{len(uids)} agents killed with SIGKILL in an episode; of those episodes {closed} "
            f"were kept as incomplete and {sum(row is None for row in kept)} left no trace; "
            f"spools {'drained' if drained else 'did NOT drain'}",
        )
    ]


def mixed(system: System) -> list[Measure]:
    """Count autonomous episodes with two policy numbers, over all that ran."""
    ledger = system.ledger
    episodes = ledger.one("SELECT COUNT(*) FROM learning_episode WHERE purpose != 'demonstration'")
    return [
        Measure(
            "mixed_version_episodes",
            ledger.mixed_version_episodes(),
            "",
            "<= 0",
            (),
            f"of {episodes} episodes of this run",
        )
    ]


def measure(
    var: Path,
    wanted: Callable[[str], bool],
    extent: Extent,
    found: list[Measure],
    failed: list[str],
) -> None:
    """Run every part that is wanted, one system after another.

    Adds to `found` the measures and to `failed` what failed: a part that fails loses its own keys
    only, and an interrupt only those that were still to come.
    """

    def part(run: Callable[..., list[Measure]], *arguments: object) -> None:
        try:
            found.extend(run(*arguments))
        except Exception as error:  # whatever a browser, a socket or a process raises
            failed.append(f"{run.__name__}: {error}")
            say(f"FAILED {failed[-1]}")

    working = ("loop_jitter_p99_ms", "episode_to_gradient_p50_s", "publish_transfer_p95_s")
    say(f"preparing database and demonstrations in {var}")
    kept = ROOT / "var" / "experiments" / "kept"
    prepare_system(var, kept=kept, robots=ROBOTS, operators=SPARE + 1, policy="image", seed=0)
    say("first start")
    with running_system(var, robots=ROBOTS, operators=OPERATORS) as system:
        if any(wanted(key) for key in working):
            part(at_work, system, extent)
    say("second start")
    # Room for the benchmark's own operators: the scripted ones would fight it for the robots.
    with running_system(var, robots=ROBOTS, operators=0) as system:
        part(ready, system)
        if wanted("deadman_max_ms"):
            part(cuts, system, extent)
        if wanted("command_p95_ms"):
            part(keys, system, extent)
        if wanted("grant_p95_ms"):
            part(granted, system, extent)
        if wanted("label_next_frame_p95_ms"):
            part(labels, system, extent)
        if wanted("help_p95_ms"):
            part(helped, system, extent)
        part(mixed, system)
    if wanted("partial_episodes"):
        say("third start, without robots")
        with running_system(var, robots=0, operators=0) as system:
            part(killed, system, extent)
    video_parts = {
        key: run
        for run in (video.pages, video.throughput, video.stalled)
        for key in video.KEYS[run.__name__]
    }
    if any(wanted(key) for key in video_parts):
        say("fourth start, with robots that only show pictures")
        video.register(var, video.LADDER_ROBOTS)
        with running_system(var, robots=0, operators=0) as system:
            for run in dict.fromkeys(run for key, run in video_parts.items() if wanted(key)):
                part(run, system, extent.pictures)
    if wanted("learner_efficiency"):
        say("rounds against a bare loop")
        part(efficiency.measure, var)
    if wanted("episode_search_p95_ms"):
        say("searching a hundred thousand episodes")
        part(search.searched)
    if wanted("sample_vs_lerobot"):
        say("reading frames at random; making LeRobot's environment takes minutes, once")
        part(sampling.measure, var / "demonstrations", ROOT / "var" / "lerobot")


def main() -> int:
    """Measure and report; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", default="", help="comma-separated keys")
    parser.add_argument("--quick", action="store_true", help="a few of each: a trial run")
    parser.add_argument("--out", type=Path, default=ROOT / "var" / "bench.json")
    arguments = parser.parse_args()
    only = {key.strip() for key in arguments.only.split(",") if key.strip()}
    # SIGTERM ends like Ctrl-C: through every context manager, so that nothing is left running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    described = machine()
    var = Path(tempfile.mkdtemp(prefix="sop-bench-"))
    measures: list[Measure] = []
    failed: list[str] = []
    status = 0
    try:
        extent = QUICK if arguments.quick else Extent()
        measure(var, lambda key: not only or key in only, extent, measures, failed)
        shutil.rmtree(var, ignore_errors=True)
    except KeyboardInterrupt:
        failed.append("interrupted")
        status = 130
    except SystemFailed as error:
        failed.append(str(error))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        arguments.out,
        {
            "machine": described,
            "seconds": round(time.monotonic() - started, 1),
            "measures": {one.key: one.summary() for one in measures},
            "failed": failed,
        },
    )
    print(table(measures))
    print(f"\n{described['cores']} cores, {described['cpu']}; {arguments.out}")
    for one in failed:
        print(f"failed: {one}")
    print(last_line(measures))
    return status or (1 if failed else 0)


if __name__ == "__main__":
    raise SystemExit(main())
