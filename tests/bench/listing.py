"""Listing 100,000 episodes through the API; `python -m tests.bench.listing` by itself."""

from tests.bench import requests
from tests.bench.report import Measure

EPISODES = 100_000
REPEATS = 12

# As a client reads them: from the start, on from where it was, and some of them.
KINDS = {
    "first page": "",
    "a thousand": "limit=1000",
    "from the middle": f"since_seq={EPISODES // 2}",
    "the newest": f"since_seq={EPISODES - 200}",
    "nothing new": f"since_seq={EPISODES}",
    "task": "task=push",
    "task, from the middle": f"task=peg-insert-side&since_seq={EPISODES // 2}",
    "no such task": "task=nobody-has-it",
    "held out": "purpose=eval",
    "held out, nearly at the end": f"purpose=eval&since_seq={EPISODES - 1000}",
}


def measure(episodes: int, repeats: int) -> requests.Took:
    """Fill the database of this process and list it."""
    requests.fill(episodes)
    requests.settle()
    return requests.timed({kind: f"/api/episodes?{ask}" for kind, ask in KINDS.items()}, repeats)


def listed() -> list[Measure]:
    """Measure in a process with a database file of its own."""
    words = f"pages of {EPISODES} episodes, SQLite"
    module = "tests.bench.listing"
    return [requests.measured("api_list_p95_ms", module, words, unit="ms", target="<= 300")]


if __name__ == "__main__":
    requests.main("tests.bench.listing", __doc__, measure, EPISODES, REPEATS)
