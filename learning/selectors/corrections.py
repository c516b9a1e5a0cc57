"""Reads of corrections: what is in force of one span of control, its history, who learned."""

import math
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.utils import dateformat, timezone

from fleet.models import Robot, TakeoverLease
from learning.exceptions import Forbidden, NotFound
from learning.models import Episode, Intervention, SpanReview
from learning.selectors.lineage import Taught, taught

# A lease may begin and end this much later on the robot than here, as far as a trim is concerned.
SLACK_S = 1.0
# Of a robot that never said how fast its loop is.
_CONTROL_HZ = 20.0
_MAX_EPOCH = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Correction:
    """One span of control as people left it: what one lease did in one episode."""

    robot: str
    episode_uid: UUID
    epoch: int
    # Whether its episode is here and complete; before that `steps` is an upper bound.
    stored: bool
    steps: int
    control_period_s: float
    mark: str
    discarded: bool
    trim_start: int
    trim_end: int
    # Newest first.
    history: tuple[SpanReview, ...]
    # Where it lies in its episode, and what is kept of each part; empty before the episode is here.
    spans: tuple[Intervention, ...]
    # What learned from its episode until something of it was left out; else until now.
    taught: tuple[Taught, ...]

    @property
    def undoable(self) -> SpanReview | None:
        """The last entry that stands; None where everything was taken back."""
        standing = (row for row in self.history if row.undoes_id is None and not row.undone)
        return next(standing, None)

    @property
    def kept(self) -> int:
        """Steps of it that may be imitated."""
        return 0 if self.discarded else max(0, self.steps - self.trim_start - self.trim_end)

    @property
    def told(self) -> str:
        """What becomes of it, in words for whoever decided."""
        whole = not self.discarded and not self.trim_start and not self.trim_end
        what = "it" if self.discarded else "what was cut off"
        if not self.stored:
            later = "its episode is still on the robot"
            return f"Counts as said when it arrives: {later}." if self.history else ""
        if not self.taught:
            return "" if whole else f"No learner has sampled its episode; none will sample {what}."
        names = " and ".join(_versions(line) for line in self.taught)
        if whole:
            return f"{names} learned from its episode."
        return f"{names} learned from its episode, and that stays; {what} is sampled no more."


def _versions(line: Taught) -> str:
    if not line.versions:
        return f"{line.learner.name}, not yet published,"
    if line.first == line.newest:
        return f"{line.learner.name} v{line.first}"
    return f"{line.learner.name} v{line.first} to v{line.newest}"


def span_history(robot: Robot, episode_uid: UUID, epoch: int) -> QuerySet[SpanReview]:
    """Return the entries of one span, newest first."""
    entries = SpanReview.objects.filter(robot=robot, episode_uid=episode_uid, epoch=epoch)
    return entries.select_related("robot", "operator__user", "undone_by").order_by("-id")


def spans_of(episode: Episode) -> list[tuple[Intervention, SpanReview | None, bool]]:
    """Return an episode's spans, each with the entry in force, and whether it can be reviewed here.

    What one lease did in an episode is reviewed as one, at its first span.
    """
    entries = SpanReview.objects.filter(episode_uid=episode.uid, robot_id=episode.robot_id)
    newest = {row.epoch: row for row in entries.select_related("operator__user").order_by("id")}
    found, seen = [], set()
    for span in episode.interventions.all():
        here = episode.robot_id is not None and span.lease_epoch > 0
        found.append((span, newest.get(span.lease_epoch), here and span.lease_epoch not in seen))
        seen.add(span.lease_epoch)
    return found


def correction_of(*, robot: str, episode_uid: UUID, epoch: int) -> Correction:
    """Return what is in force of a span; its episode may not be here yet.

    Raises:
        NotFound: No such robot, or it had no such lease in this episode.
        Forbidden: The episode is another robot's.
    """
    row = Robot.objects.filter(name=robot).first()
    if not 1 <= epoch <= _MAX_EPOCH:
        raise NotFound(f"a lease is numbered 1 to {_MAX_EPOCH}")
    if row is None:
        raise NotFound(f"there is no robot {robot}")
    episode = Episode.objects.filter(uid=episode_uid).first()
    if episode is not None and episode.robot_id != row.pk:
        raise Forbidden(f"episode {episode_uid} is not of {robot}")
    spans: list[Intervention] = []
    if episode is not None and episode.closed:
        spans = list(episode.interventions.filter(lease_epoch=epoch).order_by("start"))
        if not spans:
            raise NotFound(f"nobody held {robot} under the lease {epoch} in this episode")
        steps, period_s = spans[-1].end - spans[0].start, episode.control_period_s
    else:
        period_s = 1.0 / float(row.spec.get("control_hz") or _CONTROL_HZ)
        steps = _at_most(row, epoch, period_s)
    history = tuple(span_history(row, episode_uid, epoch))
    now = history[0] if history else SpanReview()
    left_out = now.discarded or now.trim_start or now.trim_end
    until = now.created_at if left_out else None
    return Correction(
        robot=robot,
        episode_uid=episode_uid,
        epoch=epoch,
        stored=episode is not None and episode.closed,
        steps=steps,
        control_period_s=period_s,
        mark=now.mark,
        discarded=now.discarded,
        trim_start=now.trim_start,
        trim_end=now.trim_end,
        history=history,
        spans=tuple(spans),
        taught=tuple(taught(episode, until=until)) if episode is not None else (),
    )


def _at_most(robot: Robot, epoch: int, period_s: float) -> int:
    lease = TakeoverLease.objects.filter(robot=robot, epoch=epoch).first()
    if lease is None:
        raise NotFound(f"{robot} never had a lease {epoch}")
    held_s = ((lease.ended_at or timezone.now()) - lease.granted_at).total_seconds()
    return math.ceil((max(0.0, held_s) + SLACK_S) / period_s)


def as_json(correction: Correction) -> dict[str, Any]:
    """Return a correction as pages take it; `revision` grows with every entry."""
    undoable = correction.undoable
    return {
        "robot": correction.robot,
        "episode": str(correction.episode_uid),
        "epoch": correction.epoch,
        "revision": correction.history[0].pk if correction.history else 0,
        "stored": correction.stored,
        "steps": correction.steps,
        "period_s": correction.control_period_s,
        "mark": correction.mark,
        "discarded": correction.discarded,
        "trim_start": correction.trim_start,
        "trim_end": correction.trim_end,
        "told": correction.told,
        "spans": [
            {"start": span.start, "kept_start": span.kept_start, "kept_end": span.kept_end}
            for span in correction.spans
        ],
        "undoable": str(undoable.uid) if undoable is not None else None,
        "history": [
            {
                "by": row.operator.name,
                "at": timezone.localtime(row.created_at).isoformat(timespec="seconds"),
                "when": dateformat.format(timezone.localtime(row.created_at), "j M Y H:i:s"),
                "said": _said(row),
                "note": row.note,
                "undone": row.undone,
            }
            for row in correction.history
        ],
    }


def _said(row: SpanReview) -> str:
    words = [row.mark]
    if row.trim_start or row.trim_end:
        words.append(f"{row.trim_start} and {row.trim_end} steps cut off")
    if row.discarded:
        words.append("discarded")
    return ("undo: " if row.undoes_id else "") + ", ".join(words)
