"""How well the control loop keeps its period."""

import threading

import numpy as np

from fleet.protocol.messages import LoopStats


class LoopMeter:
    """Collects one loop's ticks; the heartbeat takes and clears them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._late_ms: list[float] = []
        self._busy_ms: list[float] = []
        self._missed = 0
        # Since the start, for logs and benchmarks.
        self.total_ticks = 0
        self.total_missed = 0

    def tick(self, *, late_ns: int, busy_ns: int, missed: int) -> None:
        """Count a tick: how late it began, how long it worked, and deadlines it ran over."""
        with self._lock:
            self._late_ms.append(late_ns / 1e6)
            self._busy_ms.append(busy_ns / 1e6)
            self._missed += missed
            self.total_ticks += 1
            self.total_missed += missed

    def take(self) -> LoopStats:
        """Return the figures since the last call."""
        with self._lock:
            late, busy, missed = self._late_ms, self._busy_ms, self._missed
            self._late_ms, self._busy_ms, self._missed = [], [], 0
        if not late:
            return LoopStats(missed_ticks=missed)
        p50, p99 = np.percentile(late, (50, 99))
        return LoopStats(
            ticks=len(late),
            missed_ticks=missed,
            jitter_p50_ms=float(p50),
            jitter_p99_ms=float(p99),
            busy_p50_ms=float(np.median(busy)),
        )
