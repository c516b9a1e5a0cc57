"""What an experiment started is gone when it ends, however it is told to end."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

# Stands in for the supervisor: writes the ready file, starts a child, ends slowly when told to.
SUPERVISOR = """
import json, os, pathlib, signal, subprocess, sys, time
ready = pathlib.Path(sys.argv[sys.argv.index("--ready-file") + 1])
child = subprocess.Popen(["sleep", "600"])
(ready.parent / "child.pid").write_text(str(child.pid))
def end(*_):
    time.sleep(0.5)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
part = ready.with_name("part")
part.write_text(json.dumps({"url": "http://127.0.0.1:1", "seconds": 0.1}))
part.rename(ready)
time.sleep(600)
"""
EXPERIMENT = """
import pathlib, signal, sys, time
from learning.experiments import system
system.SUPERVISOR = pathlib.Path(sys.argv[1])
system.STRAY_S = 0.1
signal.signal(signal.SIGTERM, signal.default_int_handler)
with system.running_system(pathlib.Path(sys.argv[2]), robots=1, operators=0) as running:
    print("running", flush=True)
    if sys.argv[3] == "fail":
        raise ValueError("the experiment failed")
    time.sleep(600)
"""


@pytest.fixture
def start(tmp_path):
    (tmp_path / "supervisor.py").write_text(SUPERVISOR)
    (tmp_path / "experiment.py").write_text(textwrap.dedent(EXPERIMENT))
    started = []

    def run(how):
        process = subprocess.Popen(
            [
                sys.executable,
                str(tmp_path / "experiment.py"),
                str(tmp_path / "supervisor.py"),
                str(tmp_path / "var"),
                how,
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        started.append(process)
        assert process.stdout.readline() == b"running\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def child_of(tmp_path):
    return int((tmp_path / "var" / "child.pid").read_text())


@pytest.mark.parametrize("signals", [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGINT,) * 3])
def test_an_interrupt_and_more_of_them_leave_nothing_running(start, tmp_path, signals):
    process = start("wait")
    child = child_of(tmp_path)
    for number in signals:
        process.send_signal(number)
        time.sleep(0.05)  # a person's second Ctrl-C, while the clean-up is under way
    process.wait(30)
    assert not psutil.pid_exists(child)


def test_a_failure_leaves_nothing_running(start, tmp_path):
    process = start("fail")
    assert process.wait(30) == 1
    assert not psutil.pid_exists(child_of(tmp_path))
