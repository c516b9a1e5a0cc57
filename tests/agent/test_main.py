import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.agent.spool import Spool
from fleet.protocol import messages as m
from tests.agent.gateway import gateway, wait_for
from tests.agent.test_agent import WORK, acts

ROOT = Path(__file__).resolve().parents[2]


def start(folder: Path, **config) -> "subprocess.Popen[str]":
    path = folder / "robot.json"
    path.write_text(json.dumps(config))
    # The fake policy's kind is known where the fakes were imported: the driver's module.
    return subprocess.Popen(
        [sys.executable, "-m", "fleet.agent", "--config", str(path)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"robot": "r"}, "spool"),
        ({"robot": "r", "spool": "s"}, "no token"),
        ({"robot": "r", "spool": "s", "token": "t", "driver": "nowhere:X"}, "driver"),
    ],
)
def test_a_wrong_configuration_ends_with_status_2_and_one_sentence(tmp_path, config, says):
    environment = {k: v for k, v in os.environ.items() if k != "SOP_ROBOT_TOKEN"}
    path = tmp_path / "robot.json"
    path.write_text(json.dumps(config))
    ended = subprocess.run(
        [sys.executable, "-m", "fleet.agent", "--config", str(path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_terminated_agent_closes_its_episode_and_a_killed_one_leaves_an_incomplete_one(tmp_path):
    config = {
        "robot": "robot-1",
        "token": "tok",
        "spool": str(tmp_path / "spool"),
        "driver": "tests.fakes:FakeDriver",
    }
    for number, final in ((signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)):
        with gateway() as gate:
            gate.greeting = list(WORK)
            agent = start(tmp_path, server=gate.url, **config)
            with agent:
                # 115 ticks are the first part on disk and the steps that are kept back.
                wait_for(gate, m.Heartbeat, lambda beat: acts(beat) and beat.tick > 120)
                agent.send_signal(number)
                assert agent.wait(30) == final
    spool = Spool(tmp_path / "spool")
    found = []
    while (manifest := spool.head()) is not None:
        found.append((manifest.outcome, manifest.complete))
        spool.delete(manifest.header.episode)
    assert sorted(found) == [("abort", False), ("abort", True)]
