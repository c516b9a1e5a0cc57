"""Frames from robots to viewers: sent only while watched, newest only, at the viewer's pace.

Memory is bounded by construction: one waiting frame and FRAME_CREDIT sent ones a subscription. Over
all feeds of a viewer no more are on the way than it shows without a standing queue (`Pace`), and
those are new ones: a browser that cannot draw fifty feeds at their rate sees fewer frames, and none
that is old.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.services.events import Demand
from fleet.services.live.pace import Pace

# A process that repeats no demand for this long has lost interest, or died.
DEMAND_TTL_S = 3.0
Feed = tuple[str, str, m.FeedSize]
# A frame that waited longer lets those of other feeds that did not go first.
FRESH_S = 0.02
# One that is not shown after this long holds back its own feed only.
STUCK_S = 1.0


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
    offered: float = 0.0
    # Sequence numbers sent and not yet shown, and when, in the order they were sent.
    unshown: deque[tuple[int, float]] = field(default_factory=deque)


class Viewer:
    """One feed socket's subscriptions. `on_ready` is called when a frame may be sent."""

    def __init__(
        self, on_ready: Callable[[], None], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._on_ready = on_ready
        self._monotonic = monotonic
        self._pace = Pace(monotonic)
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
            if subscription.newest is not None:
                self._pace.missed()
            subscription.newest = shot
            subscription.offered = self._monotonic()
            if len(subscription.unshown) < b.FRAME_CREDIT:
                self._on_ready()

    def shown(self, feed: Feed, seq: int) -> None:
        """Return the credit of this frame and of those sent before it, which it overtook."""
        subscription = self._subscriptions.get(feed)
        if subscription is None or all(seq != sent for sent, _ in subscription.unshown):
            return
        sent, at = subscription.unshown.popleft()
        while sent != seq:
            sent, at = subscription.unshown.popleft()
        self._pace.shown(self._monotonic() - at)
        self._on_ready()

    def take(self) -> Shot | None:
        """Return a frame that may be sent now and count its credit, or None."""
        now = self._monotonic()
        if self._pace.full(sum(len(one.unshown) for one in self._subscriptions.values())):
            sent = [at for one in self._subscriptions.values() for _, at in one.unshown]
            if self._pace.full(sum(now - at < STUCK_S for at in sent)):
                return None
        feed = self._next(now)
        if feed is None:
            return None
        # The next feed's turn comes first next time.
        subscription = self._subscriptions[feed] = self._subscriptions.pop(feed)
        shot, subscription.newest = subscription.newest, None
        assert shot is not None
        subscription.unshown.append((shot.seq, now))
        return shot

    def _next(self, now: float) -> Feed | None:
        """Return the feed whose turn it is: the first with a fresh frame, else the first."""
        first = None
        for feed, one in self._subscriptions.items():
            if one.newest is None or len(one.unshown) >= b.FRAME_CREDIT:
                continue
            if now - one.offered <= FRESH_S:
                return feed
            first = first or feed
        return first


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
