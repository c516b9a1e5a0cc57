"""Frames from robots to viewers: sent only while watched, newest only, at the viewer's pace.

Memory is bounded by construction: one waiting frame and FRAME_CREDIT sent ones a subscription.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.services.events import Demand

# A process that repeats no demand for this long has lost interest, or died.
DEMAND_TTL_S = 3.0
Feed = tuple[str, str, m.FeedSize]


@dataclass(slots=True)
class Shot:
    """A frame on its way to viewers; its time is on the server's clock."""

    feed: Feed
    seq: int
    taken_wall_ns: int
    jpeg: bytes


@dataclass(slots=True)
class _Subscription:
    newest: Shot | None = None
    # Sequence numbers sent and not yet shown, in the order they were sent.
    unshown: deque[int] = field(default_factory=deque)


class Viewer:
    """One feed socket's subscriptions. `on_ready` is called when a frame may be sent."""

    def __init__(self, on_ready: Callable[[], None]) -> None:
        self._on_ready = on_ready
        self._subscriptions: dict[Feed, _Subscription] = {}

    @property
    def feeds(self) -> frozenset[Feed]:
        """What is wanted now."""
        return frozenset(self._subscriptions)

    def want(self, feeds: tuple[Feed, ...]) -> None:
        """Replace what is wanted; what stays keeps its credit."""
        old = self._subscriptions
        self._subscriptions = {feed: old.get(feed) or _Subscription() for feed in feeds}

    def offer(self, shot: Shot) -> None:
        """Offer a frame; it replaces the one that waits."""
        subscription = self._subscriptions.get(shot.feed)
        if subscription is not None:
            subscription.newest = shot
            if len(subscription.unshown) < b.FRAME_CREDIT:
                self._on_ready()

    def shown(self, feed: Feed, seq: int) -> None:
        """Return the credit of this frame and of those sent before it, which it overtook."""
        subscription = self._subscriptions.get(feed)
        if subscription is None or seq not in subscription.unshown:
            return
        while subscription.unshown.popleft() != seq:
            pass
        if subscription.newest is not None:
            self._on_ready()

    def take(self) -> Shot | None:
        """Return a frame that may be sent now and count its credit, or None."""
        for feed, subscription in self._subscriptions.items():
            shot = subscription.newest
            if shot is not None and len(subscription.unshown) < b.FRAME_CREDIT:
                subscription.newest = None
                subscription.unshown.append(shot.seq)
                # The next feed's turn comes first next time.
                self._subscriptions[feed] = self._subscriptions.pop(feed)
                return shot
        return None


class Demands:
    """What is wanted from each robot, over this process's viewers and those of others."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._elsewhere: dict[tuple[str, str], tuple[float, m.FeedRequest]] = {}

    def heard(self, robot: str, demand: Demand) -> None:
        """Note what another process wants."""
        self._elsewhere[robot, demand.process] = (self._monotonic(), demand.request)

    def elsewhere(self, robot: str) -> list[m.FeedRequest]:
        """Return what other processes want of `robot` now."""
        now = self._monotonic()
        self._elsewhere = {
            key: (at, request)
            for key, (at, request) in self._elsewhere.items()
            if now - at <= DEMAND_TTL_S
        }
        return [request for (name, _), (_, request) in self._elsewhere.items() if name == robot]


def union(requests: list[m.FeedRequest], *, cameras: frozenset[str] | None = None) -> m.FeedRequest:
    """Return one request that covers all, as far as the robot has these `cameras`."""
    frames = {pair for request in requests for pair in request.frames}
    if cameras is not None:
        frames = {(camera, size) for camera, size in frames if camera in cameras}
    return m.FeedRequest(
        frames=tuple(sorted(frames))[:32],
        telemetry=any(request.telemetry for request in requests),
        privileged=any(request.privileged for request in requests),
    )
