from collections.abc import Iterator

import pytest
import torch

from fleet.protocol.episode import sha256_of
from learning.core.policies.base import PolicyConfig, build_policy, load_policy, save_policy
from tests.agent.server import Ingest, serving
from tests.agent.test_policies import Keeping, announce, version
from tests.fakes import SPEC

CONFIG = PolicyConfig(
    kind="state",
    state_dim=len(SPEC.state_names),
    action_dim=len(SPEC.action_names),
    width=8,
    text_buckets=16,
    action_low=SPEC.action_low,
    action_high=SPEC.action_high,
)


def make_base(seed: int = 0) -> bytes:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return save_policy(build_policy(CONFIG))


BASE = make_base()


def part_of(base: bytes, bias: float) -> bytes:
    """Return a version of which only the last layer differs from `base`."""
    policy = load_policy(base)
    with torch.no_grad():
        policy.head[-1].bias.fill_(bias)
    artifact = save_policy(policy, base=base)
    assert len(artifact) < len(base) / 2
    return artifact


def url_of(base: bytes) -> str:
    return f"/api/policies/{sha256_of(base)}/weights"


@pytest.fixture
def ingest() -> Iterator[Ingest]:
    with serving() as ingest:
        ingest.files[url_of(BASE)] = BASE
        yield ingest


@pytest.fixture
def robot(tmp_path, ingest) -> Iterator[Keeping]:
    robot = Keeping(tmp_path / "policies", ingest.url)
    yield robot
    robot.keeper.stop()


def weights_on(robot: Keeping) -> bytes:
    return save_policy(robot.keeper.active.policy)


def whole(bias: float) -> bytes:
    return save_policy(load_policy(part_of(BASE, bias), lambda _: BASE))


def test_the_base_is_fetched_once_and_every_version_is_rebuilt_on_it(robot, ingest):
    for number in (1, 2, 3):
        robot.offer(number, part_of(BASE, number / 10))
        assert robot.keeper.take()
        assert weights_on(robot) == whole(number / 10)
    assert ingest.requests == [("GET", url_of(BASE))]
    assert ingest.headers[0]["Authorization"] == "Bearer tok"


def test_a_restarted_robot_rebuilds_its_version_from_disk_without_a_server(robot, ingest):
    robot.offer(1, part_of(BASE, 0.1))
    robot.keeper.take()
    ingest.fail = lambda *_: 503
    again = robot.restarted()
    assert again.number == 1
    assert weights_on(again) == whole(0.1)
    again.offer(2, part_of(BASE, 0.2))
    assert again.keeper.take()
    assert len(ingest.requests) == 1
    again.keeper.stop()


def test_a_base_that_ran_here_as_a_version_is_not_fetched(robot, ingest):
    robot.offer(1, BASE)
    robot.keeper.take()
    robot.offer(2, part_of(BASE, 0.2))
    assert robot.keeper.take()
    assert ingest.requests == []


def test_only_bases_that_a_version_on_disk_needs_stay_there(robot, ingest):
    other = make_base(1)
    ingest.files[url_of(other)] = other
    robot.offer(1, part_of(BASE, 0.1))
    robot.keeper.take()
    robot.keeper.proved()
    robot.keeper.work()
    robot.offer(2, part_of(other, 0.2))
    robot.keeper.take()
    robot.keeper.work()
    assert {sha256_of(BASE), sha256_of(other)} < files(robot)
    robot.keeper.proved()
    robot.offer(3, version(0.3))
    robot.keeper.take()
    robot.keeper.work()
    assert files(robot) == {
        sha256_of(version(0.3)),
        sha256_of(part_of(other, 0.2)),
        sha256_of(other),
    }


def files(robot: Keeping) -> set[str]:
    return {path.stem for path in robot.folder.glob("*.safetensors")}


def test_a_base_that_the_server_does_not_have_is_said_and_the_old_version_acts_on(robot, ingest):
    robot.offer(1, version(0.1))
    robot.keeper.take()
    robot.offer(2, part_of(make_base(1), 0.2))
    assert not robot.keeper.take()
    assert robot.number == 1
    assert robot.said[-1] == (2, "rejected")
    assert "has no base" in robot.reports[-1].reason
    robot.offer(3, part_of(BASE, 0.3))
    assert robot.keeper.take()


def test_a_base_with_other_bytes_than_named_is_rejected_and_asked_for_again(robot, ingest):
    other = make_base(1)
    assert len(other) == len(BASE)
    ingest.files[url_of(BASE)] = other
    robot.offer(1, part_of(BASE, 0.1))
    assert robot.said == [(1, "rejected")]
    assert "its base has sha256" in robot.reports[0].reason
    ingest.files[url_of(BASE)] = BASE
    robot.offer(2, part_of(BASE, 0.2))
    assert robot.keeper.take()
    assert weights_on(robot) == whole(0.2)


def test_a_base_is_fetched_again_when_it_was_damaged_on_disk(robot, ingest):
    robot.offer(1, part_of(BASE, 0.1))
    robot.keeper.take()
    robot.keeper.work()
    path = robot.folder / f"{sha256_of(BASE)}.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    again = robot.restarted()
    assert again.number is None
    again.offer(1, part_of(BASE, 0.1))
    assert again.keeper.take()
    again.keeper.work()
    assert path.read_bytes() == BASE
    assert len(ingest.requests) == 2
    again.keeper.stop()


def test_a_server_that_is_down_delays_a_base_and_rejects_nothing(robot, ingest):
    def fail(method: str, path: str) -> int | None:
        # Down for the first try; the next version comes while the robot waits.
        if len(ingest.requests) > 1:
            return None
        robot.keeper.offer(announce(2, part_of(BASE, 0.2)))
        return 503

    ingest.fail = fail
    robot.offer(1, part_of(BASE, 0.1))
    robot.keeper.work()
    assert robot.said == [(2, "verified")]
