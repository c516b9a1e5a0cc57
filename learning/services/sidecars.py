"""Sidecars of episodes: derived where they are missing, from as little as possible.

Loads `learning.core`, so only inside functions: the web process must not import torch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from django.conf import settings
from django.utils import timezone

from fleet.protocol.episode import BadEpisode
from learning import blobs
from learning.exceptions import (
    BlobMissing,
    LearningError,
    LeaseLost,
    NotFound,
    StoreUnavailable,
    Unprocessable,
)
from learning.models import Episode, Learner, Sidecar, ThresholdVersion, ValueVersion
from learning.selectors.episodes import last_closed_seq, trainable_after
from learning.selectors.learners import published
from learning.selectors.values import threshold_in_force
from learning.services import values
from learning.services.buffers import PAGE, open_stored, record_of
from learning.services.values import Cancelled, ValueClaim

if TYPE_CHECKING:
    from learning.core.policies.base import PolicyConfig
    from learning.core.records import EpisodeRecord
    from learning.core.sidecar import Annotation
    from learning.core.value import ValueFunction

logger = logging.getLogger(__name__)

REPORT_S = 1.0


class Annotator:
    """Gives episodes their annotation under one threshold; loads the network only when needed."""

    def __init__(self, threshold: ThresholdVersion, policy: PolicyConfig | None) -> None:
        """Annotate under `threshold`, for a policy of `policy`; None: no network is ever run."""
        self.threshold = threshold
        self._policy = policy
        self._network: ValueFunction | None = None

    def annotation(self, episode: Episode, record: EpisodeRecord) -> Annotation:
        """Return the annotation of an episode with the outcome in force; stored afterwards.

        A sidecar that fits is read; else its values are taken from any of the same value function;
        only without one is the network run. Called twice, the second call reads.

        Raises:
            BlobMissing, StoreUnavailable: As the store raises them.
        """
        from learning.core.sidecar import annotate, decode_annotation

        own = Sidecar.objects.filter(episode=episode, value_id=self.threshold.value_id)
        fitting = own.filter(threshold=self.threshold, outcome=record.outcome).first()
        if fitting is not None:
            return decode_annotation(blobs.store().get(fitting.sha256))
        known = own.order_by("-id").first()
        if known is not None:
            value = decode_annotation(blobs.store().get(known.sha256)).value
        else:
            value = self._infer(record)
        annotation = annotate(
            record,
            value,
            epsilons=self.threshold.epsilons,
            horizon=horizon_of(self.threshold.value),
            value_number=self.threshold.value.number,
            threshold_number=self.threshold.number,
        )
        keep_sidecar(episode, self.threshold.value_id, self.threshold, annotation)
        return annotation

    def _infer(self, record: EpisodeRecord) -> Any:
        from learning.core.annotate import values_of
        from learning.core.value import load_value

        if self._policy is None:
            raise NotFound(f"episode {record.uid} has no values yet")
        if self._network is None:
            self._network = load_value(blobs.store().get(self.threshold.value.sha256))
        return values_of(self._network, record, open_stored, action_dim=self._policy.action_dim)


def derive_judged(episode_id: int) -> int:
    """Derive the sidecars of one episode anew for the outcome in force; return how many there are.

    For every learner's threshold in force, from the values there are: without torch, in a moment.
    An episode that was never valued gets its sidecar when a buffer first asks for it. Safe to
    repeat.

    Raises:
        BlobMissing, StoreUnavailable: As the store raises them.
    """
    episode = trainable_after(0).filter(pk=episode_id).first()
    if episode is None:
        return 0
    record = _record(episode, None)
    if record is None:
        return 0
    found = 0
    for learner in Learner.objects.filter(values_set__sidecars__episode=episode).distinct():
        threshold = threshold_in_force(learner)
        if threshold is None or not threshold.value.sidecars.filter(episode=episode).exists():
            continue
        Annotator(threshold, None).annotation(episode, record)
        found += 1
    return found


def keep_sidecar(
    episode: Episode, value_id: int, threshold: ThresholdVersion | None, annotation: Annotation
) -> Sidecar:
    """Store an annotation, then its row; called twice, the first row stays."""
    from learning.core.sidecar import encode_annotation
    from learning.core.types import Indicator

    sha256 = blobs.store().put(encode_annotation(annotation))
    row, _ = Sidecar.objects.get_or_create(
        episode=episode,
        value_id=value_id,
        threshold=threshold,
        outcome=annotation.origin.outcome,
        defaults={
            "sha256": sha256,
            "steps": len(annotation.value),
            "end_value": float(annotation.value[-1]) if len(annotation.value) else None,
            "positive_steps": int((annotation.indicator == Indicator.POSITIVE).sum()),
        },
    )
    return row


def horizon_of(value: ValueVersion) -> int:
    """Return N of a value function's advantages, in steps."""
    from learning.core.advantages import HORIZON

    return int(value.config.get("horizon", HORIZON))


