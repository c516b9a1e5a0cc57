import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def start(var: Path, *arguments: str, env: dict[str, str] | None = None):
    return subprocess.run(
        [sys.executable, "scripts/run.py", "--var", str(var), "--port", "0", *arguments],
        cwd=ROOT,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def sentence(result: subprocess.CompletedProcess[str]) -> str:
    """The one thing that a failed start says; never a traceback."""
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_a_port_in_use_is_named_with_another_to_try(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = sentence(start(tmp_path, "--port", str(port)))
    assert f"Port {port} is in use" in said
    assert f"PORT={port + 1}" in said


def test_a_folder_in_use_names_the_process_that_has_it(tmp_path):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, contextlib, pathlib\n"
            "from scripts.machine import take_folder\n"
            "stack = contextlib.ExitStack()\n"
            "take_folder(pathlib.Path(sys.argv[1]), stack)\n"
            "print('locked', flush=True)\n"
            "sys.stdin.read()",
            str(tmp_path),
        ],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout.readline() == "locked\n"
        said = sentence(start(tmp_path))
    assert f"process {holder.pid}" in said


def test_a_folder_that_cannot_be_written_is_named():
    said = sentence(start(Path("/proc/self/sop")))
    assert "cannot be written" in said


def test_a_full_disk_is_said_with_how_much_is_needed(tmp_path, monkeypatch):
    from scripts import machine

    monkeypatch.setattr(machine, "MIN_FREE_MB", 10**9)
    with pytest.raises(machine.StartError, match=r"has \d+ MB left and the system needs 10"):
        machine.check_machine(tmp_path, renders=False)


def test_a_missing_library_is_said_with_the_line_that_installs_it(tmp_path, monkeypatch):
    from scripts import machine

    monkeypatch.setattr(machine.ctypes.util, "find_library", lambda name: None)
    with pytest.raises(machine.StartError, match="apt-get install -y libosmesa6"):
        machine.check_machine(tmp_path, renders=True)
    machine.check_machine(tmp_path, renders=False)


def test_the_embedded_redis_listens_on_loopback_only_and_ends_with_its_block(tmp_path):
    import psutil

    from scripts.embedded_redis import embedded_redis

    # Other tests' servers may be children of this process too.
    before = set(psutil.Process().children(recursive=True))
    with embedded_redis(tmp_path) as url:
        port = int(url.split(":")[2].split("/")[0])
        assert url == f"redis://127.0.0.1:{port}/0"
        started = set(psutil.Process().children(recursive=True)) - before
        servers = [p for p in started if "redis" in p.name()]
        assert len(servers) == 1
        bound = {c.laddr.ip for c in servers[0].net_connections() if c.status == "LISTEN"}
        assert bound == {"127.0.0.1"}
    assert not servers[0].is_running()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_the_key_that_signs_sessions_is_made_once_and_private(tmp_path):
    code = "from sop_web.settings import SECRET_KEY; print(SECRET_KEY)"
    environment = os.environ | {"SOP_VAR": str(tmp_path)}
    environment.pop("SECRET_KEY", None)
    keys = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    }
    assert len(keys) == 1
    assert len(keys.pop().strip()) >= 50
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600
