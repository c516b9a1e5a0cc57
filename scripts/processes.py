"""The processes of the system as shell lines, their environment, and what runs before them."""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from fleet.protocol.simulation import TASKS
from scripts.machine import StartError

ROOT = Path(__file__).resolve().parent.parent
# Seconds until a process that ended on its own is started again.
RESTART_S = 1


def environment(options: argparse.Namespace, port: int, redis_url: str) -> dict[str, str]:
    """Return what every process of the system runs with."""
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "DJANGO_SETTINGS_MODULE": "sop_web.settings",
        "SOP_VAR": str(options.var),
        "REDIS_URL": redis_url,
        # One thread each: on two cores, torch's pools fight the control loops for both.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "MUJOCO_GL": os.environ.get("MUJOCO_GL", "osmesa"),
        "PYOPENGL_PLATFORM": os.environ.get("PYOPENGL_PLATFORM", "osmesa"),
        "SOP_SERVER": f"http://127.0.0.1:{port}",
        # Celery's page about the superuser: workers take JSON from loopback only.
        "PYTHONWARNINGS": "ignore:You're running the worker with superuser",
    }


def step(name: str, command: list[str], env: dict[str, str], log: Path) -> None:
    """Run one preparation to its end. Raises StartError with where to read why."""
    with log.open("ab") as out:
        # Progress bars go to the terminal, everything else to the log.
        result = subprocess.run(command, env=env, cwd=ROOT, stdout=out, check=False)
    if result.returncode:
        if shutil.disk_usage(log.parent).free < 50 * 2**20:
            raise StartError(f"The disk ran full while {name}; free some space and run it again.")
        raise StartError(f"Could not finish {name}: the reason is above and in {log}.")


def prepare(options: argparse.Namespace, env: dict[str, str]) -> None:
    """Migrate and seed; make and import demonstrations where there are none. Safe to repeat."""
    log = options.var / "logs" / "prepare.log"
    tasks = ["--tasks", ",".join(options.tasks)] if options.tasks else []
    fleet = ["--robots", str(options.robots), "--operators", str(options.operators)]
    base = ["--base", str(options.base.resolve())] if options.base else []
    print("Preparing database, robots and policy", flush=True)
    step("the database", [sys.executable, "manage.py", "prepare", *fleet, *tasks, *base], env, log)
    folder = options.var / "demonstrations"
    # One line a task whose demonstrations were made and imported.
    record = folder / "imported.txt"
    wanted = options.tasks or [task.name for task in TASKS]
    have = record.read_text().split() if record.exists() else []
    if missing := [task for task in wanted if task not in have]:
        make = [sys.executable, "-m", "learning.experiments.demonstrations", "--out", str(folder)]
        step("the demonstrations", [*make, "--tasks", *missing], env, log)
        bring = [sys.executable, "manage.py", "import_episodes", str(folder)]
        step("the import of the demonstrations", bring, env, log)
        record.write_text("\n".join([*have, *missing]) + "\n")


# ---- the processes ---------------------------------------------------------------------------

# What nobody waits for starts when the robots are live, or after this long in any case.
LIVE_WAIT_S = 60
# Niceness of what carries stops and commands to the robots, and of what is not in the way from a
# robot to a person. Agents put themselves first and learners last (ADR 7).
CARRYING = -15
YIELDING = 5


def kept_running(command: str) -> str:
    """Return a shell line that starts `command` again whenever it ends by itself.

    Status 2 is a wrong configuration, which starting again does not mend.
    """
    return (
        f"while true; do {command}; code=$?; [ $code -eq 2 ] && exit 2; "
        f'echo "ended with $code, starting again"; sleep {RESTART_S}; done'
    )


def weighed(command: str, niceness: int) -> str:
    """Return a shell line whose session has a niceness; a negative one needs a privilege.

    Every supervised process has a session of its own, and Linux shares processor time between
    sessions first (autogroups, sched(7)): `nice` alone counts only inside one.
    """
    return f"{{ echo {niceness} > /proc/self/autogroup; }} 2>/dev/null; {command}"


def live_mark(var: Path) -> Path:
    """Return the file that exists while the system of `var` is live."""
    return var / "logs" / "live"


def after_live(command: str, var: Path) -> str:
    """Return a shell line that waits for the robots to be live before it runs `command`.

    At the start every process spends seconds of processor time on imports; on two cores those of
    a person's page and of the robots come first.
    """
    mark = shlex.quote(str(live_mark(var)))
    wait = f"for i in $(seq {5 * LIVE_WAIT_S}); do [ -e {mark} ] && break; sleep 0.2; done"
    return f"{wait}; {command}"


def processes(options: argparse.Namespace, port: int) -> dict[str, str]:
    """Return the shell line of every process, by name."""
    python = shlex.quote(sys.executable)
    var = shlex.quote(str(options.var))
    server = f"http://127.0.0.1:{port}"
    worker = f"{python} -m celery --quiet -A sop_web worker --without-gossip"
    lines = {
        # No idle timeout: a quiet control link is not a broken one.
        "web": f"exec {python} -m daphne --bind 127.0.0.1 --port {port} --verbosity 0 "
        "--websocket_timeout -1 sop_web.asgi:application",
        "worker": kept_running(
            f"{worker} --without-mingle --queues default --hostname default@%h --concurrency 1"
        ),
        "learner": kept_running(
            f"{worker} --without-mingle --queues learner --hostname learner@%h "
            "--pool solo --concurrency 1"
        ),
        "beat": f"exec {python} -m celery --quiet -A sop_web beat --pidfile=",
    }
    # A simulated robot's loop takes up to a quarter of a core; half of them stay for the rest.
    # Robots that draw their pictures at the same moment would wait for each other in each period.
    # Where they could take every core they have no priority: with it, twelve of them kept the
    # workers of a machine of two cores from ever starting.
    priority = "realtime" if options.robots <= 2 * (os.cpu_count() or 1) else "normal"
    for number in range(1, options.robots + 1):
        config = f"{var}/robots/robot-{number}.json"
        lines[f"robot-{number}"] = kept_running(
            f"{python} -m fleet.agent --config {config} --server {server} "
            f"--priority {priority} --phase {(number - 1) / options.robots:.3f}"
        )
    if options.operators:
        lines["operators"] = kept_running(
            f"{python} -m fleet.agent.teleop.scripted --operators-file {var}/operators.json "
            f"--server {server} --count {options.operators}"
        )
    lines["web"] = weighed(lines["web"], CARRYING)
    for name in ("worker", "learner", "beat"):
        lines[name] = weighed(after_live(lines[name], options.var), YIELDING)
    if "operators" in lines:
        lines["operators"] = after_live(lines["operators"], options.var)
    return lines