def derive_threshold(threshold: ThresholdVersion) -> None:
    """Work out a threshold from stored values, and write the sidecars of every valued episode.

    Afterwards it is in force. The network is not run: an episode without values gets its sidecar
    when a buffer first asks for it. Safe to repeat; a label that changed meanwhile is derived
    again when it is read.

    Raises:
        Unprocessable: Its shares are none.
        StoreUnavailable: Try again.
    """
    from learning.core.sidecar import annotate, epsilons_of

    shares = _shares(threshold.shares)
    horizon = horizon_of(threshold.value)
    policy = policy_config_of(threshold.value.learner)
    found = list(_valued(threshold.value, policy))
    first = [
        (record, annotate(record, value, epsilons={}, horizon=horizon))
        for _, record, value in found
    ]
    threshold.epsilons = epsilons_of(first, shares)
    for episode, record, value in found:
        annotation = annotate(
            record,
            value,
            epsilons=threshold.epsilons,
            horizon=horizon,
            value_number=threshold.value.number,
            threshold_number=threshold.number,
        )
        keep_sidecar(episode, threshold.value_id, threshold, annotation)
    threshold.derived_at = timezone.now()
    threshold.save(update_fields=["epsilons", "derived_at"])


def _valued(value: ValueVersion, policy: PolicyConfig):
    """Yield each episode with values of this function: row, record in force, values."""
    from learning.core.sidecar import decode_annotation

    known = {}
    for row in Sidecar.objects.filter(value=value).order_by("id"):
        known[row.episode_id] = row.sha256
    for episode in trainable_after(0).filter(pk__in=known):
        record = _record(episode, policy)
        if record is not None:
            data = blobs.store().get(known[episode.pk])
            yield episode, record, decode_annotation(data).value


def run_value_job(
    claim: ValueClaim, *, stopping: Callable[[], bool] = lambda: False
) -> ValueVersion:
    """Fit a value function to every judged episode that is closed now; return its row.

    Afterwards its weights are stored, its held-out correlation is known, the episodes have sidecars
    with cross-fitted values, and its threshold is in force. A job that is cancelled, or whose
    worker is told to stop (`stopping`), leaves nothing.

    Raises:
        LeaseLost: Another worker took over; nothing was written since.
    """
    try:
        _run(claim, stopping)
    except Cancelled:
        values.end_value(claim, state=ValueVersion.State.CANCELLED)
    except _Stopping:
        values.give_value_back(claim)
    except LeaseLost:
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, LearningError | ValueError) else repr(error)
        values.end_value(claim, state=ValueVersion.State.FAILED, reason=reason)
        logger.exception("value function %s failed", claim.value_id)
    return ValueVersion.objects.get(pk=claim.value_id)


class _Stopping(Exception):
    """This worker shuts down."""


