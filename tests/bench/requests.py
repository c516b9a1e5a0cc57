"""Pages over a database of very many episodes: what a person waits for the server.

In a process of its own, because Django's settings are chosen once a process: it fills the empty
database of SOP_VAR or DATABASE_URL, or uses one that it filled.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from learning.experiments.analysis import quantile
from learning.experiments.system import ROOT
from tests.bench.report import Measure

# Seconds from request to response, by kind of request.
Took = dict[str, list[float]]
PER_SECOND = {"s": 1, "ms": 1000}


def fill(episodes: int) -> bool:
    """Have this many episodes in the database of this process; tells whether they are new."""
    import django

    django.setup()
    from django.core.management import call_command

    from learning.models import Episode
    from tests.bench.many_episodes import make_episodes

    call_command("migrate", verbosity=0)
    if Episode.objects.count() == episodes:
        return False
    make_episodes(episodes)
    return True


def settle() -> None:
    """Do what PostgreSQL does by itself in the minutes after such a change."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")


def timed(paths: dict[str, str], repeats: int) -> Took:
    """Ask for every path `repeats` times.

    Raises:
        SystemExit: One was not answered.
    """
    from django.test import Client

    from fleet.models import Operator

    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(Operator.objects.first().user)
    took: Took = {kind: [] for kind in paths}
    # In turn, so that none is served from what it just read itself.
    for turn in range(repeats + 1):
        for kind, path in paths.items():
            began = time.perf_counter()
            answer = client.get(path)
            seconds = time.perf_counter() - began
            if answer.status_code != 200 or not answer.content:
                raise SystemExit(f"{kind} was answered with {answer.status_code}")
            # The first turn fills caches of Python and of the database.
            if turn:
                took[kind].append(seconds)
    return took


def measured(
    key: str, module: str, words: str, *, unit: str, target: str, through: Sequence[str] = ()
) -> Measure:
    """Run `python -m module --json` on a private database, by way of a command if one is named."""
    with tempfile.TemporaryDirectory(prefix="sop-requests-") as var:
        done = subprocess.run(
            [*through, sys.executable, "-m", module, "--json"],
            env={
                **{k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL")},
                "SOP_VAR": var,
            },
            cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    took: Took = json.loads(done.stdout)
    p95 = {kind: quantile(values, 0.95) for kind, values in took.items()}
    slowest = ", ".join(
        f"{kind} {1000 * p95[kind]:.0f} ms" for kind in sorted(p95, key=lambda kind: -p95[kind])[:3]
    )
    values = [seconds * PER_SECOND[unit] for seconds in every(took)]
    note = f"{len(took)} kinds of {words}, request to response; slowest, p95: {slowest}"
    return Measure(key, quantile(values, 0.95), unit, target, values, note)


def every(took: Took) -> list[float]:
    """Return the seconds of all kinds."""
    return [seconds for values in took.values() for seconds in values]


def main(
    module: str, words: str | None, measure: Callable[[int, int], Took], episodes: int, repeats: int
) -> None:
    """Measure here and print a table, or one line of JSON."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=words)
    parser.add_argument("--episodes", type=int, default=episodes)
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--json", action="store_true", help="for the benchmark that started it")
    arguments = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sop_web.settings")
    took = measure(arguments.episodes, arguments.repeats)
    if arguments.json:
        print(json.dumps(took))
        return
    for kind, values in {**took, "all": every(took)}.items():
        p50, p95 = (1000 * quantile(values, share) for share in (0.5, 0.95))
        print(f"{kind:36} n={len(values):3}  p50 {p50:6.1f} ms  p95 {p95:6.1f} ms")
