"""The dashboards over a million episodes, through the real page: figures and words.

Run as a process of its own (`python -m tests.bench.dashboards`), because Django's settings are
chosen once a process: it fills the empty database of SOP_VAR or DATABASE_URL, or uses the one
that it filled.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

from learning.experiments.analysis import quantile
from learning.experiments.system import ROOT
from tests.bench.report import Measure

EPISODES = 1_000_000
REPEATS = 8
# Of `many_episodes`: its first day, and a day after its last.
EVERYTHING = "since=2026-01-01&until=2035-01-01"

KINDS = {
    "a day": "since=2026-03-01&until=2026-03-01",
    "a month": "since=2026-03-01&until=2026-03-31",
    "a year": "since=2026-01-01&until=2026-12-31",
    "everything": EVERYTHING,
    "everything by task": f"{EVERYTHING}&split=task",
    "everything by robot": f"{EVERYTHING}&split=robot",
    "everything of a task": f"{EVERYTHING}&task=push",
    "by version": f"{EVERYTHING}&axis=version&split=task",
}


def measure(episodes: int, repeats: int) -> dict[str, object]:
    """Fill the database of this process and look at it; returns seconds by kind."""
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connection
    from django.test import Client

    from fleet.models import Operator
    from learning.models import Episode
    from learning.services.rollups import recount
    from tests.bench.many_episodes import make_episodes

    started = time.perf_counter()
    call_command("migrate", verbosity=0)
    if Episode.objects.count() != episodes:
        make_episodes(episodes)
        recount()
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")
    made_s = time.perf_counter() - started
    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(Operator.objects.first().user)
    took: dict[str, list[float]] = {}
    # In turn, so that none is served from what it just read itself; the first turn fills caches.
    for turn in range(repeats + 1):
        for kind, query in KINDS.items():
            for path in ("figures.json", "_summary/"):
                began = time.perf_counter()
                answer = client.get(f"/dashboards/{path}?{query}")
                seconds = time.perf_counter() - began
                if answer.status_code != 200 or not answer.content:
                    raise SystemExit(f"{kind} was answered with {answer.status_code}")
                if turn:
                    took.setdefault(f"{kind}, {path}", []).append(seconds)
    return {"vendor": connection.vendor, "made_s": made_s, "s": took}


def looked_at() -> list[Measure]:
    """Measure in a process with a database file of its own."""
    with tempfile.TemporaryDirectory(prefix="sop-dashboards-") as var:
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.dashboards", "--json"],
            env={
                **{k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL")},
                "SOP_VAR": var,
            },
            cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    took: dict[str, list[float]] = json.loads(done.stdout)["s"]
    every = [value for values in took.values() for value in values]
    slowest = sorted(took, key=lambda kind: -quantile(took[kind], 0.95))[:3]
    return [
        Measure(
            "dashboard_p95_s",
            quantile(every, 0.95),
            "s",
            "<= 1",
            every,
            f"{len(took)} kinds of requests over {EPISODES} episodes, request to response, SQLite; "
            "slowest, p95: "
            + ", ".join(f"{kind} {quantile(took[kind], 0.95):.2f}" for kind in slowest),
        )
    ]


def main() -> None:
    """Measure here and print a table, or one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.dashboards", description=__doc__)
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
    every = [seconds for values in result["s"].values() for seconds in values]
    for kind, values in {**result["s"], "all": every}.items():
        p50, p95 = quantile(values, 0.5), quantile(values, 0.95)
        print(f"{kind:36} n={len(values):3}  p50 {p50:6.3f} s  p95 {p95:6.3f} s")


if __name__ == "__main__":
    main()
