"""The gateway: a robot's control link."""

import logging
from typing import Any, assert_never

import msgspec
from django.db import DatabaseError

from fleet.consumers.base import Socket
from fleet.exceptions import Refusal
from fleet.protocol import messages as m
from fleet.protocol.codec import BadMessage, decode_from_robot, encode_link
from fleet.selectors.access import access_robot_by_token
from fleet.services import robots
from fleet.services.live.hub import live
from fleet.services.live.threads import in_thread

log = logging.getLogger(__name__)


class RobotSocket(Socket):
    """One robot. Authenticated by its token; says hello before anything else."""

    outbox_limit = 512

    async def authenticate(self) -> None:
        """Find the robot by its bearer token."""
        row = await in_thread(access_robot_by_token, self.bearer_token())
        self.robot, self.robot_id, self.simulated = row.name, row.pk, row.kind == "simulated"
        self.clock_offset_ns = 0
        self.cameras: frozenset[str] = frozenset()
        self.hub = live()
        self.greeted = self.introduced = False

    def left(self) -> None:
        """Let the robot go stale; its lease, if any, stays with its holder until it runs out."""
        self.hub.detach_robot(self)

    def frame(self, item: m.Message) -> dict[str, Any]:
        """Return a message as msgpack."""
        return {"type": "websocket.send", "bytes": encode_link(item)}

    async def received(self, data: str | bytes) -> None:
        """Act on one message of the robot; none of them waits for the database."""
        message = decode_from_robot(data.encode() if isinstance(data, str) else data)
        if not self.greeted and not isinstance(message, m.Hello | m.Ping | m.Pong):
            raise BadMessage("say Hello first")
        self.hub.link_heard(self)
        match message:
            case m.Hello():
                self._hello(message)
            case m.Heartbeat():
                self._heartbeat(message)
            case m.HelpNeed():
                self.hub.help.heard(self.robot, message, self.clock_offset_ns)
            case m.Telemetry():
                self.hub.feeds.telemetry(self.robot, message)
            case m.Frame():
                self.hub.feeds.frame(self.robot, message, self.clock_offset_ns)
            case m.Acknowledged():
                self.hub.acknowledged(self.robot, message)
            case m.PolicyReport():
                self.hub.ledger.reported(self.robot, message, self.clock_offset_ns)
            case m.Ping():
                pong = m.Pong(t_sender_ns=message.t_sender_ns, t_wall_ns=self.hub.wall_ns())
                self.send_state("pong", pong)
            case m.Pong():
                pass
            case _:
                assert_never(message)

    def _hello(self, hello: m.Hello) -> None:
        """State. The link counts from here, so that a stop reaches it while the rows are read."""
        if hello.protocol != m.PROTOCOL_VERSION:
            log.warning("%s speaks protocol %s", self.robot, hello.protocol)
            self.close(m.CloseCode.PROTOCOL_VERSION)
            return
        if hello.robot != self.robot:
            log.warning("the token of %s was used by %s", self.robot, hello.robot)
            self.close(m.CloseCode.FORBIDDEN)
            return
        self.greeted, self.introduced = True, False
        self.cameras = frozenset(camera.name for camera in hello.spec.cameras)
        self.clock_offset_ns = self.hub.wall_ns() - hello.t_wall_ns
        self.hub.attach_robot(self)
        self.hub.spawn(self._introduce(hello))

    async def _introduce(self, hello: m.Hello) -> None:
        try:
            known = await in_thread(robots.robot_connected, robot=self.robot_id, hello=hello)
        except Refusal as error:
            self.refuse(error.code, str(error))
            self.close(m.CloseCode.FORBIDDEN)
            return
        except DatabaseError:
            log.exception("%s cannot be introduced", self.robot)
            self.close(m.CloseCode.GOING_AWAY)
            return
        welcome = m.Welcome(
            protocol=m.PROTOCOL_VERSION, t_wall_ns=self.hub.wall_ns(), epoch=known.epoch
        )
        self.send(welcome)
        self.send(known.assignment)
        if known.announcement is not None:
            self.hub.ledger.tell(self.robot, known.announcement)
        self.hub.states.change(
            self.robot,
            simulated=hello.spec.simulated,
            assigned_number=known.assigned_number,
            pinned=known.pinned,
            lease=known.lease,
        )
        if known.lease is not None:
            self.send(m.LeaseGranted(lease=known.lease))
        if known.stop is not None:
            self.hub.stops.due_from_database(self.robot, known.stop)
        self.introduced = True
        log.info("%s connected, agent %s", self.robot, hello.agent_version or "unknown")

    def _heartbeat(self, heartbeat: m.Heartbeat) -> None:
        """State: shown at once, written with the next flush, compared with the lease."""
        if heartbeat.clock_offset_ns:
            self.clock_offset_ns = heartbeat.clock_offset_ns
        else:
            # No estimate yet: the pages and rows need one clock all the same.
            heartbeat = msgspec.structs.replace(heartbeat, clock_offset_ns=self.clock_offset_ns)
        self.hub.states.heard(self.robot, heartbeat=heartbeat)
        self.hub.ledger.note(self.robot, heartbeat)
        if heartbeat.help is not None:
            self.hub.help.heard(self.robot, heartbeat.help, self.clock_offset_ns)
        if self.introduced:
            self.hub.takeovers.reconcile(self.robot, heartbeat)
