"""Lineage both ways: which versions made an episode, and which versions it trained."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Count, Max, Min, Prefetch, Q, QuerySet

from learning.exceptions import NotFound
from learning.models import Episode, EpisodeUse, Intervention, Label, Learner, PolicyVersion
from learning.models.corrections import Mark
from learning.models.episodes import Outcome
from learning.selectors.branches import versions_after
from learning.selectors.metrics import Rate, wilson
from learning.selectors.search import made_by, used_by


@dataclass(frozen=True, slots=True)
class Maker:
    """A version that acted in an episode; `version` is None where no such row is known here."""

    number: int
    version: PolicyVersion | None


@dataclass(frozen=True, slots=True)
class Taught:
    """The published versions of one learner that learned from an episode."""

    learner: Learner
    # The first gradient step on it, and when it was taken.
    step: int
    at: datetime
    versions: int
    # Numbers of the first and the newest of them; None before the learner publishes again.
    first: int | None
    newest: int | None


@dataclass(frozen=True, slots=True)
class Deeds:
    """What a version did and what it is made of, in counts of episodes."""

    made: int
    # Success among finished episodes it made, those called off left out, by purpose.
    held_out: Rate
    training: Rate
    # Episodes it learned from, and those among them that its parent did not know.
    learned_from: int
    new_to_it: int
    # Corrections in them as people mark them now: those that count by their mark, and the others.
    corrections: int
    recoveries: int
    discarded: int


def episode_of(uid: UUID) -> Episode:
    """Return an episode with all that its page shows. Raises NotFound."""
    labels = Label.objects.select_related("operator__user", "withdrawal").order_by("-id")
    found = (
        Episode.objects.select_related("robot", "task", "exclusion__operator__user")
        .prefetch_related("interventions", "parts", Prefetch("labels", labels))
        .filter(uid=uid)
        .first()
    )
    if found is None:
        raise NotFound(f"no episode is {uid}")
    return found


def makers(episode: Episode) -> list[Maker]:
    """Return the versions whose policy acted, the one it started with first."""
    numbers = {number for part in episode.parts.all() for number in part.policy_numbers}
    first = [] if episode.policy_number is None else [episode.policy_number]
    ordered = first + sorted(numbers - set(first))
    known = PolicyVersion.objects.filter(number__in=ordered).select_related("learner")
    rows = {
        row.number: row
        for row in sorted(known, key=lambda row: row.sha256 == episode.policy_sha256)
    }
    return [Maker(number, rows.get(number)) for number in ordered]


def taught(episode: Episode, *, until: datetime | None = None) -> list[Taught]:
    """Return, for each learner that trained on an episode, the versions it published since.

    With `until`, only who had used it by then, and the versions published by then.
    """
    lines = []
    uses = EpisodeUse.objects.filter(episode=episode).select_related("learner")
    versions = PolicyVersion.objects.filter(state=PolicyVersion.State.PUBLISHED)
    if until is not None:
        uses, versions = uses.filter(at__lte=until), versions.filter(created_at__lte=until)
    for use in uses:
        since = versions.filter(versions_after(use), learner_id=use.learner_id).aggregate(
            versions=Count("pk"), first=Min("number"), newest=Max("number")
        )
        lines.append(Taught(use.learner, use.step, use.at, **since))
    return lines


def versions_numbered(number: int) -> QuerySet[PolicyVersion]:
    """Return every learner's version of this number; learners count on their own."""
    return (
        PolicyVersion.objects.filter(number=number)
        .select_related("learner", "parent", "round")
        .order_by("learner__name")
    )


def deeds(version: PolicyVersion) -> Deeds:
    """Count the episodes a version made and those it learned from."""
    made = made_by(version)
    finished = Q(state=Episode.State.CLOSED, complete=True) & ~Q(outcome_in_force=Outcome.ABORT)
    won = finished & Q(outcome_in_force=Outcome.SUCCESS)
    held_out = Q(purpose="eval")
    counts = made.aggregate(
        made=Count("pk"),
        held_out=Count("pk", filter=finished & held_out),
        held_out_won=Count("pk", filter=won & held_out),
        training=Count("pk", filter=finished & ~held_out),
        training_won=Count("pk", filter=won & ~held_out),
    )
    uses = used_by(version)
    spans = Intervention.objects.filter(episode_id__in=uses.order_by().values("episode_id"))
    marks = spans.aggregate(
        corrections=Count("pk", filter=Q(mark=Mark.CORRECTION, discarded=False)),
        recoveries=Count("pk", filter=Q(mark=Mark.RECOVERY, discarded=False)),
        discarded=Count("pk", filter=Q(discarded=True)),
    )
    known_before = version.parent.step if version.parent is not None else 0
    return Deeds(
        made=counts["made"],
        held_out=wilson(counts["held_out_won"], counts["held_out"]),
        training=wilson(counts["training_won"], counts["training"]),
        learned_from=uses.values("episode").distinct().count(),
        new_to_it=uses.filter(step__gt=known_before).values("episode").distinct().count(),
        **marks,
    )
