"""What people say of a correction afterwards: discard it, trim it, mark it, and take that back.

The history is append-only (`SpanReview`); what is in force is kept on the interventions, in the
same transaction. An entry may come before its episode: ingest then asks `settle`. Learners read
what changed from the history's cursor (`services.buffers.Indexer.review`); nothing is rewritten.
"""

from dataclasses import dataclass
from uuid import UUID

import msgspec
from django.core.exceptions import ValidationError
from django.db import transaction

from fleet.models import Operator, Robot, Role
from fleet.protocol import browser as b
from fleet.selectors.access import require_role
from fleet.services import events
from learning.exceptions import Conflict, Unprocessable
from learning.models import Episode, Intervention, SpanReview
from learning.selectors.corrections import Correction, correction_of, span_history
from learning.services.cursor import hold_cursor

# Entries of one span: nobody changes their mind so often, and a loop in a script would.
MAX_ENTRIES = 200


@dataclass(frozen=True, slots=True)
class Change:
    """What an entry changes; None leaves that as it is in force, so two people do not undo each
    other by chance.
    """

    mark: str | None = None
    discarded: bool | None = None
    # Steps cut off the beginning and the end: both or none.
    trim: tuple[int, int] | None = None


def review_span(
    *,
    robot: str,
    episode_uid: UUID,
    epoch: int,
    operator: Operator,
    change: Change,
    uid: UUID,
    note: str = "",
) -> Correction:
    """Discard, trim or mark what a lease did in an episode; afterwards the change is in force.

    The episode may still be running. Called twice with the same `uid`, the second call changes
    nothing. Takes the lock of the buffers' cursor, so that entries are numbered in commit order
    and none falls between the closing of its episode and what is kept there. Publishes
    `CorrectionState` on commit.

    Raises:
        NotAllowed: The role does not reach.
        NotFound: No such robot, or it had no such lease in this episode.
        Forbidden: The episode is another robot's.
        Conflict: `uid` names another entry, or there are `MAX_ENTRIES` of this span.
        Unprocessable: No change, an unknown mark, or a trim that leaves nothing.
    """
    require_role(operator, Role.OPERATOR)
    if change == Change():
        raise Unprocessable("nothing to change: say a mark, a trim, or whether it is discarded")
    with transaction.atomic():
        hold_cursor()
        if _known(uid, robot, episode_uid, epoch):
            return correction_of(robot=robot, episode_uid=episode_uid, epoch=epoch)
        now = correction_of(robot=robot, episode_uid=episode_uid, epoch=epoch)
        trim_start, trim_end = change.trim or (now.trim_start, now.trim_end)
        if change.trim is not None:
            _check_trim(now, trim_start, trim_end)
        entry = SpanReview(
            uid=uid,
            robot=Robot.objects.get(name=robot),
            episode_uid=episode_uid,
            epoch=epoch,
            mark=now.mark if change.mark is None else change.mark,
            discarded=now.discarded if change.discarded is None else change.discarded,
            trim_start=trim_start,
            trim_end=trim_end,
            note=note,
            operator=operator,
        )
        return _append(entry)


def undo_review(
    *, robot: str, episode_uid: UUID, epoch: int, operator: Operator, undoes: UUID, uid: UUID
) -> Correction:
    """Take back the last entry that stands; afterwards what stood before it is in force.

    A further entry says so: nothing is lost. Called twice with the same `uid`, the second call
    changes nothing. Locks and publishes as `review_span`.

    Raises:
        NotAllowed, NotFound, Forbidden: As `review_span`.
        Conflict: `undoes` is not the last entry that stands: somebody wrote a newer one, or took
            this one back; or `uid` names another entry.
    """
    require_role(operator, Role.OPERATOR)
    with transaction.atomic():
        hold_cursor()
        now = correction_of(robot=robot, episode_uid=episode_uid, epoch=epoch)
        if _known(uid, robot, episode_uid, epoch):
            return now
        if now.undoable is None or now.undoable.uid != undoes:
            raise Conflict("this is not the last change any more; look at what is in force now")
        standing = [row for row in now.history if row.undoes_id is None and not row.undone]
        before = standing[1] if len(standing) > 1 else SpanReview()
        entry = SpanReview(
            uid=uid,
            robot=now.undoable.robot,
            episode_uid=episode_uid,
            epoch=epoch,
            mark=before.mark,
            discarded=before.discarded,
            trim_start=before.trim_start,
            trim_end=before.trim_end,
            operator=operator,
            undoes=now.undoable,
        )
        return _append(entry)


def settle(episode: Episode) -> None:
    """Write what is in force onto the interventions of an episode that was just closed.

    Inside the transaction that closed it, after it took the cursor's lock.
    """
    if episode.robot_id is None:
        return
    newest: dict[int, SpanReview] = {}
    for entry in SpanReview.objects.filter(episode_uid=episode.uid, robot_id=episode.robot_id):
        newest[entry.epoch] = entry
    for entry in newest.values():
        _keep(entry)


def _known(uid: UUID, robot: str, episode_uid: UUID, epoch: int) -> bool:
    known = SpanReview.objects.select_related("robot").filter(uid=uid).first()
    if known is None:
        return False
    if (known.robot.name, known.episode_uid, known.epoch) != (robot, episode_uid, epoch):
        raise Conflict(f"entry {uid} is of another correction; name this one anew")
    return True


def _check_trim(now: Correction, start: int, end: int) -> None:
    if start < 0 or end < 0:
        raise Unprocessable("a trim is a number of steps from 0 on")
    if start + end >= now.steps:
        raise Unprocessable(
            f"the correction has {'' if now.stored else 'at most '}{now.steps} steps:"
            f" without {start} and {end} nothing of it is left; discard it instead"
        )


def _append(entry: SpanReview) -> Correction:
    if span_history(entry.robot, entry.episode_uid, entry.epoch).count() >= MAX_ENTRIES:
        raise Conflict(f"this correction was changed {MAX_ENTRIES} times; it stays as it is")
    try:
        entry.clean_fields()
    except ValidationError as error:
        name, words = next(iter(error.message_dict.items()))
        raise Unprocessable(f"{name}: {words[0]}") from None
    entry.save()
    _keep(entry)
    robot, uid, epoch = entry.robot.name, entry.episode_uid, entry.epoch
    state = b.CorrectionState(
        robot=robot,
        episode=str(uid),
        epoch=epoch,
        revision=entry.pk,
        mark=entry.mark,
        discarded=entry.discarded,
        trim_start=entry.trim_start,
        trim_end=entry.trim_end,
        by=entry.operator.name,
    )
    events.publish_on_commit(events.CORRECTIONS, msgspec.json.encode(state))
    return correction_of(robot=robot, episode_uid=uid, epoch=epoch)


def _keep(entry: SpanReview) -> None:
    """Write an entry onto the interventions of its lease in its episode, if they are here.

    A lease may hold the robot more than once in an episode: trims count from its first step and
    from its last.
    """
    spans = list(
        Intervention.objects.filter(
            episode__uid=entry.episode_uid,
            episode__robot_id=entry.robot_id,
            lease_epoch=entry.epoch,
        ).order_by("start")
    )
    if not spans:
        return
    first, last = spans[0].start + entry.trim_start, spans[-1].end - entry.trim_end
    for span in spans:
        start = min(max(span.start, first), span.end)
        end = max(min(span.end, last), start)
        span.mark, span.discarded = entry.mark, entry.discarded
        span.trim_start, span.trim_end = start - span.start, span.end - end
    Intervention.objects.bulk_update(spans, ["mark", "discarded", "trim_start", "trim_end"])
