import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.agent.spool import Spool
from fleet.protocol.episode import decode_manifest, open_part, sha256_of
from tests.agent.making import spool_episode

ROOT = Path(__file__).resolve().parents[2]


class Crash(BaseException):
    """The process dies here; nothing after it runs."""


def spool_that_crashes(root: Path, at: str) -> Spool:
    def reach(step: str) -> None:
        if step == at:
            raise Crash

    return Spool(root, reach=reach)


def check_whole(spool: Spool) -> int:
    """Assert that every queued episode is exactly what its manifest says; count complete ones."""
    complete = 0
    while (manifest := spool.head()) is not None:
        uid = manifest.header.episode
        assert decode_manifest((spool.root / uid / "manifest.json").read_bytes()) == manifest
        for ref in manifest.parts:
            data = spool.part(uid, ref.index)
            assert sha256_of(data) == ref.sha256
            part = open_part(data)
            assert part.header.episode == uid
            assert (part.first_step, part.table.num_rows) == (ref.first_step, ref.steps)
        complete += manifest.complete
        if manifest.complete:
            assert manifest.outcome == "success"
            assert manifest.steps == 130
        else:
            assert manifest.outcome == "abort"
        spool.delete(uid)
    return complete


@pytest.mark.parametrize(
    ("at", "complete", "incomplete_steps"),
    [
        ("begin", 0, 0),
        ("part 0", 0, 0),
        ("part 1", 0, 100),
        ("manifest", 0, 130),
        ("closed", 1, 0),
    ],
)
def test_a_crash_at_each_step_leaves_a_whole_episode_or_an_incomplete_one(
    tmp_path, at, complete, incomplete_steps
):
    with pytest.raises(Crash):
        spool_episode(spool_that_crashes(tmp_path, at), steps=130)
    again = Spool(tmp_path)
    found = again.head()
    assert (found.steps if found and not found.complete else 0) == incomplete_steps
    assert check_whole(again) == complete
    # Recovered once, it stays as it is.
    assert Spool(tmp_path).head() is None


def test_files_that_were_not_renamed_yet_are_no_parts(tmp_path):
    with pytest.raises(Crash):
        spool_episode(spool_that_crashes(tmp_path, "part 1"), steps=130)
    (folder,) = (p for p in tmp_path.iterdir() if p.name != "state")
    (folder / "part-00001.arrow.tmp").write_bytes(b"half a part")
    manifest = Spool(tmp_path).head()
    assert manifest is not None
    assert (manifest.steps, manifest.complete) == (100, False)


def test_a_damaged_part_ends_the_recovered_episode_before_it(tmp_path):
    with pytest.raises(Crash):
        spool_episode(spool_that_crashes(tmp_path, "manifest"), steps=230)
    (folder,) = (p for p in tmp_path.iterdir() if p.name != "state")
    data = (folder / "part-00001.arrow").read_bytes()
    (folder / "part-00001.arrow").write_bytes(data[: len(data) // 2])
    manifest = Spool(tmp_path).head()
    assert manifest is not None
    assert (manifest.steps, len(manifest.parts)) == (100, 1)


def test_a_damaged_manifest_is_made_anew_as_incomplete(tmp_path):
    manifest = spool_episode(Spool(tmp_path), steps=130)
    (tmp_path / manifest.header.episode / "manifest.json").write_text("{")
    again = Spool(tmp_path).head()
    assert again is not None
    assert again.complete is False


def test_recovered_episodes_keep_their_order(tmp_path):
    spool = Spool(tmp_path)
    uids = [spool_episode(spool).header.episode for _ in range(4)]
    again = Spool(tmp_path)
    found = []
    while (head := again.head()) is not None:
        found.append(head.header.episode)
        again.delete(head.header.episode)
    assert found == uids


def test_a_half_deleted_episode_is_not_taken_for_a_crashed_one(tmp_path):
    manifest = spool_episode(Spool(tmp_path))
    uid = manifest.header.episode
    os.rename(tmp_path / uid, tmp_path / f"{uid}.acknowledged")
    again = Spool(tmp_path)
    assert again.head() is None
    assert not (tmp_path / f"{uid}.acknowledged").exists()


def test_depth_counts_episodes_and_bytes_and_deleting_frees_them(tmp_path):
    spool = Spool(tmp_path)
    manifest = spool_episode(spool)
    episodes, size = spool.depth
    assert episodes == 1
    assert size >= sum(part.size_bytes for part in manifest.parts)
    spool.delete(manifest.header.episode)
    assert spool.depth == (0, 0)


def test_a_disk_with_little_room_begins_no_episode_and_says_so(tmp_path, monkeypatch):
    spool = Spool(tmp_path)
    assert not spool.full
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    spool.look_at_disk()
    assert spool.full
    assert "make room" in spool.full_reason


WRITE_FOREVER = """
import sys
from pathlib import Path
from fleet.agent.spool import Spool
from tests.agent.making import spool_episode
spool = Spool(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    spool_episode(spool, steps=130)
    print("episode", flush=True)
"""
KILL_IN_A_CHILD = """
import os, random, signal, sys
from pathlib import Path
from fleet.agent.spool import Spool
from tests.agent.making import spool_episode
root, rng = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
FILE_EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.listdir", "shutil.rmtree"}
for _ in range(100):
    left = rng.randrange(1, 80)
    child = os.fork()
    if child == 0:
        def count(event, arguments):
            global left
            if event not in FILE_EVENTS:
                return
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(count)
        spool = Spool(root)
        while True:
            spool_episode(spool, steps=130)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, status
"""


@pytest.mark.slow
def test_a_hundred_kills_produce_no_partial_episode_that_passes_as_complete(tmp_path):
    root = tmp_path / "spool"
    subprocess.run(
        [sys.executable, "-c", KILL_IN_A_CHILD, str(root), "5"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        timeout=110,
    )
    spool = Spool(root)
    queued = spool.depth[0]
    assert 0 < check_whole(spool) < queued


def test_an_agent_killed_while_it_records_leaves_only_whole_episodes(tmp_path):
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITE_FOREVER, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        for _ in range(3):
            assert writer.stdout.readline() == "episode\n"
        writer.send_signal(signal.SIGKILL)
        writer.wait(10)
    assert check_whole(Spool(tmp_path)) >= 3
