import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHOW = """
import os, threading
from fleet.agent.priority import in_real_time, out_of_the_way
seen = []
def look():
    if {realtime}:
        in_real_time()
    seen.append(os.sched_getscheduler(0))
    with out_of_the_way():
        seen.append(os.sched_getscheduler(0))
    seen.append(os.sched_getscheduler(0))
thread = threading.Thread(target=look)
thread.start(); thread.join()
seen.append(os.sched_getscheduler(0))
print(*seen)
"""


def schedulers(*, realtime: bool) -> list[int]:
    shown = subprocess.run(
        [sys.executable, "-c", SHOW.format(realtime=realtime)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(value) for value in shown.stdout.split()]


def may_be_realtime() -> bool:
    code = "import os; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.skipif(not hasattr(os, "SCHED_RR"), reason="this system has no such scheduling")
def test_a_thread_is_real_time_where_allowed_but_not_while_it_does_slow_work():
    expected = os.SCHED_RR if may_be_realtime() else os.SCHED_OTHER
    assert schedulers(realtime=True) == [expected, os.SCHED_OTHER, expected, os.SCHED_OTHER]


@pytest.mark.skipif(not hasattr(os, "SCHED_RR"), reason="this system has no such scheduling")
def test_nothing_is_real_time_unless_asked_for():
    assert schedulers(realtime=False) == [os.SCHED_OTHER] * 4
