"""Who sees what: robots are asked for frames and telemetry only while somebody watches."""

import time
from typing import TYPE_CHECKING

import msgspec

from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.services import events
from fleet.services.live.feeds import Demands, Shot, Viewer, union
from fleet.services.live.links import watches_closely

if TYPE_CHECKING:
    from fleet.services.live.hub import Hub

_frame = msgspec.msgpack.Decoder(m.Frame)
_demand = msgspec.msgpack.Decoder(events.Demand)
_telemetry = msgspec.json.Decoder(b.RobotTelemetry)


class FeedDesk:
    """Viewers and telemetry watchers of this process, and the demand they make on robots."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._viewers: set[Viewer] = set()
        self._demands = Demands(hub.monotonic)
        self._asked: dict[str, m.FeedRequest] = {}
        self._remote: set[str] = set()

    def attach(self, viewer: Viewer) -> None:
        """Take a viewer."""
        self._viewers.add(viewer)

    def detach(self, viewer: Viewer) -> None:
        """Let go of a viewer; robots that nobody watches any more stop sending."""
        self._viewers.discard(viewer)
        self.refresh()

    def robot_attached(self, robot: str) -> None:
        """Ask a robot anew: a new connection knows of no request."""
        self._asked.pop(robot, None)
        self.refresh()

    # ---- demand ----------------------------------------------------------------------------

    def refresh(self) -> None:
        """Ask every robot for what is wanted of it now, where that changed."""
        wanted = self._wanted_here()
        remote: set[str] = set()
        for robot, link in self._hub.links.items():
            requests = [*wanted.pop(robot, []), *self._demands.elsewhere(robot)]
            request = union(requests, cameras=link.cameras)
            if self._asked.get(robot, m.FeedRequest()) != request:
                self._asked[robot] = request
                link.send_state("feed", request)
        for robot, requests in wanted.items():
            request = union(requests)
            demand = events.Demand(process=self._hub.process, request=request)
            payload = msgspec.msgpack.encode(demand)
            self._hub.bus.publish_state(events.demand_of(robot), payload)
            remote.update(events.feed_of(robot, *pair) for pair in request.frames)
            if request.telemetry:
                remote.add(events.telemetry_of(robot))
        self._hub.bus.unsubscribe(*(self._remote - remote))
        self._hub.bus.subscribe(*remote)
        self._remote = remote

    def _wanted_here(self) -> dict[str, list[m.FeedRequest]]:
        wanted: dict[str, list[m.FeedRequest]] = {}
        for viewer in self._viewers:
            for robot, camera, size in viewer.feeds:
                if robot not in self._hub.states:
                    continue
                request = m.FeedRequest(frames=((camera, size),))
                wanted.setdefault(robot, []).append(request)
        for operator in self._hub.operators:
            watch = operator.watch
            request = m.FeedRequest(telemetry=True, privileged=watch.privileged)
            for robot in self._hub.states.names():
                if watches_closely(watch, robot):
                    wanted.setdefault(robot, []).append(request)
        return wanted

    # ---- frames and telemetry ----------------------------------------------------------------

    def frame(self, robot: str, frame: m.Frame, offset_ns: int) -> None:
        """Offer a robot's frame to everyone who watches. State: viewers see the newest only."""
        taken_ns = frame.t_wall_ns + offset_ns
        feed = (robot, frame.camera, frame.size)
        shot = Shot(feed, frame.seq, taken_ns, frame.jpeg)
        for viewer in self._viewers:
            viewer.offer(shot)
        pair = (frame.camera, frame.size)
        if any(pair in request.frames for request in self._demands.elsewhere(robot)):
            moved = msgspec.structs.replace(frame, t_wall_ns=taken_ns)
            self._hub.bus.publish_state(events.feed_of(*feed), msgspec.msgpack.encode(moved))

    def telemetry(self, robot: str, telemetry: m.Telemetry) -> None:
        """Pass a robot's fast state to everyone who watches it. State: the newest only."""
        message = b.RobotTelemetry(robot=robot, telemetry=telemetry)
        self._deliver(message)
        if any(request.telemetry for request in self._demands.elsewhere(robot)):
            payload = msgspec.json.encode(message)
            self._hub.bus.publish_state(events.telemetry_of(robot), payload)

    def _deliver(self, message: b.RobotTelemetry) -> None:
        texts: dict[bool, str] = {}
        for link in self._hub.operators:
            watch = link.watch
            if not watches_closely(watch, message.robot):
                continue
            if watch.privileged not in texts:
                texts[watch.privileged] = _encode(message, privileged=watch.privileged)
            link.send_state(("telemetry", message.robot), texts[watch.privileged])

    # ---- other processes -------------------------------------------------------------------

    def on_bus(self, kind: str, robot: str, feed: list[str], payload: bytes) -> None:
        """Take a demand, frame or telemetry that came through Redis."""
        here = robot in self._hub.links
        if kind == "demand" and here:
            demand = _demand.decode(payload)
            if demand.process != self._hub.process:
                self._demands.heard(robot, demand)
                self.refresh()
        elif kind == "telemetry" and not here:
            self._deliver(_telemetry.decode(payload))
        elif kind == "feed" and not here:
            frame = _frame.decode(payload)
            shot = Shot((robot, feed[0], frame.size), frame.seq, frame.t_wall_ns, frame.jpeg)
            for viewer in self._viewers:
                viewer.offer(shot)

    def age_ms(self, shot: Shot) -> float:
        """Return how old a frame is now, on the server's clock."""
        return max(0.0, (time.time_ns() - shot.taken_wall_ns) / 1e6)


def _encode(message: b.RobotTelemetry, *, privileged: bool) -> str:
    if not privileged and message.telemetry.privileged:
        plain = msgspec.structs.replace(message.telemetry, privileged=())
        message = msgspec.structs.replace(message, telemetry=plain)
    return msgspec.json.encode(message).decode()
