"""Learners in this process's memory between rounds, and how one gets there from its checkpoint.

Loads `learning.core`, so only inside functions: the web process must not import torch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from django.conf import settings

from learning import blobs
from learning.exceptions import NotFound
from learning.models import Learner, PolicyVersion, ThresholdVersion, ValueVersion
from learning.selectors.branches import origin_of, parent_for
from learning.selectors.learners import published
from learning.selectors.values import threshold_in_force
from learning.services import learners
from learning.services.buffers import Indexer, open_stored
from learning.services.learners import Claim
from learning.services.recipes import Recipe, decode_recipe
from learning.services.sidecars import Annotator
from learning.services.values import request_value

if TYPE_CHECKING:
    from learning.core.trainer import Trainer
    from learning.core.types import Observation

logger = logging.getLogger(__name__)


@dataclass
class Warm:
    """A learner in memory, as it was when the round of `epoch` ended."""

    epoch: int
    config: dict[str, Any]
    recipe: Recipe
    trainer: Trainer
    indexer: Indexer
    checkpoint_sha256: str
    published_step: int
    # On the monotonic clock; before the first publication, when the learner was loaded.
    published_at: float
    # The artifact that published versions are a part of; None where they are whole.
    base: bytes | None
    gate_frames: list[Observation]
    gate_frames_at: float = float("-inf")
    # Of the indicators in its buffer; None where the algorithm uses none, or there are none yet.
    threshold_id: int | None = None


_warm: dict[int, Warm] = {}


@contextmanager
def warm_learner(claim: Claim) -> Iterator[Warm]:
    """Provide the learner of a claimed round, and keep it for the next one if the block succeeds.

    One that this process has is used when nobody else claimed a round since and its configuration
    is the same; otherwise it is restored from the checkpoint, over the same episodes.

    Raises:
        NotFound: No base policy was imported.
        Unprocessable: The learner's configuration is none.
        BlobMissing, StoreUnavailable: The base policy or the checkpoint cannot be read.
    """
    warm = _load(claim)
    try:
        yield warm
    except BaseException:
        # Half a round is not the checkpoint's state: the next one restores.
        _warm.pop(claim.learner_id, None)
        raise
    warm.epoch = claim.epoch
    _warm[claim.learner_id] = warm


def forget_warm() -> None:
    """Drop every learner in this process's memory; the next rounds restore from checkpoints."""
    _warm.clear()


def _load(claim: Claim) -> Warm:
    learner = Learner.objects.get(pk=claim.learner_id)
    warm = _warm.get(claim.learner_id)
    if (
        warm is not None
        and warm.epoch == claim.previous_epoch
        and warm.config == learner.config
        and warm.checkpoint_sha256 == learner.checkpoint_sha256
        and warm.threshold_id == _threshold_id(learner, warm)
    ):
        return warm
    return _restore(claim, learner)


def _threshold_id(learner: Learner, warm: Warm) -> int | None:
    if not warm.trainer.learner.uses_indicators:
        return None
    threshold = threshold_in_force(learner)
    return threshold.pk if threshold is not None else None


def _threshold_for(learner: Learner) -> ThresholdVersion | None:
    """Return what indicators come from; ask for a value function when there never was one."""
    threshold = threshold_in_force(learner)
    if threshold is None and not ValueVersion.objects.filter(learner=learner).exists():
        request_value(learner)
    return threshold


def _restore(claim: Claim, learner: Learner) -> Warm:
    import torch

    from learning.core.allocation import keep_freed_memory
    from learning.core.buffer import ReplayBuffer
    from learning.core.checkpoint import decode_checkpoint
    from learning.core.compute import Compute
    from learning.core.learners.base import build_learner
    from learning.core.policies.base import load_policy
    from learning.core.policies.doubt_heads import with_doubt
    from learning.core.policies.freezing import train_only
    from learning.core.ranks import leader
    from learning.core.sampler import build_sampler
    from learning.core.trainer import Trainer

    torch.set_num_threads(settings.SOP_LEARNER_THREADS)
    keep_freed_memory()
    recipe = decode_recipe(learner.config)
    compute = Compute(**msgspec.structs.asdict(recipe.compute))
    base = blobs.store().get(_base_version(learner).sha256)
    origin = None if learner.checkpoint_sha256 else origin_of(learner)
    if origin is None:
        policy = load_policy(base)
    else:
        # Rebuilt from an older version: its weights, and nothing of what was learned since.
        policy = load_policy(blobs.store().get(origin.sha256), lambda _: base)
    train_only(policy, recipe.trains)
    policy = compute.place(with_doubt(policy, recipe.doubt_heads, seed=recipe.seed))
    algorithm = build_learner(learner.algorithm, policy, recipe.learner)
    buffer = ReplayBuffer(policy.config, algorithm, open_stored, cache_bytes=recipe.cache_bytes)
    threshold = _threshold_for(learner) if algorithm.uses_indicators else None
    annotator = Annotator(threshold, policy.config) if threshold is not None else None
    indexer = Indexer(buffer, policy.config, annotator)
    sampler = build_sampler(**msgspec.structs.asdict(recipe.sampler))
    trainer = Trainer(
        algorithm,
        buffer,
        sampler,
        seed=recipe.seed,
        batch_size=recipe.batch_size,
        compute=compute,
        leader=leader(),
    )
    if learner.checkpoint_sha256:
        data = blobs.store().get(learner.checkpoint_sha256)
        cursor = decode_checkpoint(data).meta.cursor
        while indexer.poll(upto=cursor):
            learners.renew(claim, step=learner.step)
        trainer.restore(data)
        logger.info("learner %s: restored at step %d", learner.name, trainer.step_number)
    elif origin is not None:
        trainer.step_number = origin.step
        logger.info("learner %s: goes on from v%d", learner.name, origin.number)
    latest = parent_for(learner)
    return Warm(
        epoch=claim.previous_epoch,
        config=learner.config,
        recipe=recipe,
        trainer=trainer,
        indexer=indexer,
        checkpoint_sha256=learner.checkpoint_sha256,
        published_step=latest.step if latest is not None else 0,
        published_at=time.monotonic(),
        base=base if recipe.trains else None,
        gate_frames=[],
        threshold_id=threshold.pk if threshold is not None else None,
    )


def _base_version(learner: Learner) -> PolicyVersion:
    base = published(learner).filter(round__isnull=True, step=0).order_by("number").first()
    if base is None:
        raise NotFound(f"learner {learner.name} has no base policy; import one first")
    return base
