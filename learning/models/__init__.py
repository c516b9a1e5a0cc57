"""Rows of the learning app: what robots recorded, what people judged, what was learned from it."""

from learning.models.claims import DeskClaim
from learning.models.corrections import SpanReview
from learning.models.episodes import ClosedCursor, Episode, EpisodePart, Intervention
from learning.models.evaluations import Evaluation, EvaluationTrial
from learning.models.labels import Label
from learning.models.learners import Learner, LearnerMetric, Round
from learning.models.lineage import Branch, EpisodeUse, Exclusion
from learning.models.policies import PolicyVersion
from learning.models.rollouts import Canary, PolicyChange, Rollout, VersionTag
from learning.models.rollups import OperatorRollup, SpanRollup, VersionRollup
from learning.models.values import Sidecar, ThresholdVersion, ValueVersion

__all__ = [
    "Branch",
    "Canary",
    "ClosedCursor",
    "DeskClaim",
    "Episode",
    "EpisodePart",
    "EpisodeUse",
    "Evaluation",
    "EvaluationTrial",
    "Exclusion",
    "Intervention",
    "Label",
    "Learner",
    "LearnerMetric",
    "OperatorRollup",
    "PolicyChange",
    "PolicyVersion",
    "Rollout",
    "Round",
    "Sidecar",
    "SpanReview",
    "SpanRollup",
    "ThresholdVersion",
    "ValueVersion",
    "VersionRollup",
    "VersionTag",
]
