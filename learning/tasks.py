"""Celery tasks: rounds of learners, and the sweeps that make lost enqueues harmless.

A service writes rows whose state means that work is due; enqueueing it here only makes it prompt.
"""

import contextlib
import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from celery import Task, shared_task
from celery.worker import state
from django.conf import settings
from django.db import transaction
from kombu.exceptions import OperationalError

from learning.exceptions import LearningError
from learning.models import Learner
from learning.selectors.learners import due_learners
from learning.selectors.values import due_thresholds, due_values
from learning.services.canaries import advance_canaries
from learning.services.evaluations import advance_open
from learning.services.learners import claim_round, round_of
from learning.services.objects import sweep_orphans
from learning.services.policies import assign_pending
from learning.services.values import assign_newest_value, claim_value

logger = logging.getLogger(__name__)

# Of a round's message: longer than a round, so that it waits out one that is running; short enough
# that the sweeps of a night without a worker do not pile up.
MESSAGE_EXPIRES_S = 60.0
_nice = False


@shared_task(bind=True)
def run_round(self: Task, learner_id: int, after_epoch: int) -> None:
    """Run one round if it is still due, then make the next one prompt.

    A second delivery of the same message does nothing: the first one moved the epoch on.
    """
    from learning.services import rounds  # loads torch: only a worker may

    if not (self.request.called_directly or self.request.is_eager):
        _prepare_process()
    holder = f"{socket.gethostname()}:{os.getpid()}:{self.request.id}"
    claim = claim_round(learner_id, holder, after_epoch=after_epoch)
    if claim is None:
        return
    with round_of(claim):
        rounds.run_round(claim, seconds=settings.SOP_ROUND_S, stopping=_shutting_down)
    for learner in due_learners().filter(pk=learner_id):
        enqueue_round(learner)


@shared_task(bind=True)
def fit_value(self: Task, value_id: int) -> None:
    """Fit a value function if it is still due. A second delivery finds nothing to claim."""
    from learning.services import sidecars  # loads torch: only a worker may

    if not (self.request.called_directly or self.request.is_eager):
        _prepare_process()
    claim = claim_value(value_id, f"{socket.gethostname()}:{os.getpid()}:{self.request.id}")
    if claim is not None:
        sidecars.run_value_job(claim, stopping=_shutting_down)


@shared_task
def derive_thresholds() -> None:
    """Work out the thresholds that were asked for. Safe to repeat."""
    from learning.services import sidecars  # loads torch: only a worker may

    for threshold in due_thresholds():
        sidecars.derive_threshold(threshold)


@shared_task
def derive_judged(episode_ids: list[int]) -> None:
    """Derive the sidecars of episodes that were judged anew. Safe to repeat; loads no torch."""
    from learning.services import sidecars

    for episode_id in episode_ids:
        try:
            sidecars.derive_judged(episode_id)
        except LearningError as error:
            # The next round derives what it reads.
            logger.warning("episode %s is not derived yet: %s", episode_id, error)


@shared_task
def sweep() -> None:
    """Enqueue rounds that are due, assign what was not, go on with canaries and evaluations."""
    enqueue_due_rounds()
    enqueue_value_work()
    advance_canaries()
    assign_pending()
    try:
        assign_newest_value()
    except LearningError as error:
        logger.warning("no value function is assigned: %s", error)
    advance_open()


@shared_task
def sweep_objects() -> int:
    """Delete objects that no row names."""
    deleted = sweep_orphans()
    if deleted:
        logger.info("deleted %d objects that no row names", deleted)
    return deleted


def enqueue_due_rounds() -> None:
    """Enqueue the next round of every learner that has one due. Never raises for a dead broker."""
    for learner in due_learners():
        enqueue_round(learner)


def enqueue_value_work() -> None:
    """Enqueue value functions and thresholds that are due, on commit. A dead broker is fine."""

    def send() -> None:
        try:
            for value in due_values():
                fit_value.apply_async((value.pk,), expires=MESSAGE_EXPIRES_S, retry=False)
            if due_thresholds().exists():
                derive_thresholds.apply_async((), expires=MESSAGE_EXPIRES_S, retry=False)
        except OperationalError as error:
            logger.warning("could not enqueue a value function: %s", error)

    transaction.on_commit(send)


def enqueue_derivation(episode_ids: Sequence[int]) -> None:
    """Have episodes that were judged derived anew, on commit. A dead broker is fine.

    What gets lost is derived by the next round that reads the episode.
    """

    def send() -> None:
        try:
            derive_judged.apply_async((list(episode_ids),), expires=MESSAGE_EXPIRES_S, retry=False)
        except OperationalError as error:
            logger.warning("could not enqueue sidecars: %s", error)

    transaction.on_commit(send)


def enqueue_round(learner: Learner) -> None:
    """Enqueue one round when the transaction commits. A lost message costs a sweep's period."""

    def send() -> None:
        try:
            run_round.apply_async(
                (learner.pk, learner.lease_epoch), expires=MESSAGE_EXPIRES_S, retry=False
            )
        except OperationalError as error:
            logger.warning("could not enqueue a round of %s: %s", learner.name, error)

    transaction.on_commit(send)


def _shutting_down() -> bool:
    # A worker told to stop waits for its task: ending the round now saves its checkpoint in time.
    # Celery sets an exit status, which is 0 for a warm shutdown: compare by identity.
    asked = (state.should_stop, state.should_terminate)
    return any(value is not None and value is not False for value in asked)


def _prepare_process() -> None:
    global _nice
    if not _nice:
        # Robots on the same machine keep their period; the learner takes what is left.
        os.nice(10)
        # Linux weighs sessions before processes, and the supervisor gives each process its own:
        # niceness alone changed nothing between them (0.64 s of CPU against 0.76 s, measured).
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text("10")
        _nice = True
