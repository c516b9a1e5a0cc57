"""What RECAP's learner is told of each episode, on a virtual clock: the product's own derivation.

The running system keeps these as versioned sidecars beside the episodes; here they live as long as
the run. The value function is fitted to judged episodes before the run and frozen (SOP), or fitted
again between offline iterations (RECAP, arXiv 2511.14759).
"""

from collections.abc import Sequence

import numpy as np

from learning.core.advantages import FINE_TUNING, PRETRAINING, Shares
from learning.core.annotate import values_of
from learning.core.payload import OpenPart
from learning.core.policies.base import PolicyConfig
from learning.core.records import EpisodeRecord
from learning.core.sidecar import annotate, epsilons_of, with_annotation
from learning.core.value_training import FitConfig, fit_value


class Sidecars:
    """Values, thresholds and indicators of the episodes of one run."""

    def __init__(
        self,
        past: Sequence[EpisodeRecord],
        open_part: OpenPart,
        policy: PolicyConfig,
        *,
        steps: int,
        seed: int,
    ) -> None:
        """Fit the first value function and thresholds.

        Args:
            past: Judged episodes from before the run, successes and failures.
            open_part: Returns the part of a sha256.
            policy: What is seen.
            steps: Gradient steps of each fit.
            seed: Of the fits.
        """
        self._past = list(past)
        self._open_part = open_part
        self._policy = policy
        self._config = FitConfig(steps=steps, seed=seed)
        # Spearman's correlation with the return on held-out episodes, one for each fit.
        self.correlations: list[float] = []
        self._fit(self._past, PRETRAINING)

    def _fit(self, records: Sequence[EpisodeRecord], shares: Shares) -> None:
        fit = fit_value(records, self._open_part, self._policy, self._config)
        self._value, self._values = fit.value, dict(fit.values)
        self.correlations.append(fit.correlation)
        known = [record for record in records if record.uid in self._values]
        annotated = [(r, annotate(r, self._values[r.uid], epsilons={})) for r in known]
        self._epsilons = epsilons_of(annotated, shares)

    def fit_again(self, records: Sequence[EpisodeRecord]) -> None:
        """Fit value function and thresholds to the past and to `records` of the run."""
        self._fit([*self._past, *records], FINE_TUNING)

    def annotated(self, record: EpisodeRecord) -> EpisodeRecord:
        """Return the record with an indicator for each step."""
        value = self._values.get(record.uid)
        if value is None:
            value = values_of(
                self._value, record, self._open_part, action_dim=self._policy.action_dim
            )
            self._values[record.uid] = value
        return with_annotation(record, annotate(record, value, epsilons=self._epsilons))

    def indicator(self, record: EpisodeRecord) -> np.ndarray:
        """Return the indicator of each step, int8 (t,), by the newest value function."""
        indicator = self.annotated(record).indicator
        assert indicator is not None
        return indicator
