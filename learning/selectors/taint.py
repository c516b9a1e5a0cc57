"""Bad data, traced: which episodes are meant, and which versions learned from them."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Min, QuerySet

from learning.exceptions import Unprocessable
from learning.models import Episode, EpisodeUse, Intervention, Learner, PolicyVersion
from learning.models.episodes import Purpose
from learning.selectors.branches import stretches_of
from learning.selectors.episodes import standing_labels

_EVERY_STEP = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """What is thought to be bad; everything that is named must hold together."""

    episode: UUID | None = None
    # Name of somebody whose corrections are in the episodes, and of somebody who judged them.
    operator: str = ""
    labeller: str = ""
    started_from: datetime | None = None
    started_before: datetime | None = None

    @property
    def named(self) -> bool:
        """Whether anything is named at all."""
        return any(
            (self.episode, self.operator, self.labeller, self.started_from, self.started_before)
        )


@dataclass(frozen=True, slots=True)
class Trace:
    """What a suspect did to one learner."""

    learner: Learner
    # Suspected episodes that it took a gradient step on, in any branch.
    used: int
    # Published versions that learned from one of them, oldest first.
    versions: tuple[PolicyVersion, ...]
    # The newest published version that did not; None when every one did.
    clean: PolicyVersion | None
    # Whether the learner would go on from weights that saw one of them.
    in_force: bool


def suspected(suspect: Suspect) -> QuerySet[Episode]:
    """Return the episodes that are meant, held-out ones left out: nobody learns from those.

    Raises Unprocessable when nothing is named: that would be every episode.
    """
    if not suspect.named:
        raise Unprocessable("name an episode, an operator, a labeller or a span of time")
    found = Episode.objects.exclude(purpose=Purpose.EVAL)
    if suspect.episode is not None:
        found = found.filter(uid=suspect.episode)
    if suspect.operator:
        spans = Intervention.objects.filter(operator=suspect.operator)
        found = found.filter(pk__in=spans.order_by().values("episode_id"))
    if suspect.labeller:
        labels = standing_labels().filter(operator__user__username=suspect.labeller)
        found = found.filter(pk__in=labels.order_by().values("episode_id"))
    if suspect.started_from is not None:
        found = found.filter(started_at__gte=suspect.started_from)
    if suspect.started_before is not None:
        found = found.filter(started_at__lt=suspect.started_before)
    return found


def trace(learner: Learner, episodes: QuerySet[Episode]) -> Trace:
    """Return which versions of a learner learned from episodes, and which is the last that did not.

    A version learned from an episode when the first gradient step on it, in the version's own
    branch or in what that branch goes on from, is not after the version's.
    """
    uses = EpisodeUse.objects.filter(
        learner=learner, episode_id__in=episodes.order_by().values("pk")
    ).order_by()
    firsts = dict(uses.values_list("branch").annotate(first=Min("step")))
    versions = PolicyVersion.objects.filter(
        learner=learner, state=PolicyVersion.State.PUBLISHED
    ).select_related("learner", "parent")
    stretches = stretches_of(learner)

    def saw(branch: int, step: int) -> bool:
        return any(b in firsts and firsts[b] <= limit for b, limit in stretches(branch, step))

    bad, clean = [], None
    for version in versions.order_by("number"):
        if saw(version.branch, version.step):
            bad.append(version)
        else:
            clean = version
    used = uses.values("episode").distinct().count()
    # Steps beyond the newest version count as well: the checkpoint has them.
    return Trace(learner, used, tuple(bad), clean, saw(learner.branch, _EVERY_STEP))
