"""What would fail later and less clearly is checked before anything starts."""

import ctypes.util
import fcntl
import os
import shutil
import socket
from contextlib import ExitStack
from pathlib import Path

from scripts.embedded_redis import free_port

# Episodes, objects and the database of an evening with eight robots.
MIN_FREE_MB = 1000


class StartError(RuntimeError):
    """The system cannot start; the text is one sentence that says what to do."""


def check_machine(var: Path, *, renders: bool) -> None:
    """Raise StartError for what would fail later and less clearly."""
    if renders and not ctypes.util.find_library("OSMesa"):
        raise StartError(
            "The library libOSMesa is missing and the simulated robots render with it; run: "
            "sudo apt-get install -y libosmesa6"
        )
    free_mb = shutil.disk_usage(var).free // 2**20
    if free_mb < MIN_FREE_MB:
        raise StartError(
            f"The disk of {var} has {free_mb} MB left and the system needs {MIN_FREE_MB}; "
            "free some space, or choose another folder: make run VAR=/path"
        )


def choose_port(port: int) -> int:
    """Return the port to listen on. Raises StartError when somebody else has it."""
    if port == 0:
        return free_port()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise StartError(
                f"Port {port} is in use; stop what listens there, or choose another: "
                f"make run PORT={port + 1}"
            ) from None
    return port


def take_folder(var: Path, stack: ExitStack) -> None:
    """Make the folder and lock it for the life of this process and its children."""
    try:
        var.mkdir(parents=True, exist_ok=True)
        lock = stack.enter_context((var / "run.lock").open("a+"))
    except OSError as error:
        raise StartError(f"{var} cannot be written ({error.strerror}); choose VAR=/path") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        raise StartError(
            f"The system already runs in {var} (process {lock.read().strip() or 'unknown'}); stop "
            "it with Ctrl-C there, or choose another folder and port: make run VAR=/path PORT=8001"
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
