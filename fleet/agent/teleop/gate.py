"""When a scripted operator takes over and when it hands back: one `Gate` for each robot it watches.

The gate compares what an expert would do with what the policy proposes, and follows the task's
dense reward. Both are privileged: a person has neither, so whoever uses this gate is called a
privileged operator, and no figure obtained with it stands for human effort.

The human gates in HG-DAgger (arXiv:1810.02890): takes over when the state is judged unsafe, hands
back when it is safe again. This is that judgement as a rule (docs/learners.md has its reasons).
No I/O and no clock in here: time is counted in the robot's ticks.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """The thresholds of a gate; actions in the action's own unit, times in control ticks."""

    # Mean |expert - policy| per action component above which the policy is about to go wrong.
    disagreement: float = 0.30
    # Ticks that mean is taken over: shorter and one odd action chunk interrupts.
    window_ticks: int = 6
    # No progress for this long is a robot that is stuck.
    stall_ticks: int = 30
    # A rise of the dense reward (0 to 10 in MetaWorld) that counts as progress within that time.
    progress: float = 0.03
    # A person needs this long from seeing to acting: 0.2 s at 20 Hz.
    reaction_ticks: int = 4
    # The operator takes hold before moving: what is learned from then begins in the state that the
    # policy could not leave. Shorter than the handover, whose steps no learner imitates, by the
    # ticks a command takes to arrive: a motionless step after it would be imitated.
    hold_ticks: int = 4
    # Shorter takeovers leave the robot where it was about to fail.
    min_takeover_ticks: int = 40
    # Waiting this long weighs as much as disagreeing by the threshold.
    patience_ticks: int = 40


def largest_rise(values: Sequence[float]) -> float:
    """Return the largest increase from an earlier to a later value; 0 when there is none."""
    lowest, rise = float("inf"), 0.0
    for value in values:
        lowest = min(lowest, value)
        rise = max(rise, value - lowest)
    return rise


class Gate:
    """What a privileged operator has seen of one robot's running episode, and what it concludes."""

    def __init__(self, config: GateConfig | None = None) -> None:
        self.config = config or GateConfig()
        self.episode = ""
        self._tick = -1
        self._gaps: deque[float] = deque(maxlen=self.config.window_ticks)
        self._rewards: deque[float] = deque(maxlen=self.config.stall_ticks)
        self._waited = 0
        self._driven = 0
        self._driving = False

    @property
    def disagreement(self) -> float:
        """Mean |expert - policy| over the window; 0 until the window is full."""
        full = len(self._gaps) == self.config.window_ticks
        return sum(self._gaps) / len(self._gaps) if full else 0.0

    @property
    def stalled(self) -> bool:
        """True when a full stall window went by without progress."""
        full = len(self._rewards) == self.config.stall_ticks
        return full and largest_rise(self._rewards) < self.config.progress

    @property
    def needs_help(self) -> bool:
        """True when the operator, after its reaction time, would take over."""
        return not self._driving and self._waited > self.config.reaction_ticks

    @property
    def urgency(self) -> float:
        """How much sooner than others this robot is to be helped; 0 when it needs no help."""
        if not self.needs_help:
            return 0.0
        waited = self._waited / self.config.patience_ticks
        return self.disagreement / self.config.disagreement + waited

    @property
    def taking_hold(self) -> bool:
        """True while the operator has the robot and does not move it yet."""
        return self._driving and self._driven < self.config.hold_ticks

    @property
    def may_hand_back(self) -> bool:
        """True when the operator has driven long enough, made progress, and the policy agrees."""
        return (
            self._driving
            and self._driven >= self.config.min_takeover_ticks
            and len(self._gaps) == self.config.window_ticks
            and self.disagreement < self.config.disagreement
            and largest_rise(self._rewards) >= self.config.progress
        )

    def begin(self, episode: str) -> None:
        """Forget everything: another episode runs."""
        self.episode = episode
        self._tick = -1
        self._clear(driving=False)

    def took_over(self) -> None:
        """The operator drives from here: what came before says nothing about its progress."""
        self._clear(driving=True)

    def handed_back(self) -> None:
        """The policy acts from here, and gets a full window before it is judged again."""
        self._clear(driving=False)

    def _clear(self, *, driving: bool) -> None:
        self._gaps.clear()
        self._rewards.clear()
        self._waited = 0
        self._driven = 0
        self._driving = driving

    def observe(
        self,
        *,
        tick: int,
        expert: np.ndarray,
        policy: Sequence[float],
        reward: float,
    ) -> None:
        """Add one tick of the running episode.

        Args:
            tick: Index in the episode. A repeated or older tick is ignored, so that telemetry
                that arrives twice counts once.
            expert: The expert's action, (a,), inside the limits.
            policy: The policy's proposal, (a,); empty when nothing was proposed, which is neither
                agreement nor disagreement.
            reward: The environment's dense reward.
        """
        if tick <= self._tick:
            return
        passed = tick - self._tick if self._tick >= 0 else 1
        self._tick = tick
        self._rewards.append(reward)
        if len(policy) == len(expert):
            self._gaps.append(float(np.mean(np.abs(expert - np.asarray(policy)))))
        if self._driving:
            self._driven += passed
        elif self.disagreement > self.config.disagreement or self.stalled:
            self._waited += passed
        else:
            self._waited = 0
