"""Whether this robot needs a person, and why: decided on the robot from what its loop knows anyway.

Ticks come from the control loop's thread, what people ask for from the link's; neither waits.
Conditions are judged while the policy acts in a training episode: an evaluation may not be touched,
and a robot that a person holds or stopped has that person. Each has one threshold to ask and a
lower one to let go, and both must hold for a while (LazyDAgger, `fleet/protocol/help.py`).
A person who takes over has helped after MIN_HUMAN_STEPS; one who hands back sooner has not.
"""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fleet.agent.clock import Clock
from fleet.agent.latch import Latch
from fleet.agent.valuedrop import ValueDrop
from fleet.protocol import messages as m
from fleet.protocol.control import Mode
from fleet.protocol.help import MIN_HUMAN_STEPS, RISK_FROM, HelpLimits, HelpReason, uncertainty_of
from fleet.protocol.spec import RobotSpec

# A condition must hold this long to ask, and its opposite as long to let go.
SETTLE_S = 0.5
# LazyDAgger's lower threshold: doubt below this share of tau is none.
LEAVE_DOUBT = 0.5
# A proposal this share of the limits' range outside them is no rounding: something is wrong.
EXCESS = 0.25
_DRIVEN = (Mode.HANDOVER, Mode.TAKEOVER)
# Reasons that are about the running episode and end with it.
_OF_EPISODE = (
    HelpReason.LIMIT,
    HelpReason.DOUBT,
    HelpReason.VALUE_DROP,
    HelpReason.NO_PROGRESS,
)


@dataclass(frozen=True, slots=True)
class Standing:
    """Who has the robot. `fault` and `abandoned` say why it holds, `why` the same in words."""

    mode: Mode
    fault: bool = False
    abandoned: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Glance:
    """One tick. `state` is (s,), `proposal` (a,) or None; NaN says that there is no such number."""

    standing: Standing
    episode: str
    task: str
    purpose: m.Purpose
    state: np.ndarray
    proposal: np.ndarray | None
    doubt: float
    # In [-1, 0], of a value function that ranks well enough to ask by.
    value: float = math.nan
    # Outcome of the episode that ended last: s success, f failure, t timeout, a abort; or empty.
    last_outcome: str = ""
    # A person at the robot presses its button.
    pressed: bool = False


