"""Searching 100,000 episodes through the real page: what a person waits for the server.

Run as a process of its own (`python -m tests.bench.search`), because Django's settings are chosen
once a process: it fills the empty database of SOP_VAR or DATABASE_URL, or uses one it filled.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from learning.experiments.analysis import quantile
from learning.experiments.system import ROOT
from tests.bench.report import Measure

EPISODES = 100_000
REPEATS = 12

# Kinds of searches: what people look for, and what is worst for the database.
KINDS = {
    "everything": "",
    "task": "task=peg-insert-side",
    "robot": "robot=arm-03",
    "failures of a task": "task=push&outcome=failure",
    "rare outcome": "outcome=abort",
    "outcome, oldest first": "outcome=timeout&sort=oldest",
    "held out": "purpose=eval",
    "corrected": "corrected=1",
    "by an operator": "by=operator-03",
    "by nobody": "by=nobody-at-all",
    "labelled": "labelled=1",
    "not labelled failures": "labelled=0&outcome=failure",
    "policy range": "policy_from=20&policy_to=22",
    "old versions": "policy_to=20",
    "made by a version": "made=hg-dagger+v200",
    "trained a version": "trained=hg-dagger+v30",
    "days": "since=2026-03-01&until=2026-03-02",
    "words": "q=gently",
    "a label's note": "q=slipped",
    "words nobody wrote": "q=banana",
    "start of a uid": "q={uid}",
    "everything at once": "task=push&robot=arm-03&outcome=success&corrected=1&labelled=1"
    "&by=operator-03&policy_from=100&since=2026-02-01&q=gently",
    "longest": "sort=longest",
    "most corrected of a task": "task=push&sort=corrected",
    "deep page": "after={place}",
    "back from a deep page": "before={place}",
}


def measure(episodes: int, repeats: int) -> dict[str, object]:
    """Fill the database of this process and search it; returns milliseconds by kind."""
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connection

    from learning.models import Episode
    from tests.bench.many_episodes import make_episodes

    started = time.perf_counter()
    call_command("migrate", verbosity=0)
    if Episode.objects.count() != episodes:
        make_episodes(episodes)
    with connection.cursor() as cursor:
        # What PostgreSQL does by itself in the minutes after such a change.
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")
    made_s = time.perf_counter() - started
    return {"vendor": connection.vendor, "made_s": made_s, "ms": timed(repeats)}


def timed(repeats: int) -> dict[str, list[float]]:
    """Search what there is, every kind `repeats` times in turn; returns milliseconds by kind."""
    from django.test import Client

    from fleet.models import Operator
    from learning.models import Episode
    from learning.selectors.search import cursor_of

    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(Operator.objects.first().user)
    middle = Episode.objects.order_by("-started_at")[Episode.objects.count() // 2]
    place = str(cursor_of(middle, "newest")).replace("+", "%2B")
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    # In turn, so that none is served from what it just read itself.
    for turn in range(repeats + 1):
        for kind, query in KINDS.items():
            began = time.perf_counter()
            path = f"/episodes/?{query.format(uid=str(middle.uid)[:8], place=place)}"
            answer = client.get(path)
            took_ms = 1000 * (time.perf_counter() - began)
            if answer.status_code != 200:
                raise SystemExit(f"{kind} was answered with {answer.status_code}")
            # The first turn fills caches of Python and of the database.
            if turn:
                found[kind].append(took_ms)
    return found


def searched() -> list[Measure]:
    """Measure on SQLite, and on PostgreSQL where its server is installed; both are private."""
    found = [_searched("episode_search_p95_ms", "SQLite", [])]
    if list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        through = [str(ROOT / "scripts" / "with_postgres.sh")]
        found.append(_searched("episode_search_p95_ms_postgresql", "PostgreSQL", through))
    return found


def _searched(key: str, database: str, through: list[str]) -> Measure:
    # A process of its own: Django's database is chosen once.
    with tempfile.TemporaryDirectory(prefix="sop-search-") as var:
        done = subprocess.run(
            [*through, sys.executable, "-m", "tests.bench.search", "--json"],
            env={
                **{k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL")},
                "SOP_VAR": var,
            },
            cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    ms: dict[str, list[float]] = json.loads(done.stdout)["ms"]
    every = [value for values in ms.values() for value in values]
    slowest = sorted(ms, key=lambda kind: -quantile(ms[kind], 0.95))[:3]
    return Measure(
        key,
        quantile(every, 0.95),
        "ms",
        "<= 300",
        every,
        f"{len(ms)} kinds of searches over {EPISODES} episodes through the page, request to "
        f"response, {database}; slowest, p95: "
        + ", ".join(f"{kind} {quantile(ms[kind], 0.95):.0f}" for kind in slowest),
    )


def main() -> None:
    """Measure here and print a table, or one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.search", description=__doc__)
    parser.add_argument("--episodes", type=int, default=EPISODES)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--json", action="store_true", help="for the benchmark that started it")
    arguments = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sop_web.settings")
    result = measure(arguments.episodes, arguments.repeats)
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{arguments.episodes} episodes on {result['vendor']}, made in {result['made_s']:.0f} s")
    every = [ms for values in result["ms"].values() for ms in values]
    for kind, values in {**result["ms"], "all": every}.items():
        p50, p95 = quantile(values, 0.5), quantile(values, 0.95)
        print(f"{kind:26} n={len(values):3}  p50 {p50:6.1f} ms  p95 {p95:6.1f} ms")


if __name__ == "__main__":
    main()
