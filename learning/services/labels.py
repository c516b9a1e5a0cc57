"""Labels: people's judgements on finished episodes, append-only."""

from uuid import UUID

from django.db import transaction

from fleet.models import Operator
from learning.exceptions import Conflict, NotFound
from learning.models import Episode, Label


def add_label(*, episode_uid: UUID, operator: Operator, outcome: str, note: str = "") -> Label:
    """Judge a closed episode; afterwards `outcome` is the one in force.

    Called twice with the same judgement by the same operator, it returns the first row. Locks the
    episode's row, so that labels of one episode have one order.

    Raises:
        NotFound: No such episode.
        Conflict: The episode is still open: its robot has the first word.
    """
    with transaction.atomic():
        episode = Episode.objects.select_for_update().filter(uid=episode_uid).first()
        if episode is None:
            raise NotFound(f"no episode {episode_uid}")
        if not episode.closed:
            raise Conflict(f"episode {episode_uid} is still open")
        last = episode.labels.order_by("-id").first()
        if last is not None and (last.operator_id, last.outcome, last.note) == (
            operator.pk,
            outcome,
            note,
        ):
            return last
        label = episode.labels.create(operator=operator, outcome=outcome, note=note)
        settle_judgement(episode)
        return label


def settle_judgement(episode: Episode) -> None:
    """Make the kept judgement of an episode what its labels say; call it with the row locked."""
    last = episode.labels.order_by("-id").values_list("outcome", flat=True).first()
    Episode.objects.filter(pk=episode.pk).update(judged_outcome=last or "")
