"""From the database to a buffer: closed episodes, in the order of their cursor, once each.

Loads `learning.core`, so only inside functions: the web process must not import torch.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING

from django.db import transaction

from fleet.protocol.episode import (
    BadEpisode,
    EpisodeManifest,
    Part,
    PartRef,
    open_part,
)
from learning import blobs
from learning.exceptions import BlobMissing
from learning.models import Episode, EpisodeUse, Label, SpanReview
from learning.models.episodes import Purpose
from learning.selectors.episodes import closed_after, last_closed_seq, trainable_after
from learning.services.learners import Claim, hold

if TYPE_CHECKING:
    from learning.core.buffer import ReplayBuffer
    from learning.core.policies.base import PolicyConfig
    from learning.core.records import EpisodeRecord
    from learning.core.types import Observation
    from learning.services.sidecars import Annotator

logger = logging.getLogger(__name__)

# Episodes read at a time: a cold start of many thousands renews its lease in between.
PAGE = 200
GATE_EPISODES = 6
GATE_FRAMES = 2


class Indexer:
    """Keeps a buffer up to date with the database, and knows the rows behind its episodes."""

    def __init__(
        self, buffer: ReplayBuffer, config: PolicyConfig, annotator: Annotator | None = None
    ) -> None:
        """Fill `buffer`, for a policy of `config`; with indicators where there is an annotator."""
        self.buffer = buffer
        self._annotator = annotator
        self._newest_label = _last_label() if annotator is not None else 0
        self._newest_review = _last_review()
        # Every closed episode up to here is indexed, or will never be.
        self.cursor = 0
        self.online_episodes = 0
        self.offline_episodes = 0
        self._config = config
        self._pk: dict[str, int] = {}
        # The newest closed episode when everything up to it was last read.
        self._newest = 0

    def poll(self, *, upto: int | None = None, limit: int = PAGE) -> int:
        """Index what closed since, in order, at most `limit` episodes; return how many it read.

        Args:
            upto: Stop at this cursor: to rebuild what a checkpoint was trained from.
            limit: Episodes to read now; fewer were there when fewer are returned.

        Raises:
            StoreUnavailable: The rest is read at the next poll.
        """
        # One row by its key: most polls find nothing, and each costs a gradient step its time.
        newest = last_closed_seq()
        if newest == self._newest:
            return 0
        episodes = trainable_after(self.cursor)
        if upto is not None:
            episodes = episodes.filter(closed_seq__lte=upto)
        found = list(episodes[:limit])
        for episode in found:
            self._add(episode)
            self.cursor = episode.closed_seq
        if upto is None and len(found) < limit:
            self._newest = newest
        return len(found)

    def _add(self, episode: Episode) -> None:
        from learning.core.records import NotTrainable

        try:
            record = self._record(episode)
            self.buffer.add(record)
        except (NotTrainable, BadEpisode, BlobMissing) as error:
            logger.error("episode %s is not indexed: %s", episode.uid, error)
            return
        self._pk[str(episode.uid)] = episode.pk
        if record.online:
            self.online_episodes += 1
        else:
            self.offline_episodes += 1

    def _record(self, episode: Episode) -> EpisodeRecord:
        record = record_of(episode, self._config)
        if self._annotator is None:
            return record
        from learning.core.sidecar import with_annotation

        return with_annotation(record, self._annotator.annotation(episode, record))

    def relabel(self) -> int:
        """Give episodes that were judged anew their new indicators; return how many.

        Only their own sidecars are derived again, from the values they have. An episode that
        nobody had judged before becomes a sample when the buffer is next filled from the start.

        Raises:
            StoreUnavailable: The rest is read at the next call.
        """
        if self._annotator is None or (newest := _last_label()) == self._newest_label:
            return 0
        judged = trainable_after(0).filter(
            pk__in=Label.objects.filter(pk__gt=self._newest_label).values("episode_id"),
            closed_seq__lte=self.cursor,
        )
        count = 0
        for episode in judged:
            uid = str(episode.uid)
            if uid in self.buffer:
                record = record_of(episode, self._config)
                annotation = self._annotator.annotation(episode, record)
                self.buffer.relabel(uid, annotation.indicator)
                count += 1
        self._newest_label = newest
        return count

    def review(self) -> int:
        """Take over what people discarded, trimmed or marked since; return in how many episodes.

        Only these episodes' own steps are chosen anew. From then on no step that was left out is
        drawn, nor is it a target of a step before it; what was learned from it stays learned.

        Raises:
            StoreUnavailable: The rest is read at the next call.
        """
        from learning.core.records import NotTrainable

        # One row by its key: most polls find nothing.
        if (newest := _last_review()) == self._newest_review:
            return 0
        entries = SpanReview.objects.filter(pk__gt=self._newest_review, pk__lte=newest)
        reviewed = trainable_after(0).filter(
            uid__in=entries.values("episode_uid"), closed_seq__lte=self.cursor
        )
        count = 0
        for episode in reviewed:
            if str(episode.uid) not in self.buffer:
                continue
            try:
                self.buffer.revise(self._record(episode))
            except (NotTrainable, BadEpisode, BlobMissing) as error:
                logger.error("episode %s is not chosen anew: %s", episode.uid, error)
                continue
            count += 1
        self._newest_review = newest
        return count

    def note_first_use(self, claim: Claim, used: dict[str, tuple[datetime, int]]) -> None:
        """Record when each episode was first trained on, and at which step; the first one stays.

        One row for this learner, which is an episode's lineage, and on the episode itself the
        first of all learners. Raises LeaseLost.
        """
        if not used:
            return
        rows = [
            Episode(pk=self._pk[uid], first_trained_at=at, first_trained_step=step)
            for uid, (at, step) in used.items()
        ]
        with transaction.atomic():
            learner = hold(claim)
            uses = [
                EpisodeUse(
                    episode_id=self._pk[uid],
                    learner=learner,
                    branch=learner.branch,
                    step=step,
                    at=at,
                )
                for uid, (at, step) in used.items()
            ]
            Episode.objects.filter(first_trained_at__isnull=True).bulk_update(
                rows, ["first_trained_at", "first_trained_step"], batch_size=100
            )
            EpisodeUse.objects.bulk_create(uses, batch_size=100, ignore_conflicts=True)


def _last_label() -> int:
    return Label.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


def _last_review() -> int:
    # Numbers of entries grow in commit order (services.corrections): none is ever missed.
    return SpanReview.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


def open_stored(sha256: str) -> Part:
    """Return a stored part, memory-mapped. Raises BadEpisode, BlobMissing and StoreUnavailable."""
    return open_part(str(blobs.store().local_path(sha256)))


def record_of(episode: Episode, config: PolicyConfig | None) -> EpisodeRecord:
    """Return what the index needs to know of a closed episode, with the outcome in force, and what
    people say of its corrections now.

    Without `config` it is not compared with what a policy sees.

    Raises:
        NotTrainable: Recorded by another embodiment than `config` is for.
        BadEpisode, BlobMissing, StoreUnavailable: As `open_stored` raises them.
    """
    from learning.core.records import (
        NotTrainable,
        ReviewedSpan,
        SpanMark,
        record_from,
        with_spans,
    )

    rows = sorted(episode.parts.all(), key=lambda part: part.index)
    parts = [open_stored(row.sha256) for row in rows]
    header = parts[0].header
    cameras = {camera.name for camera in header.spec.cameras}
    sizes = (len(header.spec.state_names), len(header.spec.action_names))
    if config is not None and (
        sizes != (config.state_dim, config.action_dim) or not cameras.issuperset(config.cameras)
    ):
        raise NotTrainable(f"it has {sizes} states and actions and cameras {sorted(cameras)}")
    manifest = EpisodeManifest(
        header=header,
        ended_wall_ns=0,
        steps=episode.steps,
        outcome=episode.outcome_in_force,
        judge=episode.judge,
        parts=tuple(
            PartRef(
                index=row.index,
                sha256=row.sha256,
                size_bytes=row.size_bytes,
                first_step=row.first_step,
                steps=row.steps,
            )
            for row in rows
        ),
        complete=episode.complete,
        control_period_s=episode.control_period_s,
    )
    record = record_from(manifest, parts, closed_seq=episode.closed_seq)
    spans = [
        ReviewedSpan(
            span.start, span.end, span.kept_start, span.kept_end, SpanMark[span.mark.upper()]
        )
        for span in episode.interventions.all()
    ]
    return with_spans(record, spans) if spans else record


def gate_observations(config: PolicyConfig) -> list[Observation]:
    """Return what the gate looks at: a few frames of the newest held-out episodes.

    While there are none yet, frames of the newest others: a check on frames that were trained on
    still catches weights that are broken. Frames that cannot be read are left out.
    """
    held_out = list(_newest().filter(purpose=Purpose.EVAL)[:GATE_EPISODES])
    episodes = held_out or list(_newest()[:GATE_EPISODES])
    return [observation for episode in episodes for observation in _frames(episode, config)]


def _newest():
    return (
        closed_after(0)
        .filter(steps__gt=0)
        .order_by("-closed_seq")
        .prefetch_related("parts", "interventions")
    )


def _frames(episode: Episode, config: PolicyConfig) -> list[Observation]:
    from learning.core.decode import BadImage
    from learning.core.payload import observations_of
    from learning.core.records import NotTrainable

    try:
        record = record_of(episode, config)
        part = open_stored(record.parts[0].sha256)
        shown = [i for i in range(part.table.num_rows) if record.has_image[i] or not config.cameras]
        stride = max(1, len(shown) // GATE_FRAMES)
        return observations_of(part, config.cameras, shown[::stride][:GATE_FRAMES])
    except (NotTrainable, BadEpisode, BadImage, BlobMissing) as error:
        logger.warning("episode %s is no good for the gate: %s", episode.uid, error)
        return []
