"""This process's end of Redis pub/sub: one reader, one writer, whatever the number of sockets.

At most once, by nature; every message on it is state or a command. Without Redis (or while it is
away) the links of this process still work among themselves.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable

import redis.asyncio as aioredis
from redis.exceptions import RedisError

from fleet.services.live.outbox import Outbox, OutboxFull

log = logging.getLogger(__name__)

_RETRY_S = (0.1, 0.5, 1.0, 2.0)


class Bus:
    """Subscribe to channels, get their messages in a callback, publish without waiting."""

    def __init__(self, url: str, on_message: Callable[[str, bytes], None]) -> None:
        self._url = url
        self._on_message = on_message
        self._wanted: set[str] = set()
        self._changed = asyncio.Event()
        self._outbox = Outbox(limit=1000)
        self._tasks: list[asyncio.Task[None]] = []
        # Set while the subscriptions are in force; tests and readiness look at it.
        self.listening = asyncio.Event()

    @property
    def enabled(self) -> bool:
        """Whether there is a Redis to talk to."""
        return bool(self._url)

    def start(self) -> None:
        """Start reading and writing, when there is a Redis to talk to."""
        if self._url:
            self._tasks = [
                asyncio.create_task(self._forever(self._read), name="bus reader"),
                asyncio.create_task(self._forever(self._write), name="bus writer"),
            ]

    async def stop(self) -> None:
        """Stop both and close their connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def subscribe(self, *channels: str) -> None:
        """Listen to more channels."""
        if not self._wanted.issuperset(channels):
            self._wanted.update(channels)
            self.listening.clear()
            self._changed.set()

    def unsubscribe(self, *channels: str) -> None:
        """Listen to fewer channels."""
        if not self._wanted.isdisjoint(channels):
            self._wanted.difference_update(channels)
            self._changed.set()

    def publish_state(self, channel: str, payload: bytes, *, key: str = "") -> None:
        """Publish state: what still waits for the same channel and key is replaced."""
        if self._url:
            self._outbox.put_state((channel, key), (channel, payload))

    def publish_command(self, channel: str, payload: bytes, *, ttl_s: float | None = 5.0) -> None:
        """Publish a command; dropped when Redis does not take it within `ttl_s`."""
        if not self._url:
            return
        try:
            self._outbox.put_command((channel, payload), ttl_s=ttl_s)
        except OutboxFull:
            log.warning("Redis is away: a command on %s is lost", channel)

    async def _forever(self, run: Callable[[aioredis.Redis], asyncio.Future[None]]) -> None:
        failures = 0
        while True:
            client = aioredis.Redis.from_url(self._url, socket_connect_timeout=1.0)
            try:
                await run(client)
            except (RedisError, OSError) as error:
                if failures == 0:
                    log.warning("Redis: %s", error)
                await asyncio.sleep(_RETRY_S[min(failures, len(_RETRY_S) - 1)])
                failures += 1
            finally:
                self.listening.clear()
                with contextlib.suppress(RedisError, OSError):
                    await client.aclose()

    async def _read(self, client: aioredis.Redis) -> None:
        async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
            held: set[str] = set()
            await self._follow(pubsub, held)
            follower = asyncio.create_task(self._follow_changes(pubsub, held))
            try:
                while not follower.done():
                    message = await pubsub.get_message(timeout=1.0)
                    if message is not None:
                        self._hand_over(message["channel"].decode(), message["data"])
                await follower
            finally:
                follower.cancel()
                await asyncio.gather(follower, return_exceptions=True)

    async def _follow_changes(self, pubsub: aioredis.client.PubSub, held: set[str]) -> None:
        while True:
            await self._changed.wait()
            await self._follow(pubsub, held)

    async def _follow(self, pubsub: aioredis.client.PubSub, held: set[str]) -> None:
        self._changed.clear()
        more, less = self._wanted - held, held - self._wanted
        if more:
            await pubsub.subscribe(*more)
        if less:
            await pubsub.unsubscribe(*less)
        held.update(more)
        held.difference_update(less)
        self.listening.set()

    async def _write(self, client: aioredis.Redis) -> None:
        while True:
            channel, payload = await self._outbox.get()
            await client.publish(channel, payload)

    def _hand_over(self, channel: str, payload: bytes) -> None:
        try:
            self._on_message(channel, payload)
        except Exception:
            # One bad message must not end the reader that every socket depends on.
            log.exception("a message on %s could not be used", channel)
