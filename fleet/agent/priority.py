"""Whose turn it is on a shared machine: a robot's control loop comes first, where allowed.

Measured with four robots, the image policy, a learner and watchers on two cores: p99 of how late a
tick began was 34 ms with niceness and 9 ms with a real-time control thread, and .94 and .17 % of
ticks were missed.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

NICENESS = -10


def come_first() -> None:
    """Put this process before servers and learners on the same machine; needs a privilege."""
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    # Linux weighs sessions before processes, and supervisors give each process a session of its
    # own: niceness alone changes nothing between them.
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(NICENESS))


def in_real_time() -> None:
    """Put this thread before everything that is not real-time; needs a privilege.

    For the control loop, which works a quarter of its time at most, and the link, on which a person
    drives and stops. Whatever builds scenes, loads weights or encodes would starve the web process,
    which carries every stop.
    """
    if hasattr(os, "SCHED_RR"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


@contextlib.contextmanager
def out_of_the_way() -> Iterator[None]:
    """Give up this thread's real-time turn for slow work that has no deadline."""
    if not hasattr(os, "SCHED_RR") or os.sched_getscheduler(0) != os.SCHED_RR:
        yield
        return
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
