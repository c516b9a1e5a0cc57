"""Calls that begin at the same moment, each with a database connection of its own."""

import threading
from collections.abc import Callable, Iterable

from django.db import connection


def at_once(calls: Iterable[Callable[[], object]]) -> list[object]:
    """Return what each call returned, or the exception that it raised, in their order."""
    calls = list(calls)
    start = threading.Barrier(len(calls))
    came: list[object] = [None] * len(calls)

    def run(place: int, call: Callable[[], object]) -> None:
        try:
            start.wait()
            came[place] = call()
        except Exception as error:
            came[place] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return came
