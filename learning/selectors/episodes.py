"""Reads of episodes: the upload cursor, what closed since, and the outcome in force."""

from dataclasses import dataclass
from uuid import UUID

from django.db.models import Count, F, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from fleet.models import Robot
from learning.exceptions import Forbidden
from learning.models import ClosedCursor, Episode, Intervention, Label
from learning.models.episodes import Purpose


@dataclass(frozen=True, slots=True)
class UploadCursor:
    """What the server has of an episode: `unknown`, `open` or `closed`, and its part indexes."""

    state: str
    parts: tuple[int, ...] = ()


def upload_cursor(uid: UUID, robot: Robot) -> UploadCursor:
    """Return where `robot` may resume its upload. Raises Forbidden for another robot's episode."""
    episode = Episode.objects.filter(uid=uid).first()
    if episode is None:
        return UploadCursor("unknown")
    if episode.robot_id != robot.pk:
        raise Forbidden(f"episode {uid} is another robot's")
    indexes = episode.parts.order_by("index").values_list("index", flat=True)
    return UploadCursor(episode.state, tuple(indexes))


def standing_labels() -> QuerySet[Label]:
    """Return labels that say something: neither a withdrawal nor withdrawn."""
    return Label.objects.filter(withdraws__isnull=True, withdrawal__isnull=True)


def misjudged() -> QuerySet[Episode]:
    """Return episodes whose kept judgement is not their last standing label's; must be none."""
    last = standing_labels().filter(episode=OuterRef("pk")).order_by("-id").values("outcome")[:1]
    counted = Episode.objects.annotate(recount=Coalesce(Subquery(last), Value("")))
    return counted.exclude(judged_outcome=F("recount"))


def closed_after(seq: int) -> QuerySet[Episode]:
    """Return closed episodes beyond the cursor `seq`, in the order of the cursor."""
    closed = Episode.objects.filter(closed_seq__gt=seq).select_related("robot", "task")
    return closed.order_by("closed_seq")


def trainable_after(seq: int) -> QuerySet[Episode]:
    """Return what a buffer may index beyond `seq`: closed, complete, not held out, not empty.

    Excluded episodes are not among them either (`models.lineage.Exclusion`).
    """
    return (
        closed_after(seq)
        .filter(complete=True, steps__gt=0, exclusion__isnull=True)
        .exclude(purpose=Purpose.EVAL)
        .prefetch_related("parts", "interventions")
    )


def with_interventions(episodes: QuerySet[Episode]) -> QuerySet[Episode]:
    """Annotate `intervention_count`, counted for the rows that are read and for no others."""
    of_one = Intervention.objects.filter(episode=OuterRef("pk")).order_by().values("episode")
    counted = Subquery(of_one.annotate(n=Count("pk")).values("n"))
    return episodes.annotate(intervention_count=Coalesce(counted, 0))


def last_closed_seq() -> int:
    """Return the cursor of the newest closed episode, 0 when there is none."""
    return ClosedCursor.objects.values_list("value", flat=True).filter(pk=1).first() or 0
