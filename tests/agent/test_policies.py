from collections.abc import Iterator

import numpy as np
import pytest
import torch

from fleet.agent.drivers.base import Reading
from fleet.agent.policies import PolicyKeeper
from fleet.protocol import messages as m
from fleet.protocol.episode import sha256_of
from fleet.protocol.spec import PolicyRef
from learning.core.policies.base import Policy, save_policy
from tests.agent.server import Ingest, serving
from tests.fakes import SPEC, FakeClock, fake_policy


def announce(
    number: int,
    artifact: bytes,
    *,
    inline: bool = True,
    sha256: str | None = None,
    url: str = "/api/policies/x/weights",
) -> m.PolicyAnnouncement:
    ref = PolicyRef(
        number=number, sha256=sha256 or sha256_of(artifact), url=url, size_bytes=len(artifact)
    )
    return m.PolicyAnnouncement(policy=ref, weights=artifact if inline else None)


def version(bias: float) -> bytes:
    return save_policy(fake_policy((bias, 0.0, 0.0)))


class Keeping:
    """A keeper whose thread is the test."""

    def __init__(self, folder, server: str = "http://127.0.0.1:9") -> None:
        self.folder, self.server = folder, server
        self.reports: list[m.PolicyReport] = []
        self.keeper = PolicyKeeper(
            folder, SPEC, FakeClock(), server=server, token="tok", report=self.reports.append
        )

    def offer(self, number: int, artifact: bytes, **fields) -> None:
        self.keeper.offer(announce(number, artifact, **fields))
        self.keeper.work()

    @property
    def said(self) -> list[tuple[int, str]]:
        return [(report.number, report.status) for report in self.reports]

    @property
    def number(self) -> int | None:
        return self.keeper.active.ref.number if self.keeper.active else None

    def restarted(self) -> "Keeping":
        self.keeper.work()
        self.keeper.stop()
        return Keeping(self.folder, self.server)


@pytest.fixture
def keeping(tmp_path) -> Iterator[Keeping]:
    keeping = Keeping(tmp_path / "policies")
    yield keeping
    keeping.keeper.stop()


def test_a_verified_version_waits_until_the_loop_takes_it(keeping):
    keeping.offer(1, version(0.1))
    assert keeping.number is None
    assert keeping.said == [(1, "verified")]
    assert keeping.keeper.take()
    assert keeping.number == 1
    assert keeping.said == [(1, "verified"), (1, "applied")]
    assert not keeping.keeper.take()


def test_the_newest_of_several_announcements_is_the_one_that_is_applied(keeping):
    for number in (1, 2, 3):
        keeping.keeper.offer(announce(number, version(number / 10)))
    keeping.keeper.work()
    keeping.keeper.take()
    assert keeping.number == 3
    assert keeping.said == [(3, "verified"), (3, "applied")]


def test_a_version_that_waits_is_replaced_by_a_newer_one(keeping):
    keeping.offer(1, version(0.1))
    keeping.offer(2, version(0.2))
    keeping.keeper.take()
    assert keeping.number == 2


def test_a_repeated_announcement_of_what_runs_does_nothing(keeping):
    for _ in range(3):
        keeping.offer(1, version(0.1))
        keeping.keeper.take()
    assert keeping.said == [(1, "verified"), (1, "applied")]


def test_an_older_number_is_applied_when_it_is_assigned(keeping):
    for number in (2, 1):
        keeping.offer(number, version(number / 10))
        keeping.keeper.take()
    assert keeping.number == 1


def test_assigning_the_running_version_calls_off_another_that_waits(keeping):
    keeping.offer(1, version(0.1))
    keeping.keeper.take()
    keeping.offer(2, version(0.2))
    keeping.offer(1, version(0.1))
    assert not keeping.keeper.take()
    assert keeping.number == 1