def _run(claim: ValueClaim, stopping: Callable[[], bool]) -> None:
    import torch

    from learning.core.advantages import FINE_TUNING, PRETRAINING
    from learning.core.sidecar import annotate, epsilons_of
    from learning.core.value import save_value
    from learning.core.value_training import fit_value

    torch.set_num_threads(settings.SOP_LEARNER_THREADS)
    row = ValueVersion.objects.select_related("learner").get(pk=claim.value_id)
    policy = policy_config_of(row.learner)
    fit_config, wanted = decode_value_config(row.config)
    upto = last_closed_seq()
    reported = float("-inf")

    def progress(share: float) -> None:
        nonlocal reported
        if stopping():
            raise _Stopping
        if time.monotonic() - reported >= REPORT_S:
            values.report_progress(claim, share)
            reported = time.monotonic()

    episodes = _closed(policy, upto, progress)
    fit = fit_value(
        [record for _, record in episodes], open_stored, policy, fit_config, progress=progress
    )
    sha256 = blobs.store().put(save_value(fit.value))
    horizon = horizon_of(row)
    own = [(e, r, fit.values[r.uid]) for e, r in episodes if r.uid in fit.values]
    annotated = [(r, annotate(r, v, epsilons={}, horizon=horizon)) for _, r, v in own]
    shares = wanted or (FINE_TUNING if any(r.online for _, r, _ in own) else PRETRAINING)
    epsilons = epsilons_of(annotated, shares)
    # An attempt that lost its lease may have left some, of other labels or fewer episodes.
    Sidecar.objects.filter(value=row).delete()
    for (episode, _, _), (_, annotation) in zip(own, annotated, strict=True):
        progress(1.0)
        # Values alone: the threshold's sidecars are derived from them when they are asked for.
        keep_sidecar(episode, row.pk, None, annotation)
    values.finish_value(
        claim,
        shares=msgspec.to_builtins(shares),
        epsilons=epsilons,
        sha256=sha256,
        fitted_seq=upto,
        episodes=fit.episodes,
        frames=fit.frames,
        correlation=_finite(fit.correlation),
        by_task={task: _finite(rho) for task, rho in fit.by_task.items()},
    )
    try:
        values.assign_newest_value()
    except StoreUnavailable as error:
        # The job is done; the sweep will tell the robots.
        logger.warning("value function %s is not assigned yet: %s", claim.value_id, error)


def _finite(number: float) -> float | None:
    # Constant returns have no rank; JSON has no NaN.
    return number if number == number else None


def _closed(
    policy: PolicyConfig, upto: int, progress: Callable[[float], None]
) -> list[tuple[Episode, EpisodeRecord]]:
    found, cursor = [], 0
    while True:
        page = list(trainable_after(cursor).filter(closed_seq__lte=upto)[:PAGE])
        for episode in page:
            progress(0.0)
            record = _record(episode, policy)
            if record is not None:
                found.append((episode, record))
            cursor = episode.closed_seq
        if len(page) < PAGE:
            return found


def _record(episode: Episode, policy: PolicyConfig | None) -> EpisodeRecord | None:
    from learning.core.records import NotTrainable

    try:
        return record_of(episode, policy)
    except (NotTrainable, BadEpisode, BlobMissing) as error:
        logger.warning("episode %s has no sidecar: %s", episode.uid, error)
        return None


def policy_config_of(learner: Learner) -> PolicyConfig:
    """Return what the learner's policies see. Raises NotFound when none was published."""
    from learning.core.policies.base import load_policy

    version = published(learner).first()
    if version is None:
        raise NotFound(f"learner {learner.name} has no policy yet; import one first")
    return load_policy(blobs.store().get(version.sha256)).config


def decode_value_config(config: dict[str, Any]) -> tuple[Any, Any]:
    """Return (FitConfig, Shares or None) of a job's configuration. Raises Unprocessable."""
    from learning.core.value_training import FitConfig

    known = {"horizon", "shares"}
    try:
        fit = msgspec.convert({k: v for k, v in config.items() if k not in known}, FitConfig)
    except msgspec.ValidationError as error:
        raise Unprocessable(f"configuration of the value function: {error}") from None
    return fit, _shares(config["shares"]) if "shares" in config else None


def _shares(shares: dict[str, Any]) -> Any:
    from learning.core.advantages import Shares

    try:
        return msgspec.convert(shares, Shares)
    except msgspec.ValidationError as error:
        raise Unprocessable(f"shares of positive steps: {error}") from None
