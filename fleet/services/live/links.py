"""What the hub expects of the sockets it connects."""

from dataclasses import dataclass
from typing import Protocol

from fleet.models import Operator, Role
from fleet.protocol import browser as b
from fleet.protocol import messages as m


@dataclass(frozen=True, slots=True)
class Who:
    """The operator behind a socket, as of the last look at the database."""

    id: int
    name: str
    kind: str
    role: str

    @classmethod
    def of(cls, operator: Operator) -> "Who":
        """Return the value of a row."""
        return cls(operator.pk, operator.name, operator.kind, operator.role)

    @property
    def scripted(self) -> bool:
        """Whether this is a script."""
        return self.kind == "scripted"

    def may(self, role: Role) -> bool:
        """Say whether this operator has at least `role`."""
        return Operator(role=self.role).may(role)


class RobotLink(Protocol):
    """A robot's socket in this process."""

    robot: str
    # Server wall clock minus robot wall clock, as the robot last estimated it.
    clock_offset_ns: int
    # The cameras it has: what else viewers ask for is not passed on.
    cameras: frozenset[str]

    def send(self, message: m.Message, *, ttl_s: float | None = None, first: bool = False) -> None:
        """Send a command."""

    def send_state(self, key: object, message: m.Message) -> None:
        """Send state; it replaces what waits under `key`."""

    def close(self, code: m.CloseCode) -> None:
        """Close the socket; nothing more is sent."""


class OperatorLink(Protocol):
    """An operator's socket in this process."""

    who: Who
    watch: b.Watch

    def send(self, message: m.Message, *, ttl_s: float | None = None) -> None:
        """Send an answer."""

    def send_state(self, key: object, text: str) -> None:
        """Send encoded state; it replaces what waits under `key`."""


def watches(watch: b.Watch, robot: str) -> bool:
    """Say whether `watch` covers `robot`."""
    return watch.every or robot in watch.robots


def watches_closely(watch: b.Watch, robot: str) -> bool:
    """Say whether `watch` asks for the telemetry of `robot`."""
    return watch.telemetry and (robot in watch.robots or (watch.every and not watch.robots))