def bad_versions() -> dict[str, tuple[bytes, str | None]]:
    wide = save_policy(fake_policy((3.0, 0.0, 0.0)))
    blind = fake_policy()
    blind.config = type(blind.config)(
        kind="fake", state_dim=2, action_dim=3, cameras=("elsewhere",), horizon=8, execute=4
    )
    small = fake_policy()
    small.config = type(small.config)(kind="fake", state_dim=2, action_dim=2, cameras=())
    small.bias = torch.nn.Parameter(torch.zeros(2))
    unknown = fake_policy()
    unknown.config = type(unknown.config)(kind="psychic", state_dim=2, action_dim=3)
    good = version(0.1)
    return {
        "sha256": (good, "0" * 64),
        "not a policy artifact": (b"rubbish" * 40, None),
        "not a policy artifact ": (b"", None),
        "not a policy artifact  ": (good[: len(good) // 2], None),
        "not finite": (save_policy(fake_policy((float("nan"), 0.0, 0.0))), None),
        "limits": (wide, None),
        "camera": (save_policy(blind), None),
        "components": (save_policy(small), None),
        "psychic": (save_policy(unknown), None),
    }


@pytest.mark.parametrize("reason", list(bad_versions()))
def test_a_bad_version_is_rejected_with_its_reason_and_the_old_one_acts_on(keeping, reason):
    artifact, sha256 = bad_versions()[reason]
    keeping.offer(1, version(0.1))
    keeping.keeper.take()
    keeping.offer(2, artifact, sha256=sha256)
    assert not keeping.keeper.take()
    assert keeping.number == 1
    assert keeping.said[-1] == (2, "rejected")
    assert reason.strip() in keeping.reports[-1].reason


def test_a_rejected_version_is_answered_again_but_not_tried_again(keeping):
    keeping.offer(1, b"rubbish" * 40)
    keeping.keeper.offer(announce(1, b"rubbish" * 40))
    assert keeping.said == [(1, "rejected")] * 2
    assert keeping.keeper._wanted is None


def test_a_new_version_is_tried_on_the_last_real_observation(keeping, monkeypatch):
    seen = []
    policy = fake_policy((0.1, 0.0, 0.0))
    monkeypatch.setattr(type(policy), "act", lambda self, o: (seen.append(o), act(self, o))[1])
    image = np.full((24, 32, 3), 77, np.uint8)
    reading = Reading(state=np.array([5.0, 6.0], np.float32), images={"front": image})
    keeping.keeper.last_seen = (reading, "reach the mark")
    keeping.offer(1, save_policy(policy))
    (observation,) = seen
    assert observation.instruction == "reach the mark"
    np.testing.assert_array_equal(observation.state, [5, 6])
    np.testing.assert_array_equal(observation.images["front"], image)


def act(policy: Policy, observation) -> tuple[torch.Tensor, float]:
    return torch.zeros(policy.config.horizon, policy.config.action_dim), 0.0


def test_a_policy_that_raises_is_rejected(keeping, monkeypatch):
    def explode(self, observation):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(type(fake_policy()), "act", explode)
    keeping.offer(1, version(0.1))
    assert keeping.said == [(1, "rejected")]
    assert "does not run" in keeping.reports[0].reason


def test_a_fault_rolls_back_to_the_last_version_that_ran_an_episode(keeping):
    keeping.offer(1, version(0.1))
    keeping.keeper.take()
    keeping.keeper.proved()
    keeping.offer(2, version(0.2))
    keeping.keeper.take()
    keeping.keeper.roll_back("not finite")
    assert keeping.number == 1
    assert keeping.said[-1] == (2, "rolled_back")
    # The server still assigns it; it never acts here again, not even after a restart.
    for after in (keeping, keeping.restarted()):
        after.offer(2, version(0.2))
        assert not after.keeper.take()
        assert after.said[-1] == (2, "rejected")
        assert after.number == 1


def test_without_a_good_version_a_fault_leaves_none(keeping):
    keeping.offer(1, version(0.1))
    keeping.keeper.take()
    keeping.keeper.roll_back("not finite")
    assert keeping.keeper.active is None
    assert keeping.restarted().number is None


def test_a_restart_without_a_server_acts_at_once_with_what_was_applied(keeping):
    keeping.offer(1, version(0.1))
    keeping.keeper.take()
    again = keeping.restarted()
    assert again.number == 1
    assert torch.equal(again.keeper.active.policy.bias, torch.tensor([0.1, 0.0, 0.0]))


def test_a_damaged_current_version_on_disk_falls_back_to_the_good_one(keeping):
    keeping.offer(1, version(0.1))
    keeping.keeper.take()
    keeping.keeper.proved()
    keeping.offer(2, version(0.2))
    keeping.keeper.take()
    keeping.keeper.work()
    path = keeping.folder / f"{sha256_of(version(0.2))}.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert keeping.restarted().number == 1


def test_only_the_current_and_the_good_version_stay_on_disk(keeping):
    for number in range(1, 6):
        keeping.offer(number, version(number / 10))
        keeping.keeper.take()
        if number == 2:
            keeping.keeper.proved()
    keeping.keeper.work()
    kept = {path.stem for path in keeping.folder.glob("*.safetensors")}
    assert kept == {sha256_of(version(0.2)), sha256_of(version(0.5))}


# ---- over HTTP -----------------------------------------------------------------------------------


@pytest.fixture
def ingest() -> Iterator[Ingest]:
    with serving() as ingest:
        yield ingest


@pytest.fixture
def remote(tmp_path, ingest) -> Iterator[Keeping]:
    keeping = Keeping(tmp_path / "policies", ingest.url)
    yield keeping
    keeping.keeper.stop()


def test_weights_that_are_not_inline_are_fetched_with_the_robots_token(remote, ingest):
    artifact = version(0.3)
    ingest.files["/api/policies/x/weights"] = artifact
    remote.offer(1, artifact, inline=False)
    assert remote.keeper.take()
    assert ingest.headers[0]["Authorization"] == "Bearer tok"
    assert not list(remote.folder.glob("*.partial"))


def test_a_download_that_was_cut_goes_on_where_it_was(remote, ingest):
    artifact = version(0.3)
    ingest.files["/api/policies/x/weights"] = artifact
    ingest.cut_after_bytes = 100
    remote.offer(1, artifact, inline=False)
    assert ingest.ranges == [None, "bytes=100-"]
    assert remote.keeper.take()


def test_a_server_that_ignores_ranges_is_read_from_the_start(remote, ingest):
    artifact = version(0.3)
    ingest.files["/api/policies/x/weights"] = artifact
    ingest.cut_after_bytes, ingest.ignore_ranges = 100, True
    remote.offer(1, artifact, inline=False)
    assert remote.keeper.take()


def test_other_bytes_than_announced_are_rejected(remote, ingest):
    artifact = version(0.3)
    ingest.files["/api/policies/x/weights"] = version(0.4)
    remote.offer(1, artifact, inline=False)
    assert remote.said == [(1, "rejected")]
    ingest.files["/api/policies/x/weights"] = version(0.5) + b"more"
    remote.offer(2, version(0.5), inline=False)
    assert remote.said[-1] == (2, "rejected")
    assert "more than" in remote.reports[-1].reason


def test_the_token_goes_to_no_other_host(remote, ingest):
    artifact = version(0.3)
    with serving() as elsewhere:
        elsewhere.files["/signed"] = artifact
        remote.offer(1, artifact, inline=False, url=f"{elsewhere.url}/signed")
        assert remote.keeper.take()
        assert "Authorization" not in elsewhere.headers[0]


def test_a_newer_announcement_interrupts_a_download_that_makes_no_progress(remote, ingest):
    def fail(method: str, path: str) -> int | None:
        if path == "/slow":
            # The newer one comes while the older one is being tried.
            remote.keeper.offer(announce(2, version(0.2)))
            return 503
        return None

    ingest.fail = fail
    remote.offer(1, version(0.1), inline=False, url="/slow")
    remote.keeper.work()
    assert remote.said == [(2, "verified")]
