"""The dashboards over a million episodes, through the real page: figures and words.

`python -m tests.bench.dashboards` measures them by itself.
"""

from tests.bench import requests
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


PARTS = ("figures.json", "_summary/")


def measure(episodes: int, repeats: int) -> requests.Took:
    """Fill the database of this process and look at it."""
    if requests.fill(episodes):
        from learning.services.rollups import recount

        recount()
    requests.settle()
    paths = {
        f"{kind}, {part}": f"/dashboards/{part}?{query}"
        for kind, query in KINDS.items()
        for part in PARTS
    }
    return requests.timed(paths, repeats)


def looked_at() -> list[Measure]:
    """Measure in a process with a database file of its own."""
    words = f"requests over {EPISODES} episodes, SQLite"
    module = "tests.bench.dashboards"
    return [requests.measured("dashboard_p95_s", module, words, unit="s", target="<= 1")]


if __name__ == "__main__":
    requests.main("tests.bench.dashboards", __doc__, measure, EPISODES, REPEATS)
