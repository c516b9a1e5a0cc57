"""Searching 100,000 episodes through the real page; `python -m tests.bench.search` by itself."""

from pathlib import Path

from learning.experiments.system import ROOT
from tests.bench import requests
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


def measure(episodes: int, repeats: int) -> requests.Took:
    """Fill the database of this process and search it."""
    requests.fill(episodes)
    requests.settle()
    return requests.timed(paths(), repeats)


def paths() -> dict[str, str]:
    """Return the addresses of all kinds of searches over what there is."""
    from learning.models import Episode
    from learning.selectors.search import cursor_of

    middle = Episode.objects.order_by("-started_at")[Episode.objects.count() // 2]
    place = str(cursor_of(middle, "newest")).replace("+", "%2B")
    return {
        kind: f"/episodes/?{query.format(uid=str(middle.uid)[:8], place=place)}"
        for kind, query in KINDS.items()
    }


def searched() -> list[Measure]:
    """Measure on SQLite, and on PostgreSQL where its server is installed; both are private."""
    found = [_searched("episode_search_p95_ms", "SQLite", [])]
    if list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        through = [str(ROOT / "scripts" / "with_postgres.sh")]
        found.append(_searched("episode_search_p95_ms_postgresql", "PostgreSQL", through))
    return found


def _searched(key: str, database: str, through: list[str]) -> Measure:
    words = f"searches over {EPISODES} episodes through the page, {database}"
    module = "tests.bench.search"
    return requests.measured(key, module, words, unit="ms", target="<= 300", through=through)


if __name__ == "__main__":
    requests.main("tests.bench.search", __doc__, measure, EPISODES, REPEATS)
