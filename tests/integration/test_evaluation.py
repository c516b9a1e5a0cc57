"""An evaluation from request to result: real server, links and agents, all of them restarted."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from fleet.agent.agent import Agent
from fleet.agent.config import AgentConfig
from fleet.protocol import browser as b
from fleet.protocol import codec
from fleet.protocol.episode import open_part
from learning.core.policies.base import save_policy
from learning.core.value import ValueConfig, ValueFunction, save_value
from tests import live
from tests.fakes import FakeDriver, fake_policy

pytestmark = pytest.mark.slow

PREPARE = """
import pathlib, sys
import django; django.setup()
from fleet.models import FleetSettings, Task
from learning.models import Learner
from learning.services.policies import import_version
from tests.factories import make_operator, make_task
Task.objects.update(enabled=False)
make_task("reach", timeout_ticks=12)
FleetSettings.objects.update(reset_s=0.0, evaluate_every=0)
learner = Learner.objects.create(name="hg")
for name in ("worse", "better"):
    import_version(learner, artifact=pathlib.Path(sys.argv[1], name).read_bytes(), gate={})
make_operator("boss", role="lead", token="boss-token")
from django.utils import timezone
from learning import blobs
from learning.models import ValueVersion
ValueVersion.objects.create(
    learner=learner, number=1, state="done", ended_at=timezone.now(), correlation=0.75,
    sha256=blobs.store().put(pathlib.Path(sys.argv[1], "value").read_bytes()),
)
"""
# What the sweep does of a worker: it needs the server up, so that the robots are told at once.
ASSIGN_VALUE = """
import django; django.setup()
from learning.services.values import assign_newest_value
assert assign_newest_value()
"""
BOSS = {"Authorization": "Bearer boss-token"}


class Site:
    """An installation with two robots, a version that never succeeds and one that always does."""

    def __init__(self, var: Path, redis_url: str) -> None:
        self.var, self.redis_url, self.port = var, redis_url, live.free_port()
        # The fake robot succeeds when x passes 0.3: never backwards, after seven ticks forwards.
        for name, x in (("worse", -0.5), ("better", 0.5)):
            (var / name).write_bytes(save_policy(fake_policy((x, 0.0, 0.2))))
        shape = ValueConfig(state_dim=2, width=8, text_buckets=16)
        (var / "value").write_bytes(save_value(ValueFunction(shape)))
        self.python(PREPARE)

    def python(self, code: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", code, str(self.var)],
            cwd=live.ROOT, env=live.environment(self.var, self.redis_url), capture_output=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serving(self):
        return live.live_server(self.var, redis_url=self.redis_url, port=self.port)

    @contextmanager
    def robot(self, server: live.LiveServer, name: str) -> Iterator[Agent]:
        config = AgentConfig(
            robot=name, server=self.url, token=server.robot_token(name),
            spool=str(self.var / f"spool-{name}"),
        )  # fmt: skip
        agent = Agent(config, FakeDriver(goal=0.3))
        agent.start()
        try:
            yield agent
        finally:
            agent.stop()

    def ask(self, method: str, path: str, **more: Any) -> Any:
        answer = httpx.request(method, f"{self.url}{path}", headers=BOSS, timeout=20, **more)
        assert answer.is_success, answer.text
        return answer.json()

    def rows(self, sql: str) -> list[tuple]:
        # Read beside the server, without Django: this process has a database of its own.
        connection = sqlite3.connect(f"file:{self.var}/sop.sqlite3?mode=ro", uri=True, timeout=20)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()


def values_of(server: live.LiveServer, robot: str, *, count: int) -> list[float]:
    """Watch a robot as a page does until it has said this many values; return them."""
    found: list[float] = []
    headers = {"Authorization": "Bearer boss-token"}
    with connect(f"{server.ws_url}/ws/operator/", additional_headers=headers) as socket:
        socket.send(codec.encode_text(b.Watch(robots=(robot,), telemetry=True)))
        while len(found) < count:
            message = codec.decode_to_browser(socket.recv(timeout=60))
            if isinstance(message, b.RobotTelemetry) and message.telemetry.value is not None:
                found.append(message.telemetry.value)
    return found


def wait_until(true: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.fixture
def site(seeded_var: Path, redis_server: str, tmp_path: Path) -> Site:
    return Site(live.copy_installation(seeded_var, tmp_path / "var"), redis_server)


def test_two_versions_are_compared_by_robots_that_restart_on_a_server_that_restarts(site):
    with ExitStack() as robots:
        with site.serving() as server:
            first = robots.enter_context(site.robot(server, "robot-1"))
            with site.robot(server, "robot-2") as second:
                wait_until(
                    lambda: first.policies.active and second.policies.active, "robots are idle"
                )
                both = "SELECT COUNT(*) FROM fleet_robot WHERE mode = 'autonomous'"
                wait_until(lambda: site.rows(both) == [(2,)], "their rows say so")
                # The value function comes beside the policy, while the robots work.
                assert first.heartbeat(0).value.number is None
                site.python(ASSIGN_VALUE)
                wait_until(lambda: first.heartbeat(0).value.number == 1, "it computes values")
                assert all(-1 <= v <= 0 for v in values_of(server, "robot-1", count=5))
                asked = site.ask(
                    "POST", "/api/evaluations",
                    json={
                        "first": {"learner": "hg", "number": 1},
                        "second": {"learner": "hg", "number": 2},
                        "tasks": ["reach"], "trials_per_task": 4,
                    },
                )  # fmt: skip
                assert asked["robots"] == ["robot-1", "robot-2"]
                path = f"/api/evaluations/{asked['uid']}"
                # In the middle of a trial, which is then cut short.
                wait_until(lambda: second.heartbeat(0).evaluation == asked["uid"], "it evaluates")
                wait_until(lambda: second.heartbeat(0).purpose == "eval", "it runs a trial")
                assert first.heartbeat(0).policy is not None
            wait_until(
                lambda: any(t["state"] == "done" for t in site.ask("GET", path)["trials"]),
                "a first trial is done",
            )
        with site.serving() as server:
            robots.enter_context(site.robot(server, "robot-2"))
            wait_until(
                lambda: site.ask("GET", path)["state"] == "done",
                "the evaluation ends after both restarts",
            )
            result = site.ask("GET", path)
            versions = result["results"][0]["versions"]
            assert {name: (v["successes"], v["n"]) for name, v in versions.items()} == {
                "hg v1": (0, 4),
                "hg v2": (4, 4),
            }
            assert result["results"][0]["paired"]["second_only"] == 4
            assert result["results"][0]["paired"]["mcnemar_p"] == pytest.approx(2 / 16)
            # Every trial on its declared layout, alone, with the right version, counted once.
            counted = site.rows(
                "SELECT e.seed, v.number, e.policy_number, e.human_steps, e.mixed_versions"
                " FROM learning_evaluationtrial t JOIN learning_episode e ON e.id = t.episode_id"
                " JOIN learning_policyversion v ON v.id = t.version_id"
            )
            assert len(counted) == 8
            assert {(row[1] == row[2], row[3], row[4]) for row in counted} == {(True, 0, 0)}
            assert len({row[:2] for row in counted}) == 8
            # Trials have their values too, also those of the robot that was restarted.
            stored = site.rows(
                "SELECT p.sha256 FROM learning_evaluationtrial t JOIN learning_episodepart p"
                " ON p.episode_id = t.episode_id WHERE t.state = 'done'"
            )
            assert len(stored) >= 8
            for (sha256,) in stored:
                part = open_part(str(site.var / "store" / "sha256" / sha256[:2] / sha256))
                assert part.header.value_number == 1
                values = part.array("value")[1:]
                assert ((values >= -1) & (values <= 0)).all()
            # And then the fleet's work with the fleet's version.
            assert site.rows('SELECT COUNT(*) FROM fleet_robot WHERE "order" IS NOT NULL') == [(0,)]
            newest = site.rows("SELECT COALESCE(MAX(id), 0) FROM learning_episode")[0][0]
            training = (
                "SELECT COUNT(DISTINCT robot_id) FROM learning_episode WHERE purpose = 'train'"
                f" AND policy_number = 2 AND id > {newest}"
            )
            wait_until(lambda: site.rows(training) == [(2,)], "both robots train again")
            wait_until(
                lambda: (
                    site.rows("SELECT COUNT(*) FROM fleet_robot WHERE evaluation != ''") == [(0,)]
                ),
                "their rows say so",
            )
