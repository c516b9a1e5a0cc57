"""What every socket does: authenticate, read one message at a time, write from one outbox.

These are plain ASGI applications under Channels' routing and authentication, not subclasses of its
consumers: those pass every message through the one thread that all synchronous code shares, so a
slow query elsewhere would delay a stop.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar
from urllib.parse import urlsplit

from django.conf import settings
from django.db import DatabaseError
from django.http.request import split_domain_port, validate_host

from fleet.exceptions import Refusal
from fleet.protocol import messages as m
from fleet.protocol.codec import BadMessage, encode_text
from fleet.services.live.outbox import Outbox, OutboxFull

log = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Socket:
    """One connection. Subclasses say who may come in and what each message does."""

    # Commands that may wait for a peer before its socket is closed with OVERFLOW.
    outbox_limit: ClassVar[int] = 256

    def __init__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self.outbox = Outbox(limit=self.outbox_limit)
        self._closing: asyncio.Future[m.CloseCode] = asyncio.get_running_loop().create_future()

    @classmethod
    def as_asgi(cls) -> Callable[[dict[str, Any], Receive, Send], Awaitable[None]]:
        """Return the ASGI application."""

        async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await cls(scope, receive, send).run()

        return application

    # ---- what subclasses say -----------------------------------------------------------------

    async def authenticate(self) -> None:
        """Find out who this is. Raises Refusal."""
        raise NotImplementedError

    async def joined(self) -> None:
        """Do what comes first, once accepted."""

    async def received(self, data: str | bytes) -> None:
        """Act on one message. Raises BadMessage; must not wait for anything slow."""
        raise NotImplementedError

    def left(self) -> None:
        """Undo `joined`; called once, however the connection ended."""

    # ---- life --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the connection until either side ends it."""
        if (await self._receive())["type"] != "websocket.connect":
            return
        try:
            await self.authenticate()
        except Refusal as error:
            # Accepted first: a browser sees the code of a close, never that of a refused handshake.
            await self._send({"type": "websocket.accept"})
            await self._close(m.CloseCode.UNAUTHENTICATED, str(error))
            return
        except DatabaseError:
            log.exception("a socket cannot be authenticated")
            await self._send({"type": "websocket.accept"})
            await self._close(m.CloseCode.GOING_AWAY, "the database does not answer")
            return
        await self._send({"type": "websocket.accept"})
        await self.joined()
        tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]
        try:
            await asyncio.wait([*tasks, self._closing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.left()
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            for end in ends:
                if isinstance(end, Exception):
                    log.error("a socket failed", exc_info=end)
                    self.close(m.CloseCode.GOING_AWAY)
            # Cancelled means that the peer went first: there is nobody to tell.
            if self._closing.done() and not self._closing.cancelled():
                await self._close(self._closing.result(), "")
            self._closing.cancel()

    def close(self, code: m.CloseCode) -> None:
        """End the connection with a code; the first code counts."""
        if not self._closing.done():
            self._closing.set_result(code)

    async def _close(self, code: m.CloseCode, reason: str) -> None:
        # 123 bytes is the protocol's limit for a reason.
        reason = (reason or code.name.lower().replace("_", " "))[:120]
        await self._send({"type": "websocket.close", "code": int(code), "reason": reason})

    async def _read(self) -> None:
        while True:
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                self._closing.cancel()
                return
            data = event.get("text")
            try:
                await self.received(event.get("bytes") or b"" if data is None else data)
            except BadMessage as error:
                self.refuse("bad_message", str(error))
            except Refusal as error:
                self.refuse(error.code, str(error))

    async def _write(self) -> None:
        while True:
            frame = self.frame(await self.outbox.get())
            try:
                await self._send(frame)
            except Exception as error:
                # Its connection is gone before the server said so: nothing is left to do for it.
                log.info("a peer went away: %s", error)
                self._closing.cancel()
                return

    def frame(self, item: Any) -> dict[str, Any]:
        """Return an item of the outbox as an ASGI event: JSON here."""
        text = item if isinstance(item, str) else encode_text(item)
        return {"type": "websocket.send", "text": text}

    # ---- sending -----------------------------------------------------------------------------

    def send(self, message: m.Message, *, ttl_s: float | None = None, first: bool = False) -> None:
        """Queue a message; a peer that leaves too many unread is disconnected."""
        try:
            self.outbox.put_command(message, ttl_s=ttl_s, first=first)
        except OutboxFull:
            if ttl_s is not None:
                raise
            log.warning("a peer does not read: closed")
            self.close(m.CloseCode.OVERFLOW)

    def send_state(self, key: object, message: Any) -> None:
        """Put state; a slow peer gets the newest only."""
        self.outbox.put_state(key, message)

    def refuse(self, code: str, reason: str) -> None:
        """Answer a message that cannot be used; the connection stays."""
        refused = m.Refused(code=code, reason=reason[:500])
        # One slot: somebody who sends rubbish without reading costs nothing.
        self.outbox.put_state(("refused", code), refused)

    # ---- who asks ----------------------------------------------------------------------------

    def header(self, name: bytes) -> str:
        """Return a request header, or an empty string."""
        for key, value in self.scope["headers"]:
            if key.lower() == name:
                return value.decode("latin-1")
        return ""

    def bearer_token(self) -> str:
        """Return the token of the Authorization header, or an empty string."""
        scheme, _, token = self.header(b"authorization").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""

    def same_origin(self) -> bool:
        """Say whether a browser's page comes from this site, as its cookies are sent from any."""
        host = self.header(b"host")
        domain, _ = split_domain_port(host)
        if not validate_host(domain, settings.ALLOWED_HOSTS):
            return False
        origin = self.header(b"origin")
        return urlsplit(origin).netloc == host or origin in settings.CSRF_TRUSTED_ORIGINS
