"""What the control loop is doing: its episode, and values that other threads may read."""

from dataclasses import dataclass

import numpy as np

from fleet.agent.decisions import View
from fleet.agent.drivers.base import Reading
from fleet.agent.episodes import EpisodePlan
from fleet.protocol import messages as m


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
    ticks: int = 0
    discarded_before: int = 0


@dataclass(frozen=True, slots=True)
class Situation:
    """What the loop is doing, as a value that other threads may read."""

    episode: str = ""
    task: str = ""
    instruction: str = ""
    purpose: m.Purpose = "train"
    tick: int = 0
    # Why no episode runs; empty while one does.
    waiting: str = ""
    # The pause between two episodes, as opposed to having nothing to do.
    between_episodes: bool = False


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
        )
