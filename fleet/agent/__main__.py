"""Run one robot: `python -m fleet.agent --config FILE`."""

import logging
import os
import signal
import sys
import threading

# One simulated robot renders in software unless told otherwise; read when MuJoCo is imported.
os.environ.setdefault("MUJOCO_GL", "osmesa")
os.environ.setdefault("PYOPENGL_PLATFORM", "osmesa")

import torch

from fleet.agent.agent import Agent
from fleet.agent.config import BadConfig, build_driver, parse
from fleet.agent.priority import come_first

# A thread that wants the interpreter waits at most this long for it; the default of 5 ms shows
# up as jitter of the control loop.
SWITCH_INTERVAL_S = 0.0005


def main() -> int:
    """Run until SIGTERM or SIGINT; 1 when the control loop died, 2 for a bad configuration."""
    try:
        config = parse(sys.argv[1:])
        logging.basicConfig(
            level=config.log_level.upper(),
            format=f"%(asctime)s {config.robot} %(levelname)s %(message)s",
        )
        for name in ("httpx", "OpenGL"):
            logging.getLogger(name).setLevel(logging.WARNING)
        config.secret()
        driver = build_driver(config)
    except BadConfig as error:
        print(f"fleet.agent: {error}", file=sys.stderr)
        return 2
    if config.priority != "normal":
        come_first()
    # Several agents and a learner share a machine; more threads would fight for its cores.
    torch.set_num_threads(1)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    agent = Agent(config, driver)
    agent.start()
    while not stopping.wait(0.5):
        if not agent.runtime.alive:
            break
    failed = agent.runtime.failed
    agent.stop()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
