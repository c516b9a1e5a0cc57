"""A real solo Celery worker on a real Redis: duplicated messages, SIGKILL in mid-round."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.live import ROOT, environment, manage

pytestmark = pytest.mark.slow

PREPARE = """
import django; django.setup()
from learning.models import Learner
from learning.services.learners import start_learner
from tests.factories import make_robot, make_task
from tests.learning.brains import make_learner
from tests.learning.making import record, send
make_robot("arm-a"), make_robot("arm-b")
task = make_task("stack")
for seed in range(3):
    send(record(None, task, purpose="demonstration", policy_number=None, seed=seed), None)
make_learner("tiny", started=False, updates_per_s=40.0, publish_steps=10)
"""

ENQUEUE = """
import django; django.setup()
from learning.models import Learner
from learning.services.learners import start_learner
from learning.tasks import run_round
learner = start_learner("tiny")
for _ in range({copies}):
    run_round.delay(learner.pk, {epoch})
"""

# What beat's sweep does once the dead worker's lease has run out.
SWEEP_AFTER_THE_LEASE = """
import datetime
import django; django.setup()
from django.utils import timezone
from learning.models import Learner
from learning.tasks import sweep
Learner.objects.update(lease_expires_at=timezone.now() - datetime.timedelta(seconds=1))
sweep()
"""


class Site:
    """An installation in a folder, its learner worker, and its rows."""

    def __init__(self, var: Path, redis_url: str):
        self.var, self.redis_url = var, redis_url
        self.env = environment(var, redis_url) | {"SOP_ROUND_S": "2", "OMP_NUM_THREADS": "1"}
        self.worker: subprocess.Popen[bytes] | None = None

    def python(self, code: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=self.env, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()

    def start_worker(self) -> None:
        with (self.var / "worker.log").open("ab") as log:
            self.worker = subprocess.Popen(
                [
                    sys.executable, "-m", "celery", "--quiet", "-A", "sop_web", "worker",
                    "-Q", "learner", "--pool=solo", "--concurrency=1", "--without-gossip",
                    "--without-mingle",
                ],
                cwd=ROOT,
                env=self.env,
                stdout=log,
                stderr=log,
            )  # fmt: skip

    def end_worker(self, how: int = signal.SIGTERM) -> None:
        if self.worker is not None and self.worker.poll() is None:
            os.kill(self.worker.pid, how)
            self.worker.wait(90)

    def rows(self, sql: str) -> list[tuple]:
        # Read beside the worker, without Django: this process has a database of its own.
        connection = sqlite3.connect(f"file:{self.var}/sop.sqlite3?mode=ro", uri=True, timeout=20)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def wait_until(self, sql: str, expected: object = 1, *, seconds: float = 90.0) -> None:
        deadline = time.monotonic() + seconds
        while self.rows(sql)[0][0] != expected:
            assert time.monotonic() < deadline, (self.rows(sql), self.log)
            assert self.worker is None or self.worker.poll() is None, self.log
            time.sleep(0.05)

    @property
    def log(self) -> str:
        return (self.var / "worker.log").read_text()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A learner with three demonstrations and a base policy, not yet started."""
    var = tmp_path_factory.mktemp("learner") / "var"
    var.mkdir()
    manage(var, "migrate", "-v0")
    Site(var, "").python(PREPARE)
    return var


@pytest.fixture
def site(tmp_path, prepared, redis_server):
    # A database of the shared Redis of its own: messages of other tests stay theirs.
    shutil.copytree(prepared, tmp_path / "var")
    site = Site(tmp_path / "var", redis_server.removesuffix("/0") + "/5")
    yield site
    site.end_worker(signal.SIGKILL)
    site.python("import redis, os; redis.Redis.from_url(os.environ['REDIS_URL']).flushdb()")


