"""Feed sockets: a viewer's frames, newest only, at the pace at which they are shown."""

import asyncio
from typing import Any, assert_never

from fleet.consumers.operator import PersonSocket
from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.codec import FrameHeader, decode_from_viewer, encode_text, pack_frame
from fleet.services.live.feeds import Shot, Viewer


class FeedSocket(PersonSocket):
    """One viewer. JSON in; binary frames out, and JSON answers."""

    async def joined(self) -> None:
        """Join; nothing is watched yet."""
        await super().joined()
        self._frames_ready = asyncio.Event()
        self.viewer = Viewer(self._frames_ready.set)
        self.hub.feeds.attach(self.viewer)
        self._pump = self.hub.spawn(self._send_frames())

    def left(self) -> None:
        """Leave; robots that nobody else watches stop sending."""
        super().left()
        self._pump.cancel()
        self.hub.feeds.detach(self.viewer)

    async def received(self, data: str | bytes) -> None:
        """Act on one message."""
        message = decode_from_viewer(self._text(data))
        match message:
            case b.WatchFrames():
                self.viewer.want(message.feeds)
                self.hub.feeds.refresh()
            case b.FrameShown():
                self.viewer.shown((message.robot, message.camera, message.size), message.seq)
            case m.Ping():
                self._pong(message)
            case m.Pong():
                pass
            case _:
                assert_never(message)

    async def _send_frames(self) -> None:
        """State. The header is made when the frame is taken, so that its age is true."""
        while True:
            await self._frames_ready.wait()
            self._frames_ready.clear()
            while (shot := self.viewer.take()) is not None:
                await self._send(self.frame(shot))

    def frame(self, item: Any) -> dict[str, Any]:
        """Return a frame as binary, anything else as text."""
        if not isinstance(item, Shot):
            return {"type": "websocket.send", "text": encode_text(item)}
        robot, camera, size = item.feed
        header = FrameHeader(
            robot=robot,
            camera=camera,
            size=size,
            seq=item.seq,
            t_wall_ns=item.taken_wall_ns,
            age_ms=self.hub.feeds.age_ms(item),
        )
        return {"type": "websocket.send", "bytes": pack_frame(header, item.jpeg)}
