"""What waits to be sent on one socket: state overwrites, commands expire, nothing else is lost.

A slow peer therefore costs a bounded amount of memory, and never sees an old command late.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any


class OutboxFull(Exception):
    """More commands wait than a working peer would leave."""


class Outbox:
    """One writer's queue. Not thread-safe: lives in the event loop of its socket."""

    def __init__(self, *, limit: int = 256, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._commands: deque[tuple[float | None, Any]] = deque()
        self._state: dict[object, Any] = {}
        self._ready = asyncio.Event()

    def __len__(self) -> int:
        return len(self._commands) + len(self._state)

    def put_state(self, key: object, item: Any) -> None:
        """Put state: it replaces what waits under `key`."""
        self._state.pop(key, None)
        self._state[key] = item
        self._ready.set()

    def put_command(self, item: Any, *, ttl_s: float | None = None, first: bool = False) -> None:
        """Put a command; it is dropped when still waiting after `ttl_s`. Raises OutboxFull."""
        if len(self._commands) >= self._limit:
            self._drop_expired()
            if len(self._commands) >= self._limit:
                raise OutboxFull(f"{len(self._commands)} commands wait")
        entry = (None if ttl_s is None else self._clock() + ttl_s, item)
        if first:
            self._commands.appendleft(entry)
        else:
            self._commands.append(entry)
        self._ready.set()

    def waiting_state(self, key: object) -> Any | None:
        """Return the state that waits under `key`, or None."""
        return self._state.get(key)

    async def get(self) -> Any:
        """Wait for and return the next item: commands before state, each in order of arrival."""
        while True:
            self._drop_expired()
            if self._commands:
                return self._commands.popleft()[1]
            if self._state:
                return self._state.pop(next(iter(self._state)))
            self._ready.clear()
            await self._ready.wait()

    def _drop_expired(self) -> None:
        now = self._clock()
        if any(expires is not None and expires < now for expires, _ in self._commands):
            self._commands = deque(
                entry for entry in self._commands if entry[0] is None or entry[0] >= now
            )
