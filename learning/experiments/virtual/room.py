"""The server as robots and operators see it, on a virtual clock: leases and relayed messages.

The operators are the product's `Desk`s with the product's gate. What is modelled is the server
between: one lease a robot, first come first served, under growing epochs, and one way of the link.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fleet.agent.drivers.experts import expert_action
from fleet.agent.situation import Moment
from fleet.agent.teleop.desk import Desk, Expert
from fleet.agent.teleop.gate import Gate, GateConfig
from fleet.agent.teleop.scripted import POLL_S
from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.control import Lease, Mode
from learning.experiments.virtual.rates import Rates
from learning.experiments.virtual.robots import VirtualRobot
from learning.experiments.virtual.timeline import Timeline

# Readings an expert's answer is kept for: those on their way to operators, of many robots.
KNOWN = 64


class SharedExpert:
    """The scripted expert, asked once for what several operators look at."""

    def __init__(self, expert: Expert) -> None:
        self._expert = expert
        # The key is an object's identity; the object is kept, so that no other can have it.
        self._known: OrderedDict[int, tuple[tuple[float, ...], np.ndarray]] = OrderedDict()

    def __call__(self, task: str, privileged: tuple[float, ...]) -> np.ndarray:
        """Return the expert's action, float32 (a,)."""
        known = self._known.get(id(privileged))
        if known is None:
            known = self._known[id(privileged)] = (privileged, self._expert(task, privileged))
            if len(self._known) > KNOWN:
                self._known.popitem(last=False)
        return known[1]


@dataclass(slots=True)
class _Seat:
    """What the room knows of one robot."""

    robot: VirtualRobot
    # Its own gate, for measuring: does the robot need help, whoever has time for it?
    need: Gate
    epoch: int = 0
    revision: int = 0
    lease: Lease | None = None
    holder: int = -1
    granted_ns: int = 0


@dataclass(slots=True)
class RoomTimes:
    """What operators did, in simulated seconds and control ticks."""

    takeovers: int = 0
    refused: int = 0
    # Operator seconds spent holding a robot.
    held_s: float = 0.0
    # Robot ticks in which help was needed and nobody drove.
    unmet_ticks: int = 0


