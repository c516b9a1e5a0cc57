"""Labels: people's judgements on finished episodes, append-only."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from fleet.models import Operator
from learning.exceptions import Conflict, Forbidden, NotFound, Unprocessable
from learning.models import Episode, Label
from learning.models.labels import FLAWED, Source
from learning.services import rollups

# Episodes of one bulk label.
MAX_BULK = 500


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a label says; a step and a reason only where something went wrong."""

    outcome: str
    failure_step: int | None = None
    reason: str = ""
    note: str = ""


def add_label(
    *,
    episode_uid: UUID,
    operator: Operator,
    outcome: str,
    note: str = "",
    failure_step: int | None = None,
    reason: str = "",
    uid: UUID | None = None,
    source: str = Source.API,
) -> Label:
    """Judge a closed episode; afterwards `outcome` is the one in force.

    Called twice with the same `uid`, or without one with the judgement that the same operator gave
    last, it returns the first row. Locks the episode's row, so that labels of one episode have one
    order.

    Raises:
        NotFound: No such episode.
        Conflict: The episode is still open, its robot has the first word; or `uid` names another
            judgement.
        Unprocessable: An unknown outcome or reason, a step beyond the episode, or either of the
            latter where nothing failed.
    """
    verdict = Verdict(outcome, failure_step, reason, note)
    with transaction.atomic():
        episode = _locked(episode_uid)
        if not episode.closed:
            raise Conflict(f"episode {episode_uid} is still open")
        if (known := _known(uid, episode, operator)) is not None:
            return known
        last = _standing(episode)
        if uid is None and last is not None and last.operator_id == operator.pk:
            said = Verdict(last.outcome, last.failure_step, last.reason, last.note)
            if said == verdict:
                return last
        return _create(episode, operator, verdict, uid=uid, source=source)


def withdraw_label(*, label_uid: UUID, operator: Operator, uid: UUID | None = None) -> Label:
    """Take back a label; afterwards it stands no more, and the one before it does.

    The label stays in the history, and so does its withdrawal, which is returned. Called twice, the
    first withdrawal is returned. Locks the episode's row.

    Raises:
        NotFound: No such label.
        Forbidden: It is somebody else's.
    """
    with transaction.atomic():
        label = Label.objects.select_related("episode").filter(uid=label_uid).first()
        if label is None or label.withdraws_id is not None:
            raise NotFound(f"there is no label {label_uid}")
        if label.operator_id != operator.pk:
            raise Forbidden("a label is taken back by whoever gave it")
        _locked(label.episode.uid)
        withdrawal = Label.objects.filter(withdraws=label).first()
        if withdrawal is not None:
            return withdrawal
        withdrawal = Label.objects.create(
            uid=uid,
            episode=label.episode,
            operator=operator,
            outcome="",
            withdraws=label,
            source=label.source,
        )
        _settle(label.episode)
        return withdrawal


def label_many(*, episode_uids: Sequence[UUID], operator: Operator, outcome: str) -> list[Label]:
    """Give several closed episodes the same label, all or none; return the labels.

    An episode that this operator judged the same before keeps that label: calling it twice changes
    nothing. Locks the episodes' rows.

    Raises:
        Unprocessable: None, or more than `MAX_BULK`.
        NotFound, Conflict: As `add_label` raises them; then nothing was labelled.
    """
    uids = sorted(set(episode_uids))
    if not 0 < len(uids) <= MAX_BULK:
        raise Unprocessable(f"choose 1 to {MAX_BULK} episodes, not {len(uids)}")
    with transaction.atomic():
        # All before the first is counted: the lock for counting comes after those of episodes.
        list(Episode.objects.select_for_update().filter(uid__in=uids).order_by("uid"))
        return [
            add_label(episode_uid=uid, operator=operator, outcome=outcome, source=Source.BULK)
            for uid in uids
        ]


def _locked(uid: UUID) -> Episode:
    episode = Episode.objects.select_for_update().filter(uid=uid).first()
    if episode is None:
        raise NotFound(f"no episode {uid}")
    return episode


def _standing(episode: Episode) -> Label | None:
    own = episode.labels.filter(withdraws__isnull=True, withdrawal__isnull=True)
    return own.order_by("-id").first()


def _known(uid: UUID | None, episode: Episode, operator: Operator) -> Label | None:
    if uid is None:
        return None
    known = Label.objects.filter(uid=uid).first()
    if known is None or (known.episode_id, known.operator_id) == (episode.pk, operator.pk):
        return known
    raise Conflict(f"label {uid} is another judgement; name this one anew")


def _create(
    episode: Episode, operator: Operator, verdict: Verdict, *, uid: UUID | None, source: str
) -> Label:
    flawed = verdict.outcome in FLAWED
    if not flawed and (verdict.failure_step is not None or verdict.reason):
        raise Unprocessable(f"{verdict.outcome} has no point and no reason of failure")
    if verdict.failure_step is not None and not 0 <= verdict.failure_step < episode.steps:
        last = episode.steps - 1
        raise Unprocessable(f"the episode has steps 0 to {last}, not {verdict.failure_step}")
    label = Label(
        uid=uid,
        episode=episode,
        operator=operator,
        outcome=verdict.outcome,
        failure_step=verdict.failure_step,
        reason=verdict.reason,
        note=verdict.note,
        source=source,
    )
    try:
        label.clean_fields()
    except ValidationError as error:
        name, words = next(iter(error.message_dict.items()))
        raise Unprocessable(f"{name}: {words[0]}") from None
    try:
        with transaction.atomic():
            label.save()
    except IntegrityError:
        # No outcome at all, or the same name given to another episode at the same moment.
        raise Conflict("the label is not one; nothing was stored") from None
    _settle(episode)
    return label


def _settle(episode: Episode) -> None:
    """Make the kept judgement what the standing labels say; the episode's row is locked."""
    last = _standing(episode)
    judged = last.outcome if last else ""
    before = Episode.objects.values_list("judged_outcome", flat=True).get(pk=episode.pk)
    Episode.objects.filter(pk=episode.pk).update(judged_outcome=judged)
    rollups.move_outcome(episode, before=before or episode.outcome, after=judged or episode.outcome)
