"""Encode and decode messages: msgpack to robots, JSON to browsers, header and JPEG to viewers."""

from typing import Any, Protocol, TypeVar

import msgspec

from fleet.protocol import browser as b
from fleet.protocol import messages as m


class BadMessage(ValueError):
    """A peer's message that is too large, malformed, or of an unknown type."""


T_co = TypeVar("T_co", covariant=True)


class _Decoder(Protocol[T_co]):
    def decode(self, data: Any, /) -> T_co: ...


_msgpack = msgspec.msgpack.Encoder()
_json = msgspec.json.Encoder()
_from_robot: _Decoder[m.FromRobot] = msgspec.msgpack.Decoder(m.FromRobot)
_to_robot: _Decoder[m.ToRobot] = msgspec.msgpack.Decoder(m.ToRobot)
_from_browser: _Decoder[b.FromBrowser] = msgspec.json.Decoder(b.FromBrowser)
_from_viewer: _Decoder[b.FromViewer] = msgspec.json.Decoder(b.FromViewer)
_to_browser: _Decoder[b.ToBrowser] = msgspec.json.Decoder(b.ToBrowser)


def encode_link(message: m.Message) -> bytes:
    """Return `message` as one binary frame of a control link."""
    return _msgpack.encode(message)


def encode_text(message: m.Message) -> str:
    """Return `message` as one text frame of a browser socket."""
    return _json.encode(message).decode()


def _decode(decoder: _Decoder[T_co], data: bytes | str, limit_bytes: int) -> T_co:
    if len(data) > limit_bytes:
        raise BadMessage(f"message of {len(data)} bytes is over the limit of {limit_bytes}")
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadMessage(str(error)) from None


def decode_from_robot(data: bytes) -> m.FromRobot:
    """Decode what a robot sent. Raises BadMessage."""
    return _decode(_from_robot, data, m.MAX_LINK_MESSAGE_BYTES)


def decode_to_robot(data: bytes) -> m.ToRobot:
    """Decode what the server sent to a robot. Raises BadMessage."""
    return _decode(_to_robot, data, m.MAX_LINK_MESSAGE_BYTES)


def decode_from_browser(data: str) -> b.FromBrowser:
    """Decode what a browser sent on the operator socket. Raises BadMessage."""
    return _decode(_from_browser, data, b.MAX_BROWSER_MESSAGE_BYTES)


def decode_from_viewer(data: str) -> b.FromViewer:
    """Decode what a browser sent on the feed socket. Raises BadMessage."""
    return _decode(_from_viewer, data, b.MAX_BROWSER_MESSAGE_BYTES)


def decode_to_browser(data: str) -> b.ToBrowser:
    """Decode what the server sent to an operator; scripted operators use it. Raises BadMessage."""
    return _decode(_to_browser, data, m.MAX_LINK_MESSAGE_BYTES)


class FrameHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What precedes the JPEG in a binary frame to a viewer."""

    robot: str
    camera: str
    size: m.FeedSize
    seq: int
    # When the image was taken, on the server's clock.
    t_wall_ns: int
    # Age of the image when the server sent it.
    age_ms: float


_frame_header = msgspec.json.Decoder(FrameHeader)


def pack_frame(header: FrameHeader, jpeg: bytes) -> bytes:
    """Return a viewer's binary frame: u16 big-endian header length, JSON header, JPEG."""
    head = _json.encode(header)
    return len(head).to_bytes(2, "big") + head + jpeg


def unpack_frame(data: bytes) -> tuple[FrameHeader, bytes]:
    """Undo `pack_frame`. Raises BadMessage."""
    length = int.from_bytes(data[:2], "big")
    if len(data) < 2 + length:
        raise BadMessage("frame is shorter than its header says")
    return _decode(_frame_header, data[2 : 2 + length], 65_535), data[2 + length :]
