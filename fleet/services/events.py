"""What processes tell each other: channel names, the structs on them, and publishing from services.

Delivery is at most once (docs/architecture.md): whatever must not be lost is a row, and the row
is reconciled. A process that holds the robot's socket is told directly, without Redis.
"""

import functools
import logging
from collections.abc import Callable
from typing import Annotated

import msgspec
import redis
from django.conf import settings
from django.db import transaction
from msgspec import Meta

from fleet.protocol import codec
from fleet.protocol import messages as m
from fleet.protocol.control import Lease
from fleet.protocol.spec import Name, Text

log = logging.getLogger(__name__)

ROBOTS = "sop:robots"
ANSWERS = "sop:answers"
POLICIES = "sop:policies"
STOPS = "sop:stops"
LINKS = "sop:links"
ASKS = "sop:asks"
PASSES = "sop:passes"
FLEET = "sop:fleet"
HELP = "sop:help"
CORRECTIONS = "sop:corrections"


class PolicyForRobots(msgspec.Struct, frozen=True, kw_only=True):
    """On POLICIES: an announcement and the robots it is for."""

    robots: tuple[Name, ...]
    announcement: m.PolicyAnnouncement


class StopRequest(msgspec.Struct, frozen=True, kw_only=True):
    """On STOPS: stop these robots, or every one."""

    stop: m.Stop
    robots: Annotated[tuple[Name, ...], Meta(max_length=m.MAX_ROBOTS_PER_MESSAGE)] = ()
    every: bool = False


class LinkTaken(msgspec.Struct, frozen=True, kw_only=True):
    """On LINKS: a robot connected to this process; whoever else has a socket of it closes that."""

    robot: Name
    process: Text


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """On ASKS: who asks for a robot in one process; replaces what it said before, repeated."""

    robot: Name
    process: Text
    operators: tuple[Text, ...] = ()


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """On PASSES: whoever asked for the robot under this name has its lease now."""

    robot: Name
    lease: Lease


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """On a demand channel: what the viewers of one process want from a robot; repeated."""

    process: Text
    request: m.FeedRequest


def commands_of(robot: str) -> str:
    """Return the channel of commands to `robot`."""
    return f"sop:commands:{robot}"


def telemetry_of(robot: str) -> str:
    """Return the channel of `robot`'s fast state."""
    return f"sop:telemetry:{robot}"


def demand_of(robot: str) -> str:
    """Return the channel on which processes say what they want from `robot`."""
    return f"sop:demand:{robot}"


def feed_of(robot: str, camera: str, size: str) -> str:
    """Return the channel of one camera's frames."""
    return f"sop:feed:{robot}:{camera}:{size}"


# The live links of this process, when it has any: called with (channel, payload), from any thread;
# True says that nobody else needs to hear.
Listener = Callable[[str, bytes], bool]
_listener: Listener | None = None


def listen(listener: Listener) -> None:
    """Hand this process's own publications to `listener` first, in place of any other."""
    global _listener
    _listener = listener


def leave(listener: Listener) -> None:
    """Hand nothing more to `listener`; one that listens by now in its place goes on."""
    global _listener
    if _listener == listener:
        _listener = None


@functools.cache
def _client(url: str) -> redis.Redis:
    # A dead Redis must cost a stop or a publish no more than this.
    return redis.Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=0.5)


def publish(channel: str, payload: bytes) -> None:
    """Tell this process's links, then the other processes. Never raises: a loss is reconciled."""
    if _listener is not None and _listener(channel, payload):
        return
    if not settings.REDIS_URL:
        return
    try:
        _client(settings.REDIS_URL).publish(channel, payload)
    except redis.RedisError as error:
        log.warning("could not publish on %s: %s", channel, error)


def publish_on_commit(channel: str, payload: bytes) -> None:
    """Publish when the running transaction commits; not at all when it rolls back."""
    transaction.on_commit(functools.partial(publish, channel, payload))


def command_on_commit(robot: str, message: m.Message) -> None:
    """Send a command to a robot, wherever its socket is, when the transaction commits."""
    publish_on_commit(commands_of(robot), codec.encode_link(message))
