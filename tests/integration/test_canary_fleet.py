"""A canary on a real fleet: robots, server, worker and beat; nobody touches anything."""

import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from learning.core.policies.base import save_policy
from tests import live
from tests.fakes import fake_policy
from tests.integration.test_evaluation import Site, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

# Low thresholds: the fake robots' outcomes are certain, so four episodes an arm show what is to be
# shown, and the size of the test is the unit tests' affair.
PREPARE = """
from learning.models import Learner
from learning.services.rollouts import roll_out, set_mode
from fleet.models import Operator
lead = Operator.objects.get(user__username="lead")
learner = Learner.objects.get(name="hg")
roll_out(learner.versions.get(number=2), operator=lead)
set_mode(learner, "canary", operator=lead, share=50, alpha=0.2, margin=0.6, episodes=8, limit_min=5)
"""
PUBLISH = """
import pathlib
from learning.models import Learner
from learning.services.policies import import_version
artifact = pathlib.Path(PATH).read_bytes()
import_version(Learner.objects.get(name="hg"), artifact=artifact, gate={})
"""
CELERY = ("-A", "sop_web", "worker", "-B", "-Q", "default", "--pool=solo", "-l", "WARNING")


def shell(site: Site, code: str) -> None:
    """Run Python in a process of the installation."""
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", code], cwd=live.ROOT,
        env=live.environment(site.var, site.redis_url), capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()


@contextmanager
def sweeping(site: Site):
    """Run a Celery worker with beat, as the system has them."""
    with (site.var / "worker.log").open("ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", *CELERY], cwd=live.ROOT, stdout=log, stderr=log,
            env=live.environment(site.var, site.redis_url),
        )  # fmt: skip
    try:
        yield
    finally:
        worker.terminate()
        try:
            worker.wait(20)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


@pytest.fixture
def site(seeded_var: Path, redis_server: str, tmp_path: Path) -> Site:
    return Site(live.copy_installation(seeded_var, tmp_path / "var"), redis_server)


def test_a_bad_version_is_rolled_back_and_a_good_one_promoted_without_a_person(site):
    # Version 1 never succeeds, version 2 always does and is what the fleet runs.
    for name, x in (("bad", -0.4), ("good", 0.4)):
        (site.var / name).write_bytes(save_policy(fake_policy((x, 0.0, 0.2))))
    with site.serving() as server, ExitStack() as stack:
        for name in ("robot-1", "robot-2"):
            stack.enter_context(site.robot(server, name))
        shell(site, PREPARE)
        both = "SELECT COUNT(*) FROM fleet_robot WHERE reported_number = 2"
        wait_until(lambda: site.rows(both) == [(2,)], "both robots run the good version")
        stack.enter_context(sweeping(site))

        def canary(number: int) -> list[tuple]:
            return site.rows(
                "SELECT c.state, c.verdict FROM learning_canary c JOIN learning_policyversion v"
                f" ON v.id = c.candidate_id WHERE v.number = {number}"
            )

        shell(site, PUBLISH.replace("PATH", repr(str(site.var / "bad"))))
        assert canary(3) == [("running", "")]
        wait_until(lambda: canary(3) != [("running", "")], "the bad version is judged", 150)
        assert canary(3) == [("rolled_back", "fewer_successes")]
        wait_until(lambda: site.rows(both) == [(2,)], "the fleet is back")
        shell(site, PUBLISH.replace("PATH", repr(str(site.var / "good"))))
        wait_until(lambda: canary(4)[0][0] == "promoted", "the good version is judged", 150)
        wait_until(
            lambda: (
                site.rows("SELECT COUNT(*) FROM fleet_robot WHERE reported_number = 4") == [(2,)]
            ),
            "every robot runs it",
        )
        # The bad version only ever acted on the robot of its canary.
        robots = site.rows(
            "SELECT COUNT(DISTINCT robot_id) FROM learning_episode WHERE policy_number = 3"
        )
        assert robots == [(1,)]
        by = site.rows("SELECT operator_id FROM learning_policychange WHERE kind = 'canary_ended'")
        assert by == [(None,), (None,)]