class HelpWatch:
    """What help one robot needs; `on_change` hears every change, from whichever thread made it."""

    def __init__(
        self,
        spec: RobotSpec,
        clock: Clock,
        *,
        on_change: Callable[[m.HelpNeed], None] = lambda need: None,
    ) -> None:
        self.limits = HelpLimits()
        self.need = m.HelpNeed(number=0)
        self._clock = clock
        self._on_change = on_change
        self._lock = threading.Lock()
        self._hz = spec.control_hz
        low, high = np.asarray(spec.action_low), np.asarray(spec.action_high)
        margin = EXCESS * (high - low)
        self._lowest, self._highest = low - margin, high + margin
        settle_ticks = max(1, round(SETTLE_S * spec.control_hz))
        self._doubtful, self._outside = Latch(settle_ticks), Latch(settle_ticks)
        self._falling = ValueDrop(settle_ticks)
        # Reasons in force with their words, in the order in which they came.
        self._reasons: dict[HelpReason, str] = {}
        self._standing = Standing(Mode.HOLDING)
        self._episode, self._task, self._purpose = "", "", "train"
        self._failures: dict[str, int] = {}
        self._human_steps = 0
        self._pressed = False
        # Where the state was when it last moved, and for how many ticks it has not since.
        self._anchor: np.ndarray | None = None
        self._still_ticks = 0
        self._uncertainty = self._risk = 0.0

    # ---- what is heard -----------------------------------------------------------------------

    def observe(self, glance: Glance) -> None:
        """Take one tick of the control loop."""
        with self._lock:
            if glance.episode != self._episode:
                self._episode_over(glance)
            ended = self._stand(glance.standing)
            if glance.pressed and not self._pressed:
                self._reasons[HelpReason.EXPLICIT] = "asked for at the robot"
            self._pressed = glance.pressed
            if glance.episode and glance.purpose == "train":
                self._judge(glance)
            self._settle(ended)

    def stand(self, standing: Standing) -> m.HelpNeed:
        """Take who has the robot, also while its loop has nothing to tick for; return the need."""
        with self._lock:
            self._settle(self._stand(standing))
            return self.need

    def ask(self, message: m.AskForHelp) -> None:
        """Ask because a person does, or ask no more for what a person asked for."""
        with self._lock:
            if message.wanted:
                words = f"{message.by} asks" + (f": {message.reason}" if message.reason else "")
                self._reasons.pop(HelpReason.EXPLICIT, None)
                self._reasons[HelpReason.EXPLICIT] = words
            else:
                self._reasons.pop(HelpReason.EXPLICIT, None)
            self._settle("recovered", renewed=message.wanted)

    # ---- what it means -----------------------------------------------------------------------

    def _stand(self, now: Standing) -> m.HelpEnd:
        """Take a change of who has the robot; return how a need that is gone now ended."""
        before, self._standing = self._standing, now
        driven = before.mode in _DRIVEN
        if now.mode in _DRIVEN and not driven:
            self._human_steps = 0
        helped = self._human_steps >= MIN_HUMAN_STEPS
        if now.mode is Mode.STOPPED:
            self._forget()
            return "over"
        if driven and now.mode is Mode.AUTONOMOUS:
            self._human_steps = 0
            if helped:
                self._failures.pop(self._task, None)
                self._forget()
                return "helped"
        if now.abandoned:
            self._reasons.setdefault(HelpReason.OPERATOR_LEFT, now.why or "the operator left")
        else:
            self._reasons.pop(HelpReason.OPERATOR_LEFT, None)
        if now.fault:
            self._reasons.setdefault(HelpReason.LIMIT, now.why or "the robot failed")
        elif before.fault:
            self._reasons.pop(HelpReason.LIMIT, None)
        return "helped" if helped else "recovered"

    def _episode_over(self, glance: Glance) -> None:
        """Count the outcome of the episode before; what was about it is over."""
        helped = self._human_steps >= MIN_HUMAN_STEPS
        if self._episode and self._purpose == "train":
            if glance.last_outcome == "s" or helped:
                self._failures.pop(self._task, None)
                self._reasons.pop(HelpReason.REPEATED_FAILURE, None)
            elif glance.last_outcome in ("f", "t"):
                self._failures[self._task] = self._failures.get(self._task, 0) + 1
            in_row = self._failures.get(self._task, 0)
            if 0 < self.limits.failures <= in_row:
                self._reasons[HelpReason.REPEATED_FAILURE] = f"{in_row} failures in a row"
        self._episode, self._task, self._purpose = glance.episode, glance.task, glance.purpose
        gone = [
            reason
            for reason in _OF_EPISODE
            # A fault outlives the episode: the robot holds.
            if reason in self._reasons
            and not (reason is HelpReason.LIMIT and glance.standing.fault)
        ]
        for reason in gone:
            del self._reasons[reason]
        self._restart()
        if gone:
            self._settle("helped" if helped else "over")

    def _judge(self, glance: Glance) -> None:
        mode = glance.standing.mode
        acting = mode is Mode.AUTONOMOUS
        if mode in _DRIVEN:
            self._human_steps += 1
            if self._human_steps < MIN_HUMAN_STEPS:
                return
        elif not acting:
            return
        self._judge_doubt(glance.doubt, acting)
        self._judge_value(glance.value, acting)
        self._judge_limits(glance.proposal, acting)
        self._judge_progress(glance.state, acting)

    def _judge_doubt(self, doubt: float, acting: bool) -> None:
        tau = self.limits.doubt
        if tau is None:
            self._doubtful.clear()
            self._reasons.pop(HelpReason.DOUBT, None)
            return
        if not math.isfinite(doubt):
            return
        if acting:
            self._uncertainty = max(self._uncertainty, uncertainty_of(doubt, tau))
        was = self._doubtful.on
        on = self._doubtful.step(on=acting and doubt > tau, off=doubt < LEAVE_DOUBT * tau)
        if on and not was:
            self._reasons[HelpReason.DOUBT] = f"doubt {doubt:.3g} > τ {tau:.3g}"
        elif was and not on:
            self._reasons.pop(HelpReason.DOUBT, None)

    def _judge_value(self, value: float, acting: bool) -> None:
        drop, falling = self.limits.value_drop, self._falling
        if drop is None:
            falling.clear()
            self._reasons.pop(HelpReason.VALUE_DROP, None)
            return
        if not math.isfinite(value):
            return
        was = falling.on
        on = falling.step(value, drop=drop, acting=acting)
        if acting:
            self._risk = max(self._risk, RISK_FROM * falling.fall / drop)
        if on and not was:
            words = f"value fell by {falling.fall:.2f} to {value:.2f}"
            self._reasons[HelpReason.VALUE_DROP] = words
        elif was and not on:
            self._reasons.pop(HelpReason.VALUE_DROP, None)

    def _judge_limits(self, proposal: np.ndarray | None, acting: bool) -> None:
        if proposal is None:
            return
        inside = bool(((proposal >= self._lowest) & (proposal <= self._highest)).all())
        was = self._outside.on
        on = self._outside.step(on=acting and not inside, off=inside)
        if on and not was:
            self._reasons[HelpReason.LIMIT] = "actions far outside the limits"
        elif was and not on:
            self._reasons.pop(HelpReason.LIMIT, None)

    def _judge_progress(self, state: np.ndarray, acting: bool) -> None:
        limits, stuck = self.limits, HelpReason.NO_PROGRESS in self._reasons
        # To let go it must move twice as far as what counts as still.
        reach = limits.still_range * (2 if stuck else 1)
        if self._anchor is None or float(np.abs(state - self._anchor).max()) > reach:
            self._anchor, self._still_ticks = state, 0
            self._reasons.pop(HelpReason.NO_PROGRESS, None)
            return
        if not acting or limits.still_s == 0:
            return
        self._still_ticks += 1
        still = self._still_ticks / (limits.still_s * self._hz)
        self._risk = max(self._risk, RISK_FROM * still)
        if still >= 1 and not stuck:
            self._reasons[HelpReason.NO_PROGRESS] = f"no progress for {limits.still_s:g} s"

    # ---- what is said ------------------------------------------------------------------------

    def _settle(self, ended: m.HelpEnd, *, renewed: bool = False) -> None:
        """Say what changed: the reasons, or how much it matters."""
        before, reasons = self.need, tuple(reason.value for reason in self._reasons)
        if not reasons:
            if before.reasons:
                self._say(
                    m.HelpNeed(
                        number=before.number, since_wall_ns=before.since_wall_ns, ended=ended
                    )
                )
            return
        if HelpReason.REPEATED_FAILURE in self._reasons and self.limits.failures:
            in_row = self._failures.get(self._task, self.limits.failures)
            self._risk = max(self._risk, RISK_FROM * in_row / self.limits.failures)
        if HelpReason.EXPLICIT in self._reasons:
            self._risk = 1.0
        now_ns = self._clock.wall_ns()
        # A new reason is a new need also where somebody skipped the old one.
        new = renewed or not set(reasons) <= set(before.reasons)
        need = m.HelpNeed(
            number=max(before.number + 1, now_ns // 1000) if new else before.number,
            reasons=reasons,
            constraint=HelpReason.LIMIT in self._reasons,
            uncertainty=_tenths(self._uncertainty),
            risk=_tenths(self._risk),
            detail=" · ".join(self._reasons.values())[:500],
            since_wall_ns=before.since_wall_ns if before.reasons else now_ns,
        )
        if need != before:
            self._say(need)

    def _say(self, need: m.HelpNeed) -> None:
        self.need = need
        self._on_change(need)

    def _forget(self) -> None:
        self._reasons.clear()
        self._human_steps = 0
        self._restart()

    def _restart(self) -> None:
        """Give the policy a full window before it is judged again."""
        self._doubtful.clear()
        self._outside.clear()
        self._falling.clear()
        self._anchor, self._still_ticks = None, 0
        if not self._reasons:
            self._uncertainty = self._risk = 0.0


def _tenths(share: float) -> float:
    """Round down to tenths, so that the order on screen stands still and equals are equal."""
    return math.floor(min(1.0, share) * 10 + 1e-6) / 10
