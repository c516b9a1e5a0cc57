"""Start the whole system on this machine: Redis, web, workers, learner, robots, operators.

`make run` is this with its defaults; experiments, benchmarks and tests start the same system
headless in a folder and on a port of their own:

    python scripts/run.py --var DIR --port 0 --robots 4 --operators 2 --ready-file FILE

FILE appears, complete, once every robot has sent a heartbeat and a frame was seen; it is JSON:
`url`, `port`, `pid`, `var`, `redis_url`, `seconds` from start to ready. SIGTERM or SIGINT stops
every process; the exit status is then 0.
"""

import argparse
import contextlib
import datetime
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

from honcho import manager as honcho
from honcho.printer import Message, Printer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.embedded_redis import RedisError, embedded_redis  # noqa: E402
from scripts.live import wait_until_live  # noqa: E402
from scripts.machine import StartError, check_machine, choose_port, take_folder  # noqa: E402
from scripts.processes import environment, live_mark, prepare, processes  # noqa: E402

# Seconds between the request to stop and SIGKILL: a round may be inside a checkpoint.
STOP_WAIT_S = 20
# Ready takes seconds; on a machine busy with something else it takes longer.
READY_S = 300
# Of the simulated robots; one frame of it shows that they can be watched.
CAMERA = "front"
INTERRUPTED = (130, 143)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options; `tasks` as a list, empty for the default set."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--var", type=Path, default=ROOT / "var", help="folder for all data")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    parser.add_argument("--robots", type=int, default=4)
    parser.add_argument("--operators", type=int, default=1, help="scripted ones")
    parser.add_argument("--tasks", default="", help="comma-separated; empty for the default set")
    parser.add_argument("--base", type=Path, help="base policy; the shipped one by default")
    parser.add_argument("--ready-file", type=Path, help="written once the robots are live")
    parser.add_argument("--quiet", action="store_true", help="processes print into VAR/logs only")
    options = parser.parse_args(arguments)
    if not 0 <= options.robots <= 64 or not 0 <= options.operators <= 64:
        parser.error("ROBOTS and OPERATORS are between 0 and 64")
    options.tasks = [task.strip() for task in options.tasks.split(",") if task.strip()]
    options.var = options.var.resolve()
    return options


class Tee:
    """Where the supervisor prints: a log file, and the terminal unless it is to be quiet."""

    def __init__(self, log: TextIO, *, quiet: bool) -> None:
        self.log = log
        self.quiet = quiet

    def write(self, text: str) -> None:
        """Write to both."""
        self.log.write(text)
        if not self.quiet:
            sys.stdout.write(text)

    def flush(self) -> None:
        """Flush both."""
        self.log.flush()
        sys.stdout.flush()


class Announcer(threading.Thread):
    """Says when the system is live: the address and the logins, and the ready file."""

    def __init__(
        self, options: argparse.Namespace, manager: honcho.Manager, ready: dict[str, object]
    ) -> None:
        super().__init__(daemon=True)
        self.options = options
        self.manager = manager
        self.ready = ready
        self.started = time.monotonic()

    def run(self) -> None:
        """Wait for the condition, then tell."""
        var = self.options.var
        operators = json.loads((var / "operators.json").read_text())
        live = wait_until_live(
            str(self.ready["url"]),
            next(one["token"] for one in operators if one["kind"] == "scripted"),
            robots=self.options.robots,
            camera=CAMERA,
            until=self.started + READY_S,
        )
        live_mark(var).touch()
        if not live:
            self.say(f"Not every robot is live after {READY_S} s: see {var / 'logs'}")
            return
        self.ready["seconds"] = round(time.monotonic() - self.started, 2)
        logins = "  ".join(
            f"{one['name']} / {one['password']}" for one in operators if one.get("password")
        )
        self.say(f"Live after {self.ready['seconds']} s: {self.ready['url']}/\n  {logins}\n")
        if path := self.options.ready_file:
            part = path.with_name(path.name + ".part")
            part.write_text(json.dumps(self.ready) + "\n")
            os.replace(part, path)

    def say(self, text: str) -> None:
        """Print through the supervisor, whose printer is not for several threads."""
        now = datetime.datetime.now()  # noqa: DTZ005  (honcho prints local time)
        self.manager.events.put(
            Message(type="line", data=f"\n{text}", time=now, name="system", colour=None)
        )


def supervise(options: argparse.Namespace, port: int, env: dict[str, str]) -> int:
    """Run every process until one of the unguarded ends or we are told to stop."""
    honcho.KILL_WAIT = STOP_WAIT_S
    with (options.var / "logs" / "system.log").open("a", buffering=1) as log:
        manager = honcho.Manager(Printer(Tee(log, quiet=options.quiet)))
        for name, command in processes(options, port).items():
            manager.add_process(name, command, env=env, cwd=str(ROOT))
        ready: dict[str, object] = {
            "url": f"http://127.0.0.1:{port}",
            "port": port,
            "pid": os.getpid(),
            "var": str(options.var),
            "redis_url": env["REDIS_URL"],
        }
        live_mark(options.var).unlink(missing_ok=True)
        Announcer(options, manager, ready).start()
        manager.loop()
    return 0 if manager.returncode in INTERRUPTED else int(manager.returncode or 0)


def interrupt(number: int, _: object) -> None:
    """Turn a request to stop into the exception that ends a preparation and its processes."""
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """Check, prepare, supervise; returns the exit status."""
    options = parse(arguments)
    # Until the supervisor installs its own handlers.
    signal.signal(signal.SIGTERM, interrupt)
    with contextlib.ExitStack() as stack:
        try:
            take_folder(options.var, stack)
            (options.var / "logs").mkdir(exist_ok=True)
            check_machine(options.var, renders=options.robots > 0)
            port = choose_port(options.port)
            redis_url = os.environ.get("REDIS_URL") or stack.enter_context(
                embedded_redis(options.var / "logs")
            )
            env = environment(options, port, redis_url)
            prepare(options, env)
            return supervise(options, port, env)
        except (StartError, RedisError) as error:
            print(f"\n{error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130


if __name__ == "__main__":
    sys.exit(main())
