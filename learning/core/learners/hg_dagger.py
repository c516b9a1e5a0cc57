"""HG-DAgger inside SOP's loop: imitate what people did while they held the robot.

Kelly et al. 2019, HG-DAgger (arXiv 1810.02890), its loop beside where each line lives here:

    D ← D_BC;  π ← train on D                     demonstrations: all steps, the offline buffer
    for each rollout: for each time step          fleet.agent, on the robot
        if the human takes control:
            D_j ← the human's actions             `targets`: control_mode 1, nothing else
            doubt at the takeover is logged       fleet.agent, with the episode
        else the policy acts                      not a target
    D ← D ∪ D_j;  π ← train on D                  `update`, continuously and from where it stands,
                                                  in place of one fit an epoch (SOP)

Departures
- Supervision is an action chunk, masked where the human was not in control, in place of one action.
- The start of a takeover (control_mode 2, 0.3 s) is no target: the person is still taking hold.
- The steps before a takeover are flagged as the policy's mistake (Sirius) and never imitated.
- Weights are averaged (EMA), and the average is what robots run.
- Corrections count even when the episode fails later: they are what the person would do there.
  An aborted episode is discarded whole; one correction of it is discarded, trimmed or marked by
  itself, after the fact (`services.corrections`): what was left out is no target for any learner.
- A span that people marked as a recovery is imitated like a correction, as RaC does (arXiv
  2509.07953); `recoveries` leaves them out.
- `autonomous_successes` also imitates what the policy did in episodes that succeeded without an
  intervention. It is not HG-DAgger, it is self-imitation, and off by default.
- `sirius_weights` weighs the samples by where they came from (Sirius, Liu et al. 2022, arXiv
  2211.08416). Off by default.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fleet.protocol.control import ControlLabel
from learning.core.learners.base import register
from learning.core.learners.imitation import Imitation, ImitationConfig
from learning.core.parallel import sum_of_ranks
from learning.core.records import EpisodeRecord, SpanMark
from learning.core.types import Batch

# Sirius: the share of a batch's weight that corrections get.
_INTERVENTION_SHARE = 0.5


class HgDaggerConfig(ImitationConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of the learner."""

    # Also imitate episodes that succeeded without an intervention (a departure, see above).
    autonomous_successes: bool = False
    # Also imitate how operators brought the robot back from a bad state, where marked so.
    recoveries: bool = True
    # Weigh corrections up to half of a batch, as Sirius does (a departure, see above).
    sirius_weights: bool = False


@register("hg_dagger")
class HgDagger(Imitation):
    """Behaviour cloning of the steps under human control, continuously."""

    Config = HgDaggerConfig
    config: HgDaggerConfig

    def targets(self, record: EpisodeRecord) -> np.ndarray:
        """Return the steps under human control; all of a demonstration; none of an abort."""
        if record.outcome == "abort":
            return np.zeros(len(record), bool)
        if not record.online:
            return np.ones(len(record), bool)
        mode = record.control_mode
        imitated = mode == ControlLabel.HUMAN
        touched = imitated.any() or (mode == ControlLabel.TRANSITION).any()
        if not self.config.recoveries and record.mark is not None:
            imitated = imitated & (record.mark != SpanMark.RECOVERY)
        if self.config.autonomous_successes and record.outcome == "success" and not touched:
            imitated = mode == ControlLabel.POLICY
        return np.asarray(imitated & ~record.before_takeover)

    def _weights(self, batch: Batch) -> Tensor | None:
        if not self.config.sirius_weights or batch.label is None:
            return None
        return sirius_weights(batch.online, batch.label == ControlLabel.HUMAN)


def sirius_weights(online: Bool[Tensor, " b"], human: Bool[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Return P*(c) / P(c) of each sample's class c: 1 on average over the batch.

    P*(correction) = 1/2, P*(demonstration) = P(demonstration), and what is left for the policy's
    own steps; steps before a takeover would have 0, and are not in a batch at all. Where this does
    not add up to 1 (a class is missing, or demonstrations are over half) all is scaled until it
    does.

    Args:
        online: False for a demonstration.
        human: True where an operator acted.

    Source:
        Sirius (arXiv:2211.08416), weighted behavioural cloning. Departure: P is the batch's, not
        the data's, because the sampler has chosen the share of demonstrations already.
    """
    kind = torch.where(online, torch.where(human, 1, 2), 0)  # demonstration, correction, policy
    count = sum_of_ranks(torch.bincount(kind, minlength=3).float())
    share = count / count.sum()
    half = share.new_tensor(_INTERVENTION_SHARE)
    wanted = torch.stack((share[0], half, 1 - half - share[0])).clamp_min(0) * (count > 0)
    weight = (wanted / wanted.sum()) / share.clamp_min(1e-9)
    return weight[kind]
