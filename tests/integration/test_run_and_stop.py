import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from scripts.live import online_robots

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
START_S = 300


def mine(var: Path) -> list[psutil.Process]:
    """Every process that was started for `var`: it is in its command line or its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            text = " ".join(process.cmdline())
            if str(var) in text or process.environ().get("SOP_VAR") == str(var):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def system(tmp_path):
    var, ready = tmp_path / "var", tmp_path / "ready.json"
    command = [sys.executable, "scripts/run.py", "--var", str(var), "--port", "0", "--quiet"]
    command += ["--robots", "1", "--operators", "1", "--tasks", "hammer"]
    environment = {k: v for k, v in os.environ.items() if k not in ("SOP_VAR", "REDIS_URL")}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    with (tmp_path / "out.log").open("wb") as out:
        process = subprocess.Popen(
            [*command, "--ready-file", str(ready)],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + START_S
        while not ready.exists():
            assert process.poll() is None, (tmp_path / "out.log").read_text()[-4000:]
            assert time.monotonic() < until, (tmp_path / "out.log").read_text()[-4000:]
            time.sleep(0.1)
        yield process, json.loads(ready.read_text()), var
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
        for left in mine(var):
            left.kill()


def test_the_system_is_live_listens_on_loopback_only_and_an_interrupt_ends_every_process(system):
    process, told, var = system

    # Ready means what it says: the page answers and the robot's heartbeats arrive.
    with urllib.request.urlopen(f"{told['url']}/readyz", timeout=5) as response:
        assert json.load(response)["ready"] is True
    operators = json.loads((var / "operators.json").read_text())
    token = next(one["token"] for one in operators if one["kind"] == "scripted")
    robots = online_robots(told["url"], token, robots=1, until=time.monotonic() + 10)
    assert set(robots) == {"robot-1"}

    words, listening = [], set()
    for one in mine(var):
        with suppress(psutil.NoSuchProcess):  # a part may have a helper that ends meanwhile
            words.append(" ".join(one.cmdline()))
            listening |= {
                connection.laddr.ip
                for connection in one.net_connections(kind="tcp")
                if connection.status == psutil.CONN_LISTEN
            }
    for part in ("daphne", "--queues default", "--queues learner", "beat", "fleet.agent --config"):
        assert any(part in line for line in words), part
    assert listening == {"127.0.0.1"}

    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert mine(var) == []
    assert "Traceback" not in (var / "logs" / "system.log").read_text()
