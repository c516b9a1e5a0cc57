"""RECAP inside SOP's loop: learn from everything robots did, told which steps made things better.

Amin et al. 2025, pi*0.6 (arXiv 2511.14759), its loop beside where each line lives here:

    V ← fit to returns of judged episodes         `core.value_training`: offline, then frozen
    for each iteration:
        collect episodes; people judge and correct    fleet, `services.labels`
        A_t ← n-step advantage with V             `core.advantages`, kept in sidecars
        I_t ← [A_t > ε_task], or forced           demonstrations, and steps under human control
        π ← maximise Σ log π(a|o, I)              `update`: every step, its indicator told as words
                                                  ("Advantage: positive"), left out 30 % of the time
    act with v_unc + β (v_cond − v_unc)           `policies.prompt.guided`, on the robot

Departures
- The policy regresses an action chunk, so guidance acts on the action, not on a flow's velocity.
- One continuous run from where the weights stand, as SOP has it, in place of a fit an iteration.
- Positive steps carry a stated share of each task's loss, whatever share of the data they are
  (`positive_weight`): what acts is the conditioned policy, and it learns from these alone.
- Steps of a handover keep the indicator of their advantage; steps nobody controlled teach nothing.
- A step without an indicator (nobody judged its episode) never enters the loss.
- The base need not know the indicator: its words begin as the identity (docs/learners.md).
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
from msgspec import Meta

from fleet.protocol.control import ControlLabel
from learning.core.learners.base import UpdateResult, register
from learning.core.learners.imitation import Imitation, ImitationConfig
from learning.core.parallel import sum_of_ranks, whole_draw
from learning.core.policies.base import Policy
from learning.core.policies.prompt import with_indicator
from learning.core.records import EpisodeRecord
from learning.core.types import Batch, Indicator, Observation

# Of the action: the hand's x, y and z, which is what the diagnostic is about.
_MOTION = 3
# Tasks weighed apart; beyond it two may share a weight.
_TASKS = 256


class RecapConfig(ImitationConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of the learner."""

    # Share of samples whose indicator is left out, so that the unconditioned policy is learned too.
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.3
    # Share of a task's loss that positive samples carry where a batch has both; 0 leaves it to
    # the data. Acting, all that counts is what they say. Measured: docs/learners.md.
    positive_weight: Annotated[float, Meta(ge=0, lt=1)] = 0.7
    # β while acting for training data, and while being evaluated.
    guidance: Annotated[float, Meta(ge=0, le=10)] = 1.0
    evaluation_guidance: Annotated[float, Meta(ge=0, le=10)] = 1.5


@register("recap")
class Recap(Imitation):
    """Advantage-conditioned imitation."""

    Config = RecapConfig
    uses_indicators = True

    def __init__(self, policy: Policy, config: RecapConfig) -> None:
        """Go on training `policy`, which is given the indicator's words if it has none."""
        conditioned = with_indicator(
            policy, guidance=config.guidance, evaluation_guidance=config.evaluation_guidance
        )
        super().__init__(conditioned, config)
        self.config: RecapConfig = config
        self._gap = float("nan")

    def targets(self, record: EpisodeRecord) -> np.ndarray:
        """Return every step that somebody controlled, of judged episodes; none of an abort."""
        if record.outcome == "abort" or record.indicator is None:
            return np.zeros(len(record), bool)
        return np.asarray(
            (record.control_mode != ControlLabel.NONE) & (record.indicator != Indicator.NONE)
        )

    def _loss(self, batch: Batch) -> torch.Tensor:
        """Return the loss of each sample, its indicator left out at random."""
        indicator = _told(batch)
        kept = whole_draw(torch.rand, len(indicator)) >= self.config.dropout
        told = torch.where(kept.to(indicator.device), indicator, int(Indicator.NONE))
        return super()._loss(replace(batch, indicator=told))

    def _weights(self, batch: Batch) -> torch.Tensor:
        """Weigh each task's positive samples up to their share.

        Samples without an indicator count nothing. A task that mostly fails has few positive
        samples, and those are what it is to learn from.
        """
        indicator = _told(batch)
        judged = indicator != Indicator.NONE
        wanted = self.config.positive_weight
        if not wanted:
            return judged.float()
        positive = indicator == Indicator.POSITIVE
        task = batch.task % _TASKS
        # Of the whole batch, also where this process has a part of it.
        count = sum_of_ranks(
            torch.stack([torch.bincount(task, kind.float(), _TASKS) for kind in (positive, judged)])
        )
        share = count[0] / count[1].clamp_min(1)
        both = (share > 0) & (share < 1)
        up = torch.where(both, wanted / share, 1.0)
        down = torch.where(both, (1 - wanted) / (1 - share), 1.0)
        return judged * torch.where(positive, up[task], down[task])

    def update(self, batch: Batch) -> UpdateResult:
        """Take one step; `positive` is the share of positive samples among the judged."""
        result = super().update(batch)
        judged = int((_told(batch) != Indicator.NONE).sum())
        positive = int((_told(batch) == Indicator.POSITIVE).sum())
        result.scalars["positive"] = positive / max(1, judged)
        result.scalars["action_gap"] = self._gap
        return result

    def report(self, held_out: Sequence[Observation]) -> dict[str, float]:
        """Return `action_gap`: how far the indicator moves the policy's motion on held-out frames.

        Mean |a(positive) − a(negative)| over the chunk's x, y and z, in the action's unit. Below
        0.05 the network did not listen, and acting on the indicator changes nothing; from 0.07 on
        it paid in our study (docs/learners.md). It stays in the curves until the next report.
        """
        if held_out:
            self._gap = action_gap(self.policy, held_out)
        return {"action_gap": self._gap} if held_out else {}


def _told(batch: Batch) -> torch.Tensor:
    if batch.indicator is None:
        raise ValueError("RECAP learns from batches with indicators; a replay buffer's have them")
    return batch.indicator


def action_gap(policy: Policy, held_out: Sequence[Observation]) -> float:
    """Return mean |a(positive) − a(negative)| over the motion of `policy`'s chunks."""
    asked = copy.copy(policy)  # shares the weights, not what it is told
    asked.guidance = 1.0
    chunks = []
    for indicator in (Indicator.POSITIVE, Indicator.NEGATIVE):
        asked.told = indicator
        chunks.append(torch.stack([asked.act(observation)[0] for observation in held_out]))
    positive, negative = chunks  # (n, h, a)
    return float((positive - negative)[..., :_MOTION].abs().mean())