@pytest.mark.timeout(240)
def test_a_message_delivered_three_times_trains_once(site):
    site.python(ENQUEUE.format(copies=3, epoch=0))
    site.start_worker()
    # Rounds follow one another, one at a time: three messages do not make three chains.
    site.wait_until("SELECT COUNT(*) >= 3 FROM learning_round WHERE state = 'done'")
    site.end_worker()
    rounds = site.rows(
        "SELECT number, epoch, first_step, steps FROM learning_round ORDER BY number"
    )
    assert [number for number, *_ in rounds] == list(range(1, len(rounds) + 1))
    assert [epoch for _, epoch, *_ in rounds] == [number for number, *_ in rounds]
    ends = [first + steps for *_, first, steps in rounds]
    assert [first for *_, first, _ in rounds] == [0, *ends[:-1]]
    assert site.rows("SELECT step, checkpoint_step FROM learning_learner") == [(ends[-1], ends[-1])]
    # What is left is at most the next round's one message.
    left = subprocess.run(
        [
            sys.executable,
            "-c",
            "import redis, os;print(redis.Redis.from_url(os.environ['REDIS_URL']).llen('learner'))",
        ],
        env=site.env,
        capture_output=True,
        check=True,
    )
    assert int(left.stdout) <= 1


@pytest.mark.timeout(240)
def test_a_learner_killed_in_a_round_goes_on_with_nothing_lost_and_no_number_twice(site):
    site.python(ENQUEUE.format(copies=1, epoch=0))
    site.start_worker()
    site.wait_until("SELECT COUNT(*) >= 4 FROM learning_policyversion")
    site.wait_until("SELECT COUNT(*) FROM learning_round WHERE state = 'running'")
    site.end_worker(signal.SIGKILL)
    site.worker = None
    published = site.rows("SELECT number, sha256 FROM learning_policyversion ORDER BY number")
    checkpoint_step = site.rows("SELECT checkpoint_step FROM learning_learner")[0][0]
    first_use = site.rows("SELECT uid, first_trained_at FROM learning_episode ORDER BY uid")
    assert checkpoint_step > 0
    epoch = site.rows("SELECT lease_epoch FROM learning_learner")[0][0]

    site.python(SWEEP_AFTER_THE_LEASE)
    site.start_worker()
    site.wait_until(
        f"SELECT COUNT(*) >= 1 FROM learning_round WHERE state = 'done' AND epoch > {epoch}"
    )
    site.wait_until(f"SELECT COUNT(*) >= {len(published) + 2} FROM learning_policyversion")
    site.end_worker()

    lost, resumed = site.rows(
        "SELECT state, first_step, epoch FROM learning_round"
        f" WHERE epoch IN ({epoch}, {epoch + 1}) ORDER BY epoch"
    )
    assert lost[0] == "lost"
    assert resumed[1] == checkpoint_step
    versions = site.rows("SELECT number, sha256 FROM learning_policyversion ORDER BY number")
    assert versions[: len(published)] == published
    numbers = [number for number, _ in versions]
    assert len(set(numbers)) == len(numbers)
    store = site.var / "store" / "sha256"
    assert all((store / sha256[:2] / sha256).stat().st_size for _, sha256 in versions)
    # Every episode is still learned from, and its first use stands.
    for (uid, at), (uid_now, at_now) in zip(
        first_use,
        site.rows("SELECT uid, first_trained_at FROM learning_episode ORDER BY uid"),
        strict=True,
    ):
        assert uid == uid_now
        assert at_now == at or at is None
    metrics = site.rows('SELECT "values" FROM learning_learnermetric ORDER BY id DESC LIMIT 1')
    assert json.loads(metrics[0][0])["episodes_offline"] == 3
    assigned = site.rows("SELECT DISTINCT assigned_number FROM fleet_robot")
    assert assigned == [(numbers[-1],)]


@pytest.mark.timeout(240)
def test_a_worker_told_to_stop_ends_its_round_with_a_checkpoint(site):
    site.env["SOP_ROUND_S"] = "120"
    site.python(ENQUEUE.format(copies=1, epoch=0))
    site.start_worker()
    site.wait_until("SELECT step > 20 FROM learning_learner")
    started = time.monotonic()
    site.end_worker()
    assert time.monotonic() - started < 20
    state, steps = site.rows("SELECT state, steps FROM learning_round")[0]
    assert state == "done"
    assert site.rows("SELECT step, checkpoint_step, lease_holder FROM learning_learner") == [
        (steps, steps, "")
    ]
