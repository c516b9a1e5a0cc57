"""Which operator waits for which robot's answer."""

import time
from collections.abc import Callable

from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.services.live.links import OperatorLink

# A robot answers within a tick; after this long the sender is told that it did not.
ANSWER_WITHIN_S = 2.0
# Lease commands carry no sequence number; their epoch tells them apart.
_BY_EPOCH = frozenset({"LeaseGranted", "LeaseEnded"})


class Answers:
    """Commands under way from operators here; who sent a Teleop, its lease says."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._waiting: dict[tuple[str, str, int], tuple[float, OperatorLink]] = {}
        self._seq = time.time_ns() // 1000

    def next_seq(self) -> int:
        """Return a number no other command of any process has: microseconds, made to grow."""
        self._seq = max(self._seq + 1, time.time_ns() // 1000)
        return self._seq

    def expect(self, robot: str, command: str, number: int, link: OperatorLink) -> None:
        """Note that `link` waits for the answer to a command, by its seq or its epoch."""
        self._waiting[robot, command, number] = (self._monotonic() + ANSWER_WITHIN_S, link)

    def resolve(self, robot: str, answer: m.Acknowledged) -> OperatorLink | None:
        """Return who waited for this answer, once."""
        number = answer.epoch if answer.command in _BY_EPOCH else answer.seq
        _, link = self._waiting.pop((robot, answer.command, number), (0.0, None))
        return link

    def overdue(self) -> list[tuple[OperatorLink, b.CommandAnswer]]:
        """Return what to tell those whose robot did not answer, once."""
        now = self._monotonic()
        late = [key for key, (due, _) in self._waiting.items() if due <= now]
        told = []
        for key in late:
            robot, command, number = key
            _, link = self._waiting.pop(key)
            told.append((link, refusal(robot, command, "the robot did not answer", seq=number)))
        return told

    def forget(self, link: OperatorLink) -> None:
        """Drop what a closed socket waited for."""
        self._waiting = {k: v for k, v in self._waiting.items() if v[1] is not link}


def refusal(
    robot: str,
    command: str,
    reason: str,
    *,
    seq: int = 0,
    epoch: int = 0,
    t_client_ms: float = 0.0,
) -> b.CommandAnswer:
    """Return the server's own refusal of a command, in the robot's words."""
    return b.CommandAnswer(
        robot=robot,
        answer=m.Acknowledged(
            seq=seq,
            epoch=epoch,
            command=command,
            accepted=False,
            reason=reason[:500],
            t_client_ms=t_client_ms,
        ),
    )
