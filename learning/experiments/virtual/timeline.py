"""Simulated time: a clock that robots read, and the queue of what happens when.

Time passes only between events, so a run is as fast as its events are computed and the same seed
gives the same run. Events of the same moment happen in the order they were planned.
"""

import heapq
import itertools
from collections.abc import Callable

# Any moment will do, so long as it is the same in every run: what is recorded names it.
WALL_START_NS = 1_767_225_600_000_000_000


class VirtualClock:
    """The agent's `Clock`, moved by a `Timeline`; both of its times move together."""

    def __init__(self, start_ns: int = 0) -> None:
        """Begin `start_ns` after the beginning of simulated time."""
        self.now_ns = start_ns

    def monotonic_ns(self) -> int:
        """Return simulated nanoseconds since the beginning."""
        return self.now_ns

    def wall_ns(self) -> int:
        """Return the simulated wall clock."""
        return WALL_START_NS + self.now_ns

    def sleep_until(self, t_mono_ns: int) -> None:
        """Raise RuntimeError: what waits must plan an event instead."""
        raise RuntimeError("nothing sleeps on a virtual clock")


class Timeline:
    """Events in simulated time, run one after another."""

    def __init__(self, clock: VirtualClock) -> None:
        """Move `clock`."""
        self.clock = clock
        self._order = itertools.count()
        self._events: list[tuple[int, int, Callable[[], None]]] = []

    @property
    def now_s(self) -> float:
        """Simulated seconds since the beginning."""
        return self.clock.now_ns * 1e-9

    def at(self, t_ns: int, act: Callable[[], None]) -> None:
        """Plan `act` for a moment; one that has passed happens next, now."""
        heapq.heappush(self._events, (max(t_ns, self.clock.now_ns), next(self._order), act))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Plan `act` for `seconds` from now."""
        self.at(self.clock.now_ns + round(seconds * 1e9), act)

    def every(self, seconds: float, act: Callable[[], None], *, first_s: float = 0.0) -> None:
        """Plan `act` for `first_s` from now and then every `seconds`, for good."""
        period_ns = round(seconds * 1e9)

        def again(due_ns: int) -> None:
            act()
            self.at(due_ns + period_ns, lambda: again(due_ns + period_ns))

        due_ns = self.clock.now_ns + round(first_s * 1e9)
        self.at(due_ns, lambda: again(due_ns))

    def run_until(self, t_ns: int) -> None:
        """Let everything planned before `t_ns` happen; it is `t_ns` afterwards."""
        while self._events and self._events[0][0] < t_ns:
            due_ns, _, act = heapq.heappop(self._events)
            self.clock.now_ns = due_ns
            act()
        self.clock.now_ns = max(self.clock.now_ns, t_ns)
