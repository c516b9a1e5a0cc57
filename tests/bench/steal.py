"""What a shared host leaves of the machine: time it gave to somebody else, and speed of the rest.

Nothing here runs in stolen time. A core that shares its hardware with somebody else's is not stolen
and still runs slower, which only a fixed piece of work shows.
"""

import threading
import time
from pathlib import Path
from types import TracebackType

import numpy as np

# One sample a quarter of a second tells a stall of the machine from one of ours.
EVERY_S = 0.25
# Share of stolen time above which a moment says nothing about what runs here.
CALM = 0.02
# About a millisecond's work.
_ADDITIONS = 20_000


def _jiffies() -> tuple[int, int]:
    """Return all and stolen jiffies of all cores since boot (proc(5), first line of stat)."""
    fields = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields), fields[7]


def _work_ms() -> float:
    """Return the CPU time of a fixed piece of work, milliseconds; waiting does not count."""
    began_s, total = time.thread_time(), 0
    for number in range(_ADDITIONS):
        total += number
    return 1e3 * (time.thread_time() - began_s)


class StealWatch:
    """Samples stolen time and the cores' speed while it is entered."""

    def __init__(self) -> None:
        self._at_ns: list[int] = []
        self._all: list[int] = []
        self._stolen: list[int] = []
        self._work_ms: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "StealWatch":
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._sample()

    def _run(self) -> None:
        while not self._over.wait(EVERY_S):
            self._sample()

    def _sample(self) -> None:
        total, stolen = _jiffies()
        self._at_ns.append(time.time_ns())
        self._all.append(total)
        self._stolen.append(stolen)
        self._work_ms.append(_work_ms())

    def __str__(self) -> str:
        low, median, high = np.quantile(self._work_ms, (0.05, 0.5, 0.95))
        return (
            f"the host took {self.share:.1%} of the cores' time, and {_ADDITIONS:,} additions took "
            f"{median:.2f} ms of CPU (median; 5 to 95 %: {low:.2f} to {high:.2f})"
        )

    @property
    def share(self) -> float:
        """Share of all cores' time that was stolen."""
        return (self._stolen[-1] - self._stolen[0]) / max(1, self._all[-1] - self._all[0])

    def calm(self, t_wall_ns: np.ndarray) -> np.ndarray:
        """Say of each moment [n] whether next to nothing was stolen around it, as booleans [n].

        Around it is its own sample and those before and after; outside the watch nothing is calm.
        """
        share = np.diff(self._stolen) / np.maximum(1, np.diff(self._all))  # (samples - 1,)
        worst = np.maximum.reduce([share, np.append(share[1:], 0), np.append(0, share[:-1])])
        at = np.searchsorted(self._at_ns, t_wall_ns) - 1
        inside = (at >= 0) & (at < len(worst))
        return inside & (worst[np.clip(at, 0, len(worst) - 1)] <= CALM)
