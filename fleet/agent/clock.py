"""Time as an argument, so that timers are tested without waiting."""

import time
from typing import Protocol


class Clock(Protocol):
    """What the agent asks of time."""

    def monotonic_ns(self) -> int:
        """Return nanoseconds that never go back; durations and deadlines come from here."""

    def wall_ns(self) -> int:
        """Return nanoseconds since 1970, for people and for aligning robots."""

    def sleep_until(self, t_mono_ns: int) -> None:
        """Return at `t_mono_ns` on the monotonic clock, or at once when it has passed."""


class RealClock:
    """The machine's clocks."""

    def monotonic_ns(self) -> int:
        """Return the machine's monotonic clock."""
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        """Return the machine's wall clock."""
        return time.time_ns()

    def sleep_until(self, t_mono_ns: int) -> None:
        """Sleep until `t_mono_ns`."""
        remaining_ns = t_mono_ns - time.monotonic_ns()
        if remaining_ns > 0:
            time.sleep(remaining_ns * 1e-9)
