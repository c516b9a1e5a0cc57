"""Who moves the robot at this tick: policy, operator, or nobody (docs/safety.md).

Runs the table of `fleet/protocol/control.py`. Commands are judged the moment they arrive
(`handle`, called from the link's thread) and act at the next tick (`begin_tick`, `decide`, called
from the control loop), so an answer never waits for a period. Nothing here blocks: the lock is
held for microseconds, and what must survive a restart is handed to `on_change`.
"""

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fleet.agent.clock import Clock
from fleet.agent.decisions import Decision, Remembered, View
from fleet.protocol import control
from fleet.protocol import messages as m
from fleet.protocol.control import ControlLabel, Controller, Event, Mode
from fleet.protocol.spec import RobotSpec

# Stops that were released; a repeat of one that was under way does not latch again.
_RELEASED_STOPS_KEPT = 20
# Commands of a lease whose time under way is remembered: about a second of them, so that a way that
# has become longer is the usual one soon.
_TOOK_KEPT = 20


@dataclass(frozen=True, slots=True)
class _Command:
    action: np.ndarray
    arrived_ns: int
    age_on_arrival_ms: float
    # How much longer it was under way than the quickest of the last ones.
    late_ns: int


class Arbiter:
    """The one place that decides who controls a robot."""

    def __init__(
        self,
        spec: RobotSpec,
        clock: Clock,
        *,
        remembered: Remembered | None = None,
        on_change: Callable[[Remembered], None] = lambda remembered: None,
    ) -> None:
        self._spec = spec
        self._clock = clock
        self._on_change = on_change
        self._lock = threading.RLock()
        r = remembered or Remembered()
        self._seen_epoch, self._ended_epoch = r.epoch, max(r.ended_epoch, r.epoch)
        self._stop_id, self._released = r.stop_id, r.released_stops
        # A restart never wakes a robot that a person had stopped, held or driven.
        self._held_by = r.held_by
        if r.mode is Mode.STOPPED:
            self.mode, self.reason = Mode.STOPPED, r.reason
        elif r.mode is Mode.AUTONOMOUS:
            self.mode, self.reason = Mode.AUTONOMOUS, ""
        else:
            self.mode = Mode.HOLDING
            self.reason = r.reason or "the agent restarted while a person had the robot"
            if r.mode is not Mode.HOLDING:
                self._held_by = Event.LEASE_LOST
        self.holder: control.Lease | None = None
        self.policy_turn = 0
        self.discarded_commands = 0
        self._seq = -1
        self._command: _Command | None = None
        # Of the last commands: the robot's clock on arrival minus the sender's, milliseconds.
        self._took_ms: deque[float] = deque(maxlen=_TOOK_KEPT)
        self._granted_ns = 0
        self._handed_back_ns: int | None = None
        self._heard_ns = clock.monotonic_ns()
        self._bad_ticks = 0
        self._episode, self._purpose = "", "train"
        self._outcome: tuple[m.Outcome, str] | None = None
        # A command may be as old as the tick nearest to the dead-man time.
        half_period_ns = 0.5e9 / spec.control_hz
        self._fresh_ns = int(control.DEAD_MAN_S * 1e9 - half_period_ns)

    # ---- what others may ask ---------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The highest lease epoch seen."""
        return self._seen_epoch

    @property
    def driven(self) -> bool:
        """Whether a person has the robot."""
        return self.mode in (Mode.HANDOVER, Mode.TAKEOVER)

    @property
    def held_by(self) -> Event | None:
        """What made it hold; None while it does not, or where that is not known."""
        return self._held_by if self.mode is Mode.HOLDING else None

    def heard(self) -> None:
        """Note that the server is there: while it is, it decides when a lease ends."""
        self._heard_ns = self._clock.monotonic_ns()

    def saw_epoch(self, epoch: int) -> None:
        """Raise the fence to the highest epoch the server granted."""
        with self._lock:
            if epoch > self._seen_epoch:
                self._seen_epoch = epoch
                self._remember()

    def begin_episode(self, uid: str, purpose: m.Purpose) -> bool:
        """Say that an episode starts. False when it may not: nobody may drive in an evaluation."""
        with self._lock:
            if purpose == "eval" and self.driven:
                return False
            self._episode, self._purpose, self._outcome = uid, purpose, None
            self._bad_ticks = 0
            return True

    def end_episode(self) -> None:
        """Say that no episode runs."""
        with self._lock:
            self._episode, self._purpose, self._outcome = "", "train", None

    def take_outcome(self) -> tuple[m.Outcome, str] | None:
        """Return what a person judged the running episode, once."""
        with self._lock:
            outcome, self._outcome = self._outcome, None
            return outcome

    def fail(self, reason: str) -> None:
        """Hold because something on the robot failed."""
        with self._lock:
            self._step(Event.FAULT, reason)

    # ---- commands --------------------------------------------------------------------------

    def handle(self, message: m.ToRobot, *, clock_offset_ns: int = 0) -> m.Acknowledged | None:
        """Judge a command on arrival and answer it; None for what is no command.

        Args:
            message: What the server sent.
            clock_offset_ns: Server wall clock minus robot wall clock.
        """
        with self._lock:
            self.heard()
            match message:
                case m.Teleop():
                    refusal = self._teleop(message, clock_offset_ns)
                    self.discarded_commands += refusal is not None
                case m.Probe():
                    refusal = None
                case m.LeaseGranted():
                    refusal = self._lease_granted(message.lease)
                case m.LeaseEnded():
                    refusal = self._lease_ended(message)
                case m.Hold():
                    refusal = self._hold(message)
                case m.Resume():
                    refusal = self._resume(message)
                case m.Stop():
                    refusal = self._stop(message)
                case m.Release():
                    refusal = self._release(message)
                case m.MarkOutcome():
                    refusal = self._mark_outcome(message)
                case _:
                    return None
            lease = getattr(message, "lease", None)
            return m.Acknowledged(
                seq=getattr(message, "seq", 0),
                epoch=lease.epoch if lease else getattr(message, "epoch", 0),
                command=type(message).__name__,
                accepted=refusal is None,
                reason=refusal or "",
                mode=self.mode,
                stop_id=getattr(message, "stop_id", ""),
                t_client_ms=getattr(message, "t_client_ms", 0.0),
                t_wall_ns=self._clock.wall_ns(),
            )

    def _teleop(self, command: m.Teleop, clock_offset_ns: int) -> str | None:
        if control.fences(self._seen_epoch, command.epoch):
            return f"epoch {command.epoch} is over; the robot has seen {self._seen_epoch}"
        if not self.driven or self.holder is None:
            return f"nobody holds the robot; it is {self.mode}"
        if command.epoch != self.holder.epoch:
            return f"epoch {command.epoch} holds no lease here"
        if command.seq <= self._seq:
            return f"seq {command.seq} is not after {self._seq}"
        if len(command.action) != len(self._spec.action_names):
            return f"the action has {len(command.action)} components"
        action = np.asarray(command.action, np.float32)
        if not np.isfinite(action).all():
            return "the action is not finite"
        now_ns = self._clock.monotonic_ns()
        age_ns = self._clock.wall_ns() + clock_offset_ns - command.t_wall_ns
        if age_ns > control.COMMAND_TTL_S * 1e9:
            return f"the command is {age_ns / 1e6:.0f} ms old"
        late_ns = self._late_ns(command, now_ns)
        if late_ns > self._fresh_ns:
            return f"the command was {late_ns / 1e6:.0f} ms longer under way than others"
        self._seq = command.seq
        self._command = _Command(action, now_ns, max(0.0, age_ns / 1e6), late_ns)
        return None

    def _late_ns(self, command: m.Teleop, now_ns: int) -> int:
        """Return how much longer `command` was under way than the quickest of the last ones.

        By the clock of whoever drives, or where that is not sent by the server's; neither need
        agree with the robot's.
        """
        sent_ms = command.t_client_ms or command.t_wall_ns / 1e6
        took_ms = now_ns / 1e6 - sent_ms
        if not math.isfinite(took_ms):
            return 0
        self._took_ms.append(took_ms)
        return int((took_ms - min(self._took_ms)) * 1e6)

    def _lease_granted(self, lease: control.Lease) -> str | None:
        if lease.epoch <= self._ended_epoch or control.fences(self._seen_epoch, lease.epoch):
            return f"epoch {lease.epoch} is over"
        if self.driven and self.holder is not None and lease.epoch == self.holder.epoch:
            self.holder = lease  # a renewal
            return None
        if self.driven:
            # The end of the lease before this one was lost on the way.
            self._end_lease(Event.LEASE_LOST, "another operator took over")
        self._seen_epoch = lease.epoch
        refusal = None
        if self._purpose == "eval" and self.mode is not Mode.STOPPED:
            refusal = "this is an evaluation episode: no takeover; stop works at any time"
        elif control.next_mode(self.mode, Event.LEASE_GRANTED) is None:
            refusal = f"the robot is {self.mode}: {self.reason}"
        if refusal is not None:
            self._ended_epoch = lease.epoch
            self._remember()
            return refusal
        self.holder, self._seq, self._command = lease, -1, None
        self._took_ms.clear()
        self._granted_ns = self._clock.monotonic_ns()
        self._step(Event.LEASE_GRANTED, "")
        return None

    def _lease_ended(self, message: m.LeaseEnded) -> str | None:
        if self.holder is None or message.epoch != self.holder.epoch:
            if message.epoch > self._seen_epoch:
                self._seen_epoch = self._ended_epoch = message.epoch
                self._remember()
            return f"epoch {message.epoch} holds no lease here"
        if message.how == "hand_back":
            self._end_lease(Event.HAND_BACK, "")
        else:
            self._end_lease(Event.LEASE_LOST, f"{self.holder.holder} lost the lease")
        return None

    def _hold(self, message: m.Hold) -> str | None:
        if self.mode is Mode.HOLDING:
            return None
        return self._step(Event.HOLD, message.reason or "a person asked the robot to hold")

    def _resume(self, message: m.Resume) -> str | None:
        if message.epoch and control.fences(self._seen_epoch, message.epoch):
            return f"epoch {message.epoch} is over; the robot has seen {self._seen_epoch}"
        return self._step(Event.RESUME, "")

    def _stop(self, message: m.Stop) -> str | None:
        if message.stop_id and message.stop_id in self._released:
            return None
        if self.holder is not None:
            self._ended_epoch, self.holder = self.holder.epoch, None
        if self.mode is not Mode.STOPPED:
            self._stop_id = message.stop_id
        elif message.stop_id != self._stop_id:
            # A second person's stop: releasing must not be undone by repeats of the first one.
            self._released = (*self._released, self._stop_id)[-_RELEASED_STOPS_KEPT:]
            self._stop_id = message.stop_id
        return self._step(Event.STOP, f"stopped by {message.by}")

    def _release(self, message: m.Release) -> str | None:
        refusal = self._step(Event.RELEASE, f"released by {message.by or 'a person'}; not resumed")
        if refusal is None and self._stop_id:
            self._released = (*self._released, self._stop_id)[-_RELEASED_STOPS_KEPT:]
            self._stop_id = ""
            self._remember()
        return refusal

    def _mark_outcome(self, message: m.MarkOutcome) -> str | None:
        if not self._episode:
            return "no episode is running"
        if message.episode and message.episode != self._episode:
            return "that episode is over"
        self._outcome = (message.outcome, message.judge)
        return None

    # ---- the table -------------------------------------------------------------------------

    def _step(self, event: Event, reason: str) -> str | None:
        """Take one transition, or return why it cannot happen."""
        mode = control.next_mode(self.mode, event)
        if mode is None:
            return f"{event} cannot happen while the robot is {self.mode}"
        if mode is Mode.AUTONOMOUS and self.mode is not Mode.AUTONOMOUS:
            self.policy_turn += 1
            self._bad_ticks = 0
            # Any return to the policy is a hand-back: its first action may be far from the last.
            self._handed_back_ns = self._clock.monotonic_ns()
        self.mode, self.reason, self._held_by = mode, reason, event
        if event is not Event.HANDOVER_ELAPSED:
            self._remember()
        return None

    def _end_lease(self, event: Event, reason: str) -> None:
        if self.holder is not None:
            self._ended_epoch = max(self._ended_epoch, self.holder.epoch)
        self.holder, self._command = None, None
        self._step(event, reason)

    @property
    def remembered(self) -> Remembered:
        """What a restart must know."""
        return Remembered(
            epoch=self._seen_epoch,
            ended_epoch=self._ended_epoch,
            mode=self.mode,
            reason=self.reason,
            stop_id=self._stop_id,
            released_stops=self._released,
            held_by=self.held_by,
        )

    def _remember(self) -> None:
        self._on_change(self.remembered)

    # ---- the control loop ------------------------------------------------------------------

    def begin_tick(self) -> View:
        """Let timers act, and say who is in control before anything slow happens."""
        with self._lock:
            now_ns = self._clock.monotonic_ns()
            if self.driven and now_ns - self._heard_ns > control.LEASE_TTL_S * 1e9:
                self._end_lease(Event.LEASE_LOST, "the link to the server was lost")
            if self.mode is Mode.HANDOVER and now_ns - self._granted_ns >= control.HANDOVER_S * 1e9:
                self._step(Event.HANDOVER_ELAPSED, "")
            return View(self.mode, self.holder.epoch if self.holder else 0, self.policy_turn)

    def decide(self, view: View, proposal: np.ndarray | None) -> Decision:
        """Choose this tick's action.

        Args:
            view: Of this tick's `begin_tick`; a proposal made for an older situation never acts.
            proposal: (a,) from the policy, or None when it proposed nothing.
        """
        with self._lock:
            now_ns = self._clock.monotonic_ns()
            epoch = self.holder.epoch if self.holder else 0
            if self.driven:
                return self._operator_decision(now_ns, epoch)
            if self.mode is not Mode.AUTONOMOUS:
                return Decision(None, Controller.HOLD, ControlLabel.NONE, self.mode, epoch)
            if view.mode is not Mode.AUTONOMOUS or view.policy_turn != self.policy_turn:
                proposal = None
            elif proposal is not None and not np.isfinite(proposal).all():
                return self._bad_tick(epoch)
            elif proposal is not None:
                self._bad_ticks = 0
            if proposal is None:
                return Decision(None, Controller.HOLD, ControlLabel.NONE, self.mode, epoch)
            return Decision(
                proposal,
                Controller.POLICY,
                ControlLabel.POLICY,
                self.mode,
                slew=self._slewing(now_ns),
            )

    def _bad_tick(self, epoch: int) -> Decision:
        self._bad_ticks += 1
        fault = self._bad_ticks >= control.FAULT_TICKS
        if fault:
            self._step(Event.FAULT, "the policy's actions were not finite")
        return Decision(None, Controller.HOLD, ControlLabel.NONE, self.mode, epoch, fault=fault)

    def _slewing(self, now_ns: int) -> bool:
        if self._handed_back_ns is None:
            return False
        if now_ns - self._handed_back_ns < control.HAND_BACK_SLEW_S * 1e9:
            return True
        self._handed_back_ns = None
        return False

    def _operator_decision(self, now_ns: int, epoch: int) -> Decision:
        handover = self.mode is Mode.HANDOVER
        command = self._command
        if command is None or now_ns - command.arrived_ns + command.late_ns > self._fresh_ns:
            label = ControlLabel.TRANSITION if handover else ControlLabel.NONE
            return Decision(
                None, Controller.HOLD, label, self.mode, epoch, dead_man=command is not None
            )
        return Decision(
            command.action,
            Controller.OPERATOR,
            ControlLabel.TRANSITION if handover else ControlLabel.HUMAN,
            self.mode,
            epoch,
            operator_action=command.action,
            command_age_ms=command.age_on_arrival_ms + (now_ns - command.arrived_ns) / 1e6,
        )
