"""What this process hears from others: through Redis, and from its own services' threads."""

import contextlib
from typing import TYPE_CHECKING

import msgspec

from fleet.protocol import browser as b
from fleet.protocol import codec
from fleet.services import events
from fleet.services.live.bus import Bus
from fleet.services.live.links import watches

if TYPE_CHECKING:
    from fleet.services.live.hub import Hub

_state = msgspec.json.Decoder(b.RobotState)
_answer = msgspec.json.Decoder(b.CommandAnswer)
_fleet = msgspec.json.Decoder(b.FleetState)
_help = msgspec.json.Decoder(b.HelpState)
_correction = msgspec.json.Decoder(b.CorrectionState)
_policies = msgspec.msgpack.Decoder(events.PolicyForRobots)
_links = msgspec.msgpack.Decoder(events.LinkTaken)
_asks = msgspec.msgpack.Decoder(events.Asking)
_passes = msgspec.msgpack.Decoder(events.Passed)
_stops = msgspec.msgpack.Decoder(events.StopRequest)


class Exchange:
    """Decodes what arrives and hands it to the part of the hub that it concerns.

    Everything may arrive twice or never: each part ignores what it has, and reconciles.
    """

    def __init__(self, hub: "Hub", redis_url: str) -> None:
        self._hub = hub
        self.bus = Bus(redis_url, self.received)

    def start(self) -> None:
        """Begin to listen."""
        self.bus.subscribe(
            events.ROBOTS,
            events.ANSWERS,
            events.POLICIES,
            events.STOPS,
            events.LINKS,
            events.FLEET,
            events.ASKS,
            events.PASSES,
            events.HELP,
            events.CORRECTIONS,
        )
        self.bus.start()
        events.listen(self.from_thread)

    async def stop(self) -> None:
        """Listen no more."""
        events.leave(self.from_thread)
        await self.bus.stop()

    def from_thread(self, channel: str, payload: bytes) -> bool:
        """Take what a service of this process published. True when nobody else must hear."""
        with contextlib.suppress(RuntimeError):  # the loop is closing; others may still hear
            self._hub.loop.call_soon_threadsafe(self.received, channel, payload)
        return any(channel == events.commands_of(robot) for robot in tuple(self._hub.links))

    def received(self, channel: str, payload: bytes) -> None:
        """Act on one message. Raises what a malformed one raises."""
        hub = self._hub
        match channel.split(":")[1:]:
            case ["robots"]:
                self._learn(_state.decode(payload))
            case ["answers"]:
                hub.relay(_answer.decode(payload))
            case ["policies"]:
                hub.ledger.announce(_policies.decode(payload))
            case ["stops"]:
                hub.stops.apply(_stops.decode(payload))
            case ["links"]:
                hub.link_taken(_links.decode(payload))
            case ["asks"]:
                hub.handovers.heard(_asks.decode(payload))
            case ["passes"]:
                hub.handovers.passed(_passes.decode(payload))
            case ["fleet"]:
                text = codec.encode_text(_fleet.decode(payload))
                for operator in hub.operators:
                    operator.send_state(("fleet",), text)
            case ["help"]:
                hub.help.learn(_help.decode(payload))
            case ["corrections"]:
                self._tell(_correction.decode(payload))
            case ["commands", robot] if robot in hub.links:
                hub.command(robot, codec.decode_to_robot(payload))
            case ["demand" | "telemetry" | "feed" as kind, robot, *feed]:
                hub.feeds.on_bus(kind, robot, feed, payload)

    def _tell(self, state: b.CorrectionState) -> None:
        """State: one slot a span; who reads slowly gets its newest."""
        text = codec.encode_text(state)
        for operator in self._hub.operators:
            if watches(operator.watch, state.robot):
                operator.send_state(("correction", state.robot, state.episode, state.epoch), text)

    def _learn(self, state: b.RobotState) -> None:
        # Of a robot that is here, only this process knows better.
        if state.robot not in self._hub.links and self._hub.states.learn(state):
            self._hub.stops.learned(state)
