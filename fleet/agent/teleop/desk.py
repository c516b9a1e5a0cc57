"""What one scripted operator does with what its socket tells it: pure, with the time as argument.

A desk watches every robot, helps the most urgent one, drives one at a time, and never touches an
episode held out for evaluation. It is a privileged operator (`gate.py`): it reads the simulator's
state. It sees no video, so every command says `frame_age_ms=0`.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fleet.agent.teleop.gate import Gate, GateConfig
from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.protocol.control import Mode

logger = logging.getLogger(__name__)

# Anything that maps a task's name and the privileged state to an action, float32 (a,).
Expert = Callable[[str, tuple[float, ...]], np.ndarray]

# An unanswered request for a lease is given up after this.
ANSWER_TIMEOUT_S = 2.0
# After a refusal or a takeover a robot is left alone this long: the policy acts, the gate refills.
RETRY_S = 0.5
# A driven robot that sends nothing for this long is handed back: there is nothing to act on.
SILENCE_S = 1.5
# State sent before the lease was granted may still arrive after the answer.
GRANT_GRACE_S = 1.0
# A holding robot whose holder vanished is left to people this long before the desk helps.
HOLD_PATIENCE_S = 10.0
# What a robot says when it holds because its holder vanished. A hold that a person asked for, a
# release after a stop, and a fault are left to people, however long they take.
ABANDONED = ("lost the lease", "the link to the server was lost", "restarted while a person had")
# A robot that refuses this many commands in a row is not ours to drive.
MOST_REFUSALS = 10


@dataclass(slots=True)
class Watched:
    """One robot as the desk knows it."""

    gate: Gate
    state: b.RobotState | None = None
    telemetry: m.Telemetry | None = None
    heard_s: float = 0.0
    # Not asked for before this time.
    retry_s: float = 0.0
    # When it was first seen holding with nobody there; None while it is not.
    abandoned_s: float | None = None


@dataclass(slots=True)
class Turn:
    """A takeover of this desk, from the request on; `epoch` is None until it is granted."""

    robot: str
    asked_s: float
    epoch: int | None = None
    granted_s: float = 0.0
    seq: int = 0
    refused: int = 0
    refused_in_row: int = 0


@dataclass(slots=True)
class Counts:
    """What a desk has done, for logs and experiments."""

    takeovers: int = 0
    refused_requests: int = 0
    lost_leases: int = 0
    sent_commands: int = 0
    refused_commands: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def refusal(self, reason: str) -> None:
        """Count a refusal under its reason."""
        self.reasons[reason] = self.reasons.get(reason, 0) + 1


def _abandoned(heartbeat: m.Heartbeat | None) -> bool:
    """Say whether a robot holds because whoever drove it went away."""
    if heartbeat is None or heartbeat.mode is not Mode.HOLDING:
        return False
    return any(words in heartbeat.reason for words in ABANDONED)


class Desk:
    """One scripted operator's mind: messages in, messages out."""

    def __init__(self, expert: Expert, config: GateConfig | None = None) -> None:
        self.counts = Counts()
        self.paused = False
        self._expert = expert
        self._config = config or GateConfig()
        self._robots: dict[str, Watched] = {}
        self._turn: Turn | None = None

    @property
    def driving(self) -> str | None:
        """The robot whose lease this desk holds, or None."""
        return self._turn.robot if self._turn and self._turn.epoch is not None else None

    def disconnected(self) -> None:
        """Forget what was known: the next snapshot starts over, and a held lease runs out."""
        self._robots.clear()
        self._turn = None

    def receive(self, message: b.ToBrowser, now_s: float) -> list[b.FromBrowser]:
        """Take one message in and return what to send."""
        match message:
            case b.Snapshot():
                known = {state.robot for state in message.robots}
                for robot in self._robots.keys() - known:
                    del self._robots[robot]
                return [reply for state in message.robots for reply in self._state(state, now_s)]
            case b.RobotState():
                return self._state(message, now_s)
            case b.FleetState():
                self.paused = message.scripted_paused
            case b.RobotTelemetry():
                return self._telemetry(message.robot, message.telemetry, now_s)
            case b.TakeoverAnswer():
                return self._answer(message, now_s)
            case b.CommandAnswer():
                return self._command_answer(message.robot, message.answer, now_s)
            case m.Refused():
                self.counts.refusal(message.code)
                logger.warning("refused: %s (%s)", message.code, message.reason)
            case m.Ping():
                return []
        return []

    def poll(self, now_s: float) -> list[b.FromBrowser]:
        """Do what is due without a message: timeouts, the pause, and asking for a robot."""
        turn = self._turn
        if turn is None:
            return [] if self.paused else self._choose(now_s)
        watched = self._watched(turn.robot)
        if turn.epoch is None:
            if now_s - turn.asked_s > ANSWER_TIMEOUT_S:
                self._leave(watched, now_s)
            return []
        if self.paused:
            return self._hand_back(now_s, "paused")
        silent = now_s - max(watched.heard_s, turn.granted_s) > SILENCE_S
        return self._hand_back(now_s, "silence") if silent else []

    def _watched(self, robot: str) -> Watched:
        if robot not in self._robots:
            self._robots[robot] = Watched(Gate(self._config))
        return self._robots[robot]

    # ---- what the server says ------------------------------------------------------------------

    def _state(self, state: b.RobotState, now_s: float) -> list[b.FromBrowser]:
        watched = self._watched(state.robot)
        if watched.state is not None and state.revision < watched.state.revision:
            return []
        watched.state = state
        if state.lease is None and _abandoned(state.heartbeat):
            watched.abandoned_s = now_s if watched.abandoned_s is None else watched.abandoned_s
        else:
            watched.abandoned_s = None
        turn = self._turn
        if turn is None or turn.epoch is None or turn.robot != state.robot:
            return []
        ours = state.lease is not None and state.lease.epoch == turn.epoch
        if not ours and now_s - turn.granted_s > GRANT_GRACE_S:
            self.counts.lost_leases += 1
            logger.warning("%s: lease of epoch %d is gone", turn.robot, turn.epoch)
            self._leave(watched, now_s)
        return []

    def _answer(self, answer: b.TakeoverAnswer, now_s: float) -> list[b.FromBrowser]:
        turn = self._turn
        if turn is None or turn.robot != answer.robot or turn.epoch is not None:
            # Granted after we gave up asking: give it back, or the robot waits for its expiry.
            if answer.lease is not None:
                return [b.HandBack(robot=answer.robot, epoch=answer.lease.epoch)]
            return []
        watched = self._watched(turn.robot)
        if answer.lease is None:
            self.counts.refused_requests += 1
            self.counts.refusal(answer.reason)
            self._leave(watched, now_s)
            return []
        turn.epoch = answer.lease.epoch
        turn.granted_s = now_s
        self.counts.takeovers += 1
        watched.gate.took_over()
        return []

    def _command_answer(
        self, robot: str, answer: m.Acknowledged, now_s: float
    ) -> list[b.FromBrowser]:
        turn = self._turn
        if turn is None or turn.robot != robot or answer.epoch != turn.epoch:
            return []
        if answer.accepted:
            turn.refused_in_row = 0
            return []
        turn.refused += 1
        turn.refused_in_row += 1
        self.counts.refused_commands += 1
        self.counts.refusal(answer.reason)
        refused_lease = answer.command == m.LeaseGranted.__name__
        if refused_lease or turn.refused_in_row >= MOST_REFUSALS:
            return self._hand_back(now_s, answer.reason)
        return []

    # ---- what the robots say -------------------------------------------------------------------

    def _telemetry(self, robot: str, now: m.Telemetry, now_s: float) -> list[b.FromBrowser]:
        watched = self._watched(robot)
        before, watched.telemetry, watched.heard_s = watched.telemetry, now, now_s
        ended = now.episode != watched.gate.episode
        if ended:
            watched.gate.begin(now.episode)
        driving = self.driving == robot
        if driving and (ended or now.purpose == "eval"):
            # A takeover belongs to one episode: the next one starts with the policy.
            return self._hand_back(now_s, "episode ended")
        if not now.privileged or not now.task:
            return []
        if before is not None and before.episode == now.episode and now.tick <= before.tick:
            return []
        expert = self._expert(now.task, now.privileged)
        watched.gate.observe(
            tick=now.tick, expert=expert, policy=now.policy_action, reward=now.reward
        )
        if not driving:
            return []
        if now.mode is Mode.STOPPED:
            return self._hand_back(now_s, "stopped")
        if watched.gate.may_hand_back:
            return self._hand_back(now_s, "policy agrees")
        # Silence is no motion: the robot's dead-man holds it (docs/safety.md).
        return [] if watched.gate.taking_hold else [self._drive(expert)]

    def _drive(self, expert: np.ndarray) -> b.Drive:
        turn = self._turn
        assert turn is not None
        assert turn.epoch is not None
        turn.seq += 1
        self.counts.sent_commands += 1
        return b.Drive(
            robot=turn.robot,
            epoch=turn.epoch,
            seq=turn.seq,
            action=tuple(float(x) for x in expert),
            frame_age_ms=0.0,
        )

    # ---- whom to help --------------------------------------------------------------------------

    def _choose(self, now_s: float) -> list[b.FromBrowser]:
        best, urgency = None, 0.0
        for robot, watched in self._robots.items():
            if now_s >= watched.retry_s and (u := self._urgency(watched, now_s)) > urgency:
                best, urgency = robot, u
        if best is None:
            return []
        watched = self._robots[best]
        if watched.abandoned_s is not None and watched.telemetry is None:
            # It holds between episodes, with nothing to drive: let it start the next one.
            watched.retry_s = now_s + HOLD_PATIENCE_S
            return [b.ResumeRobot(robot=best)]
        self._turn = Turn(best, now_s)
        return [b.TakeOver(robot=best)]

    def _urgency(self, watched: Watched, now_s: float) -> float:
        state = watched.state
        if state is None or state.connection != "online" or state.lease is not None:
            return 0.0
        if watched.abandoned_s is not None:
            waited_s = now_s - watched.abandoned_s
            return 1.0 + waited_s / HOLD_PATIENCE_S if waited_s > HOLD_PATIENCE_S else 0.0
        now = watched.telemetry
        if now is None or now.mode is not Mode.AUTONOMOUS or now.purpose != "train":
            return 0.0
        if now_s - watched.heard_s > SILENCE_S:
            return 0.0
        return watched.gate.urgency

    def _hand_back(self, now_s: float, why: str) -> list[b.FromBrowser]:
        turn = self._turn
        assert turn is not None
        assert turn.epoch is not None
        logger.info(
            "%s: handed back after %.1f s (%s), %d commands, %d refused",
            turn.robot,
            now_s - turn.granted_s,
            why,
            turn.seq,
            turn.refused,
        )
        self._leave(self._watched(turn.robot), now_s)
        return [b.HandBack(robot=turn.robot, epoch=turn.epoch)]

    def _leave(self, watched: Watched, now_s: float) -> None:
        watched.gate.handed_back()
        watched.retry_s = now_s + RETRY_S
        self._turn = None