class ControlRoom:
    """Connects robots with scripted operators; pauses the operators when their time is used up."""

    def __init__(
        self,
        timeline: Timeline,
        rates: Rates,
        *,
        operators: int,
        budget_s: float | None = None,
        gate: GateConfig | None = None,
        expert: Expert = expert_action,
    ) -> None:
        """Seat operators.

        Args:
            timeline: What messages are planned on.
            rates: Link and reaction.
            operators: How many, each with one robot at a time.
            budget_s: Seconds they may hold robots, all together; None is without a limit.
            gate: Thresholds; the product's with the reaction of `rates` by default.
            expert: What operators do.
        """
        self._timeline = timeline
        self._rates = rates
        self._config = gate or GateConfig(reaction_ticks=rates.reaction_ticks)
        self._expert = SharedExpert(expert)
        self._desks = [Desk(self._expert, self._config) for _ in range(operators)]
        self._seats: dict[str, _Seat] = {}
        self._paused = False
        self.budget_s = budget_s
        self.times = RoomTimes()
        for number in range(operators):
            # Operators do not look in lockstep.
            first_s = POLL_S * (number + 1) / (operators + 1)
            timeline.every(POLL_S, lambda n=number: self._poll(n), first_s=first_s)

    def join(self, robot: VirtualRobot) -> None:
        """Watch over a robot."""
        seat = _Seat(robot, Gate(self._config))
        self._seats[robot.name] = seat
        self._tell_state(seat)

    def held_s(self) -> float:
        """Return operator seconds spent holding robots until now."""
        now_ns = self._timeline.clock.now_ns
        running = sum(now_ns - s.granted_ns for s in self._seats.values() if s.lease) * 1e-9
        return self.times.held_s + running

    def pause(self, *, paused: bool) -> None:
        """Let every operator hand back and take over nothing, or go on."""
        if paused == self._paused:
            return
        self._paused = paused
        for number in range(len(self._desks)):
            self._tell(number, b.FleetState(scripted_paused=paused))

    # ---- from robots ---------------------------------------------------------------------------

    def telemetry(self, robot: VirtualRobot, moment: Moment) -> None:
        """Relay one tick to every operator."""
        telemetry = moment.telemetry(privileged=True)
        self._measure(self._seats[robot.name], telemetry)
        if self._desks:
            relayed = b.RobotTelemetry(robot=robot.name, telemetry=telemetry)
            self._timeline.after(self._rates.link_s, lambda: self._everybody(relayed))

    def _measure(self, seat: _Seat, now: m.Telemetry) -> None:
        gate = seat.need
        if now.episode != gate.episode:
            gate.begin(now.episode)
        if not now.episode or now.purpose != "train" or now.mode is not Mode.AUTONOMOUS:
            if now.mode is Mode.TAKEOVER:
                gate.handed_back()
            return
        gate.observe(
            tick=now.tick,
            expert=self._expert(now.task, now.privileged),
            policy=now.policy_action,
            reward=now.reward,
        )
        self.times.unmet_ticks += gate.needs_help

    # ---- to and from operators -----------------------------------------------------------------

    def _everybody(self, message: b.ToBrowser) -> None:
        for number in range(len(self._desks)):
            self._receive(number, message)

    def _tell(self, number: int, message: b.ToBrowser) -> None:
        self._timeline.after(self._rates.link_s / 2, lambda: self._receive(number, message))

    def _receive(self, number: int, message: b.ToBrowser) -> None:
        self._send(number, self._desks[number].receive(message, self._timeline.now_s))

    def _poll(self, number: int) -> None:
        if self.budget_s is not None and not self._paused and self.held_s() >= self.budget_s:
            self.pause(paused=True)
        self._send(number, self._desks[number].poll(self._timeline.now_s))

    def _send(self, number: int, messages: Sequence[b.FromBrowser]) -> None:
        for message in messages:
            self._timeline.after(
                self._rates.link_s / 2, lambda asked=message: self._handle(number, asked)
            )

    # ---- the server's part ---------------------------------------------------------------------

    def _handle(self, number: int, message: b.FromBrowser) -> None:
        match message:
            case b.TakeOver():
                self._take_over(number, self._seats[message.robot])
            case b.HandBack():
                self._hand_back(number, self._seats[message.robot], message.epoch)
            case b.Drive():
                seat = self._seats[message.robot]
                command = m.Teleop(
                    epoch=message.epoch,
                    seq=message.seq,
                    action=message.action,
                    t_wall_ns=self._timeline.clock.wall_ns(),
                )
                self._command(seat, command, number)

    def _take_over(self, number: int, seat: _Seat) -> None:
        name = seat.robot.name
        if seat.lease is not None:
            self.times.refused += 1
            reason = f"{name} is held by {seat.lease.holder}"
            self._tell(number, b.TakeoverAnswer(robot=name, lease=None, reason=reason))
            return
        seat.epoch += 1
        seat.lease = Lease(epoch=seat.epoch, holder=f"scripted-{number}", holder_kind="scripted")
        seat.holder, seat.granted_ns = number, self._timeline.clock.now_ns
        self.times.takeovers += 1
        self._command(seat, m.LeaseGranted(lease=seat.lease), number)
        self._tell(number, b.TakeoverAnswer(robot=name, lease=seat.lease))
        self._tell_state(seat)

    def _hand_back(self, number: int, seat: _Seat, epoch: int) -> None:
        if seat.lease is None or seat.holder != number or seat.lease.epoch != epoch:
            return
        self.times.held_s += (self._timeline.clock.now_ns - seat.granted_ns) * 1e-9
        seat.lease, seat.holder = None, -1
        self._command(seat, m.LeaseEnded(epoch=epoch, how="hand_back"), number)
        self._tell_state(seat)

    def _command(self, seat: _Seat, message: m.ToRobot, number: int) -> None:
        """Bring a command to a robot, and its answer to whom it came from when it refused."""

        def arrive() -> None:
            answer = seat.robot.receive(message)
            if answer is not None and not answer.accepted:
                self._tell(number, b.CommandAnswer(robot=seat.robot.name, answer=answer))

        self._timeline.after(self._rates.link_s / 2, arrive)

    def _tell_state(self, seat: _Seat) -> None:
        seat.revision += 1
        state = b.RobotState(
            robot=seat.robot.name,
            revision=seat.revision,
            connection="online",
            simulated=True,
            lease=seat.lease,
            t_wall_ns=self._timeline.clock.wall_ns(),
        )
        for number in range(len(self._desks)):
            self._tell(number, state)
