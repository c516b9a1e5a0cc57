"""Database calls of the sockets, in threads of their own.

Not Channels' `database_sync_to_async`: that shares one thread, so a write that waits for SQLite's
lock would delay every other socket's.
"""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import close_old_connections

P = ParamSpec("P")
T = TypeVar("T")

_pool = ThreadPoolExecutor(4, thread_name_prefix="fleet-db")


async def in_thread(call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a call that uses the database, and wait for it without blocking the loop."""
    run = functools.partial(_run, functools.partial(call, *args, **kwargs))
    return await asyncio.get_running_loop().run_in_executor(_pool, run)


def _run(call: Callable[[], T]) -> T:
    close_old_connections()
    try:
        return call()
    finally:
        close_old_connections()
