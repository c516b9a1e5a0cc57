"""Filtered behaviour cloning: imitate demonstrations and what the policy did in its successes.

    D ← D_demonstrations;  π ← train on D
    for each rollout the policy finished alone: if it succeeded, D ← D ∪ {its steps}
    D drops the slowest, task by task                `fastest`
    π ← train on D                                   continuously, from where it stands (SOP)

The plainest thing a fleet can learn from without anybody's help: success is the only judge. It is
the weighted regression of reward-weighted methods with weights 0 and 1, and the baseline that
RECAP has to beat (arXiv:2511.14759 compares with it).

Departures from the textbook
- An episode with a takeover is left out whole: its success is not the policy's.
- `fastest` keeps of each task's successes only those that were quick when they came: online there
  is no last episode to rank against, so an episode is compared with those before it.
"""

from collections import defaultdict
from typing import Annotated

import numpy as np
from msgspec import Meta

from fleet.protocol.control import ControlLabel
from learning.core.learners.base import register
from learning.core.learners.imitation import Imitation, ImitationConfig
from learning.core.policies.base import Policy
from learning.core.records import EpisodeRecord


class FilteredBcConfig(ImitationConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of the learner."""

    # Share of a task's successes to imitate, the quickest; 1 imitates all.
    fastest: Annotated[float, Meta(gt=0, le=1)] = 1.0


@register("filtered_bc")
class FilteredBc(Imitation):
    """Behaviour cloning of autonomous successes."""

    Config = FilteredBcConfig
    config: FilteredBcConfig

    def __init__(self, policy: Policy, config: FilteredBcConfig) -> None:
        """Go on training `policy` from its present weights."""
        super().__init__(policy, config)
        # Steps of each task's successes so far, by uid. Rebuilt when the buffer is: episodes are
        # indexed again in the same order, so it is in no checkpoint.
        self._lengths: dict[str, dict[str, int]] = defaultdict(dict)

    def targets(self, record: EpisodeRecord) -> np.ndarray:
        """Return every step of a demonstration or of a quick enough autonomous success."""
        if not record.online:
            return np.full(len(record), record.outcome != "abort")
        acted = record.control_mode == ControlLabel.POLICY
        touched = np.isin(record.control_mode, (ControlLabel.HUMAN, ControlLabel.TRANSITION)).any()
        if record.outcome != "success" or touched or not self._quick(record):
            return np.zeros(len(record), bool)
        return np.asarray(acted & ~record.before_takeover)

    def _quick(self, record: EpisodeRecord) -> bool:
        """Say whether an episode is among the quickest share of its task's successes so far."""
        lengths = self._lengths[record.task]
        lengths[record.uid] = len(record)
        limit = np.quantile(list(lengths.values()), self.config.fastest)
        return bool(len(record) <= limit)
