"""What waits to be sent to the server: state overwrites, answers and reports are queued."""

import threading
from collections import deque
from collections.abc import Callable

from fleet.protocol import messages as m

MAX_ANSWERS = 1000
MAX_REPORTS = 1000


class Outbox:
    """What waits to be sent. Putting never blocks; state overwrites, the rest is bounded."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._states: dict[str, m.Message] = {}
        self._answers: deque[m.Message] = deque(maxlen=MAX_ANSWERS)
        self._reports: deque[m.Message] = deque(maxlen=MAX_REPORTS)
        self._wake: Callable[[], None] = lambda: None
        self._feed = m.FeedRequest()

    # ---- filling ---------------------------------------------------------------------------

    def put_state(self, slot: str, message: m.Message) -> None:
        """Send `message` unless a newer one for `slot` comes first."""
        with self._changed:
            self._states[slot] = message
            wake = self._wake
        wake()

    def put_answer(self, message: m.Message) -> None:
        """Send an answer on this connection; with the connection it is forgotten."""
        with self._changed:
            self._answers.append(message)
            wake = self._wake
        wake()

    def put_report(self, message: m.Message) -> None:
        """Send a report, on a later connection if there is none now."""
        with self._changed:
            self._reports.append(message)
            wake = self._wake
        wake()

    # ---- what the server asked for -----------------------------------------------------------

    @property
    def feed(self) -> m.FeedRequest:
        """What somebody watches now."""
        return self._feed

    def ask_feed(self, request: m.FeedRequest) -> None:
        """Replace what somebody watches."""
        with self._changed:
            self._feed = request
            self._changed.notify_all()

    def wait_for_feed(self, timeout_s: float) -> m.FeedRequest | None:
        """Return the request once it asks for frames, or None after `timeout_s`."""
        with self._changed:
            if not self._feed.frames:
                self._changed.wait(timeout_s)
            return self._feed if self._feed.frames else None

    def wake_feeds(self) -> None:
        """Make `wait_for_feed` return."""
        with self._changed:
            self._changed.notify_all()

    # ---- emptying --------------------------------------------------------------------------

    def attach(self, wake: Callable[[], None]) -> None:
        """Begin a connection: what was state or an answer on the last one is gone."""
        with self._changed:
            self._wake = wake
            self._states.clear()
            self._answers.clear()

    def detach(self) -> None:
        """End a connection: nobody watches any more."""
        with self._changed:
            self._wake = lambda: None
            self._states.clear()
            self._answers.clear()
            self._feed = m.FeedRequest()

    def take(self) -> m.Message | None:
        """Return the next message: answers first, then reports, then state."""
        with self._changed:
            if self._answers:
                return self._answers.popleft()
            if self._reports:
                return self._reports.popleft()
            if self._states:
                return self._states.pop(next(iter(self._states)))
            return None

    def put_back(self, message: m.Message) -> None:
        """Return a report that could not be sent."""
        with self._changed:
            self._reports.appendleft(message)
