"""Scripted operators: `python -m fleet.agent.teleop.scripted --operators-file FILE --server URL`.

Each is a client of the operator socket like a browser, with its own connection, token, lease and
commands; the server knows no difference but `Operator.kind`. They are privileged operators: the
gate and the expert read the simulator's state (`gate.py`), and they see no video, so the frame age
they report is always 0. One operator drives one robot at a time.

FILE is JSON: a list of `{"name": …, "token": …}`; entries whose `kind` is not "scripted" are left
out. The connection is made again by itself, with a growing pause, until the process is told to end.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import websockets
from websockets.asyncio.client import ClientConnection, connect

from fleet.agent.drivers.experts import PRIVILEGED_DIM, expert_action
from fleet.agent.teleop.desk import Desk
from fleet.agent.teleop.gate import GateConfig
from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.codec import BadMessage, decode_to_browser, encode_text
from fleet.protocol.simulation import TASKS

logger = logging.getLogger(__name__)

# How often a desk looks for a robot to help and for timeouts: half a control period of 20 Hz.
POLL_S = 0.025
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
# Messages waiting while the desk thinks; state behind them is old, and the server drops it for us.
MAX_QUEUE = 64


@dataclass(frozen=True, slots=True)
class Credentials:
    """One scripted operator's name and bearer token."""

    name: str
    token: str


def read_credentials(path: Path) -> list[Credentials]:
    """Return the scripted operators of an operators file, in its order.

    Raises:
        ValueError: The file is not a list of operators with a name and a token.
    """
    try:
        entries = json.loads(path.read_text())
        entries = entries["operators"] if isinstance(entries, dict) else entries
        return [
            Credentials(entry["name"], entry["token"])
            for entry in entries
            if entry.get("kind", "scripted") == "scripted"
        ]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not an operators file: {error!r}") from None


def socket_url(server: str) -> str:
    """Return the operator socket's address of a server given as http(s)://host:port."""
    scheme, _, rest = server.rstrip("/").partition("://")
    return f"{'wss' if scheme == 'https' else 'ws'}://{rest}/ws/operator/"


async def _poll(socket: ClientConnection, desk: Desk) -> None:
    while True:
        await asyncio.sleep(POLL_S)
        for reply in desk.poll(time.monotonic()):
            await socket.send(encode_text(reply))


async def _listen(socket: ClientConnection, desk: Desk) -> None:
    async for data in socket:
        try:
            message = decode_to_browser(data if isinstance(data, str) else data.decode())
        except BadMessage as error:
            logger.warning("unreadable message: %s", error)
            continue
        if isinstance(message, m.Ping):
            pong = m.Pong(t_sender_ns=message.t_sender_ns, t_wall_ns=time.time_ns())
            await socket.send(encode_text(pong))
        for reply in desk.receive(message, time.monotonic()):
            await socket.send(encode_text(reply))


async def operate(server: str, credentials: Credentials, desk: Desk) -> None:
    """Keep one operator connected and working until cancelled."""
    pause_s = FIRST_PAUSE_S
    headers = {"Authorization": f"Bearer {credentials.token}"}
    while True:
        try:
            async with connect(
                socket_url(server),
                additional_headers=headers,
                max_size=m.MAX_LINK_MESSAGE_BYTES,
                max_queue=MAX_QUEUE,
                compression=None,
            ) as socket:
                logger.info("%s: connected", credentials.name)
                pause_s = FIRST_PAUSE_S
                watch = b.Watch(every=True, telemetry=True, privileged=True)
                await socket.send(encode_text(watch))
                poll = asyncio.create_task(_poll(socket, desk))
                try:
                    await _listen(socket, desk)
                finally:
                    poll.cancel()
                    with contextlib.suppress(asyncio.CancelledError, websockets.ConnectionClosed):
                        await poll
        except (OSError, websockets.WebSocketException, TimeoutError) as error:
            logger.warning("%s: %s; again in %.1f s", credentials.name, error, pause_s)
        desk.disconnected()
        await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


async def run(server: str, operators: Sequence[Credentials], config: GateConfig) -> None:
    """Run every operator of `operators` until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    desks = {one.name: Desk(expert_action, config) for one in operators}
    running = [
        asyncio.create_task(operate(server, one, desks[one.name]), name=one.name)
        for one in operators
    ]
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([*running, stopping], return_when=asyncio.FIRST_COMPLETED)
    for task in (*running, stopping):
        task.cancel()
    results = await asyncio.gather(*running, return_exceptions=True)
    for one, result in zip(operators, results, strict=True):
        logger.info("%s: %s", one.name, desks[one.name].counts)
        if isinstance(result, Exception):
            raise result


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fleet.agent.teleop.scripted")
    parser.add_argument("--operators-file", type=Path, required=True)
    parser.add_argument("--server", default="http://127.0.0.1:8000")
    parser.add_argument("--count", type=int, help="use only the first COUNT operators of the file")
    defaults = GateConfig()
    parser.add_argument("--reaction-ticks", type=int, default=defaults.reaction_ticks)
    parser.add_argument("--disagreement", type=float, default=defaults.disagreement)
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("OpenGL").setLevel(logging.WARNING)
    try:
        operators = read_credentials(arguments.operators_file)[: arguments.count]
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if not operators:
        parser.error(f"{arguments.operators_file} names no scripted operator")
    config = GateConfig(
        reaction_ticks=arguments.reaction_ticks, disagreement=arguments.disagreement
    )
    # The experts come with the simulator, whose import takes seconds: not while a robot waits.
    expert_action(TASKS[0].name, (0.0,) * PRIVILEGED_DIM)
    asyncio.run(run(arguments.server, operators, config))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
