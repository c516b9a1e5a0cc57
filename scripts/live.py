"""Wait, as a client of the running system, until its robots are live: heartbeats and a frame."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.codec import BadMessage, decode_to_browser, encode_text
from fleet.protocol.control import Mode


def answers(url: str) -> bool:
    """Say whether `url` answers with success within two seconds."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def wait_for(condition: Callable[[], bool], *, until: float, pause_s: float = 0.1) -> bool:
    """Poll `condition` until it holds or the monotonic clock reaches `until`; say which."""
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(pause_s)
    return True


def _open(server: str, path: str, token: str) -> ClientConnection:
    return connect(
        server.replace("http", "ws", 1) + path,
        additional_headers={"Authorization": f"Bearer {token}"},
        compression=None,
        open_timeout=5,
        max_size=m.MAX_LINK_MESSAGE_BYTES,
    )


def online_robots(server: str, token: str, *, robots: int, until: float) -> dict[str, b.RobotState]:
    """Return the state of each robot that sent a heartbeat, once there are `robots` of them.

    Raises TimeoutError at `until`, WebSocketException or OSError when the socket breaks.
    """
    seen: dict[str, b.RobotState] = {}
    with _open(server, "/ws/operator/", token) as socket:
        socket.send(encode_text(b.Watch(every=True)))
        while len(seen) < robots:
            data = socket.recv(timeout=max(0.0, until - time.monotonic()))
            try:
                message = decode_to_browser(data if isinstance(data, str) else data.decode())
            except BadMessage:
                continue
            states = message.robots if isinstance(message, b.Snapshot) else (message,)
            for state in states:
                if isinstance(state, b.RobotState) and state.connection == "online":
                    seen[state.robot] = state
    return seen


def first_frame(server: str, token: str, *, robots: list[str], camera: str, until: float) -> None:
    """Return when `camera` of any robot sent a frame. Raises TimeoutError at `until`."""
    with _open(server, "/ws/feed/", token) as socket:
        feeds = tuple((robot, camera, "thumbnail") for robot in robots)
        socket.send(encode_text(b.WatchFrames(feeds=feeds)))
        while not isinstance(socket.recv(timeout=max(0.0, until - time.monotonic())), bytes):
            pass


def _acts(state: b.RobotState) -> bool:
    return state.heartbeat is not None and state.heartbeat.mode == Mode.AUTONOMOUS


def wait_until_live(server: str, token: str, *, robots: int, camera: str, until: float) -> bool:
    """Wait for /readyz, a heartbeat of every robot, and one frame; False at `until`."""
    if not wait_for(lambda: answers(f"{server}/readyz"), until=until):
        return False
    while robots and time.monotonic() < until:
        try:
            seen = online_robots(server, token, robots=robots, until=until)
            # A robot that held when it was switched off holds still, and has no scene to show.
            acting = [name for name, state in seen.items() if _acts(state)]
            if acting:
                first_frame(server, token, robots=acting, camera=camera, until=until)
            return True
        except (OSError, WebSocketException):
            # TimeoutError is an OSError: the loop's condition ends it.
            time.sleep(0.2)
    return not robots
