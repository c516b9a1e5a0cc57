"""Measure this machine: `make bench`. A table, `var/bench.json`, and one line of JSON at the end.

The whole system is started in a folder of its own and measured from outside: by a real browser,
by operators whose connections are cut, by what its robots and its database say. About forty
minutes.
`--only KEY,KEY` measures a part; the keys that were not measured are then null.
"""

import argparse
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from learning.experiments.preparation import prepare_system
from learning.experiments.stages import write_json
from learning.experiments.system import ROOT, SystemFailed, running_system
from tests.bench import dashboards, efficiency, listing, parts, sampling, search, video, wall
from tests.bench.manage import shell
from tests.bench.report import Measure, last_line, machine, table

PAUSE = "from learning.models import Learner; Learner.objects.update(state='paused')"


def measure(
    var: Path,
    wanted: Callable[[str], bool],
    extent: parts.Extent,
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
            parts.say(f"FAILED {failed[-1]}")

    working = (
        "loop_jitter_p99_ms", "episode_to_gradient_p50_s", "publish_transfer_p95_s",
        "correction_to_fleet_p50_s",
    )  # fmt: skip
    parts.say(f"preparing database and demonstrations in {var}")
    kept = ROOT / "var" / "experiments" / "kept"
    prepare_system(
        var, kept=kept, robots=parts.ROBOTS, operators=parts.SPARE + 1, policy="image", seed=0
    )
    parts.say("first start")
    with running_system(var, robots=parts.ROBOTS, operators=parts.OPERATORS) as system:
        if any(wanted(key) for key in working):
            part(parts.at_work, system, extent)
    # It has the cores of another machine: here it would take one of the two that robots, server and
    # browser share, and what follows is about them.
    shell(var, PAUSE)
    parts.say("second start")
    # Room for the benchmark's own operators: the scripted ones would fight it for the robots.
    with running_system(var, robots=parts.ROBOTS, operators=0) as system:
        part(parts.ready, system)
        if wanted("deadman_max_ms"):
            part(parts.cuts, system, extent)
        if wanted("grant_p95_ms"):
            part(parts.granted, system, extent)
        if wanted("help_p95_ms"):
            part(parts.helped, system, extent)
        if wanted("rollback_announce_p95_s"):
            part(parts.rolled_back, system, extent)
        part(parts.mixed, system)
    if wanted("command_p95_ms") or wanted("label_next_frame_p95_ms"):
        # An operator's computer simulates no fleet: one robot to drive, and the browser.
        parts.say("third start, with one robot")
        with running_system(var, robots=1, operators=0) as system:
            if wanted("command_p95_ms"):
                part(parts.keys, system, extent)
            if wanted("label_next_frame_p95_ms"):
                part(parts.labels, system, extent)
    if wanted("partial_episodes"):
        parts.say("fourth start, without robots")
        with running_system(var, robots=0, operators=0) as system:
            part(parts.killed, system, extent)
    video_parts = {
        key: run
        for run in (video.pages, video.throughput, video.stalled)
        for key in video.KEYS[run.__name__]
    } | dict.fromkeys(wall.KEYS, wall.walls)
    if any(wanted(key) for key in video_parts):
        parts.say("fifth start, with robots that only show pictures")
        video.register(var, video.LADDER_ROBOTS)
        with running_system(var, robots=0, operators=0) as system:
            for run in dict.fromkeys(run for key, run in video_parts.items() if wanted(key)):
                part(run, system, extent.pictures)
    if wanted("learner_efficiency"):
        parts.say("rounds against a bare loop")
        part(efficiency.measure, var)
    if wanted("episode_search_p95_ms") or wanted("episode_search_p95_ms_postgresql"):
        parts.say("searching a hundred thousand episodes")
        part(search.searched)
    if wanted("api_list_p95_ms"):
        parts.say("listing a hundred thousand episodes")
        part(listing.listed)
    if wanted("dashboard_p95_s"):
        parts.say("looking at a million episodes")
        part(dashboards.looked_at)
    if wanted("sample_vs_lerobot"):
        parts.say("reading frames at random; making LeRobot's environment takes minutes, once")
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
        extent = parts.QUICK if arguments.quick else parts.Extent()
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
