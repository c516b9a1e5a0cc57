"""What the control loop is doing: its episode, and values that other threads may read."""

from dataclasses import dataclass

import numpy as np

from fleet.agent.decisions import Decision, View
from fleet.agent.drivers.base import Reading
from fleet.agent.episodes import EpisodePlan
from fleet.protocol import messages as m
from fleet.protocol.control import Controller, Mode

# A plan is shown on every so many ticks: eyes need no more.
PLAN_EVERY = 2
# People who help with an episode have at least as long, whatever the policy's time is.
PERSON_S = 60.0
# What the parts of one episode can hold, with room for ticks that are held.
MAX_EPISODE_TICKS = 150_000


@dataclass(frozen=True, slots=True)
class Situation:
    """What the loop is doing, as a value that other threads may read."""

    episode: str = ""
    task: str = ""
    instruction: str = ""
    purpose: m.Purpose = "train"
    tick: int = 0
    # Seconds until time is up for whoever drives now; None without an episode.
    left_s: float | None = None
    # Why no episode runs; empty while one does.
    waiting: str = ""
    # The pause between two episodes, as opposed to having nothing to do.
    between_episodes: bool = False


@dataclass(slots=True)
class Running:
    """The episode under way."""

    uid: str
    plan: EpisodePlan
    policy_number: int
    # Ticks of the episode that count towards its time, and those of them the policy drove.
    active_ticks: int = 0
    policy_ticks: int = 0
    held_ticks: int = 0
    # Whether a person has the robot.
    driven: bool = False
    ticks: int = 0
    discarded_before: int = 0

    def count(self, decision: Decision) -> None:
        """Count whose tick it is: one that nobody drove takes none of the task's time.

        An operator who holds the robot and thinks, or looks away, drives nothing either.
        """
        self.driven = decision.mode in (Mode.HANDOVER, Mode.TAKEOVER)
        if decision.controller is Controller.HOLD and decision.mode is not Mode.AUTONOMOUS:
            self.held_ticks += 1
            return
        self.held_ticks = 0
        self.active_ticks += 1
        if decision.mode is Mode.AUTONOMOUS:
            self.policy_ticks += 1

    def left_ticks(self, control_hz: float) -> int:
        """Return after how many ticks time is up, if whoever drives now goes on.

        The policy has its task's time. People have a time of their own, as long as that and at
        least `PERSON_S`.
        """
        allowed, used = self.plan.task.timeout_ticks, self.policy_ticks
        if self.driven:
            allowed = max(allowed, int(PERSON_S * control_hz))
            used = self.active_ticks - self.policy_ticks
        return max(0, min(allowed - used, MAX_EPISODE_TICKS - self.active_ticks))

    def situation(self, control_hz: float) -> Situation:
        """Return the episode as other threads may read it."""
        return Situation(
            episode=self.uid,
            task=self.plan.task.name,
            instruction=self.plan.instruction,
            purpose=self.plan.purpose,
            tick=self.ticks,
            left_s=self.left_ticks(control_hz) / control_hz,
        )


PAUSE = Situation(waiting="the scene is put back", between_episodes=True)


@dataclass(frozen=True, slots=True)
class Glimpse:
    """The last images the loop took: uint8 (ih, iw, 3) by camera."""

    images: dict[str, np.ndarray]
    t_mono_ns: int
    t_wall_ns: int


@dataclass(frozen=True, slots=True)
class Moment:
    """One tick as people may watch it; made into a message only while somebody does."""

    seq: int
    t_wall_ns: int
    situation: Situation
    view: View
    reading: Reading
    applied: np.ndarray
    proposal: np.ndarray | None
    doubt: float
    # (h, a): what the policy would do in the next ticks.
    plan: np.ndarray | None = None
    # In [-1, 0]; NaN where there is none.
    value: float = float("nan")

    def telemetry(self, *, privileged: bool) -> m.Telemetry:
        """Return the message; JSON has no NaN, so what was not computed is 0 or empty."""
        proposal = self.proposal
        if proposal is not None and not np.isfinite(proposal).all():
            proposal = None
        return m.Telemetry(
            seq=self.seq,
            t_wall_ns=self.t_wall_ns,
            mode=self.view.mode,
            epoch=self.view.epoch,
            tick=self.situation.tick,
            state=tuple(self.reading.state.tolist()),
            action=tuple(self.applied.tolist()),
            policy_action=() if proposal is None else tuple(proposal.tolist()),
            doubt=float(np.nan_to_num(self.doubt)),
            episode=self.situation.episode,
            task=self.situation.task,
            purpose=self.situation.purpose,
            privileged=self.reading.privileged if privileged else (),
            reward=float(np.nan_to_num(self.reading.reward)),
            plan=self._plan(),
            value=float(self.value) if np.isfinite(self.value) else None,
        )

    def _plan(self) -> tuple[tuple[float, ...], ...]:
        plan = self.plan
        if plan is None or self.seq % PLAN_EVERY or not np.isfinite(plan).all():
            return ()
        # For the eye: the third digit of an action is a hundredth of a millimetre.
        return tuple(tuple(action) for action in plan[: m.MAX_PLAN_TICKS].round(3).tolist())
