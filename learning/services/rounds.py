"""One round of a learner: train for some seconds, index, publish and report meanwhile.

Nothing is written per step: rows are written about once a second, weights when they are due.
Loads `learning.core`, so only a worker may run it.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from django.utils import timezone

from learning import blobs
from learning.exceptions import StoreUnavailable
from learning.models import Learner, Round
from learning.services import learners
from learning.services.buffers import gate_observations
from learning.services.curves import Curves
from learning.services.learners import Claim
from learning.services.policies import publish_version
from learning.services.warm import Warm, warm_learner

logger = logging.getLogger(__name__)

# How often a round looks for new episodes and for a pause.
POLL_S = 0.25
# How often it renews its lease and writes what was first used.
WRITE_S = 1.0
METRIC_S = 2.0
# How often the gate's held-out frames are chosen anew.
GATE_FRAMES_S = 60.0
# Nothing to learn, or ahead of the allowed rate: look again after at most this long.
IDLE_S = 0.05


def run_round(
    claim: Claim,
    *,
    seconds: float,
    max_steps: int | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Round:
    """Run one claimed round to its end; return its row.

    Afterwards a checkpoint is durable, the lease is given back, and the learner stays warm in this
    process. It ends after `seconds`, after `max_steps`, when the learner is paused, or when
    `stopping` says so, each within `POLL_S` or one step. A store that is down delays publications
    and the checkpoint but not the training.

    Raises:
        LeaseLost: Another round took over; nothing was written since.
    """
    with warm_learner(claim) as warm:
        _Run(claim, warm).go(seconds, max_steps, stopping)
    return Round.objects.get(pk=claim.round_id)


class _Run:
    """The state of one running round."""

    def __init__(self, claim: Claim, warm: Warm) -> None:
        self.claim, self.warm = claim, warm
        self.recipe, self.trainer, self.indexer = warm.recipe, warm.trainer, warm.indexer
        self.first_step = self.trainer.step_number
        self.curves = Curves(self.trainer, self.indexer)
        self.used: dict[str, tuple[Any, int]] = {}
        self.published = 0
        self.train_s = self.gather_s = self.idle_s = 0.0
        self.indexed = 0
        self.note = ""
        self.running = True
        self.last_loss: float | None = None

    def go(self, seconds: float, max_steps: int | None, stopping: Callable[[], bool]) -> None:
        started = time.monotonic()
        polled = written = measured = float("-inf")
        allowed_at = started
        while self.running and not stopping():
            now = time.monotonic()
            if now - started >= seconds or self.steps >= (max_steps or self.steps + 1):
                break
            if now - polled >= POLL_S:
                self._poll()
                polled = now
                if not self.running:
                    break
            if now - written >= WRITE_S:
                self._write()
                written = now
            if now - measured >= METRIC_S:
                self._measure()
                measured = now
            if self._publish_due(now):
                self._publish()
            if now < allowed_at:
                self._idle(min(allowed_at - now, IDLE_S))
            elif self._step() and self.recipe.updates_per_s:
                # A pause is not made up for by a burst.
                allowed_at = max(allowed_at, now - 1.0) + 1.0 / self.recipe.updates_per_s
        self._write()
        self._measure()
        self._checkpoint()
        self._end(time.monotonic() - started)

    @property
    def steps(self) -> int:
        return self.trainer.step_number - self.first_step

    def _poll(self) -> None:
        state = Learner.objects.values_list("state", flat=True).get(pk=self.claim.learner_id)
        if state != Learner.State.RUNNING:
            self.running, self.note = False, "paused"
            return
        try:
            self.indexed += self.indexer.poll()
            self.indexer.relabel()
            self.indexer.review()
        except StoreUnavailable as error:
            self.note = str(error)

    def _write(self) -> None:
        learners.renew(self.claim, step=self.trainer.step_number)
        self.indexer.note_first_use(self.claim, self.used)
        self.used = {}

    def _measure(self) -> None:
        values = self.curves.take(idle_s=self.idle_s, gather_s=self.gather_s)
        if values is not None:
            learners.add_metric(self.claim, step=self.trainer.step_number, values=values)

    def _idle(self, seconds: float) -> None:
        time.sleep(seconds)
        self.idle_s += seconds

    def _step(self) -> bool:
        from learning.core.trainer import NothingToLearn

        try:
            report = self.trainer.step()
        except NothingToLearn:
            waits = self.trainer.learner.uses_indicators and self.warm.threshold_id is None
            self.note = "waits for a value function" if waits else "nothing to learn from yet"
            self._idle(IDLE_S)
            return False
        if report.first_used:
            at = timezone.now()
            self.used.update(dict.fromkeys(report.first_used, (at, report.step)))
        self.gather_s += report.gather_s
        self.train_s += report.gather_s + report.update_s
        self.last_loss = report.loss
        self.curves.add(report)
        return True

    def _publish_due(self, now: float) -> bool:
        return (
            self.trainer.step_number - self.warm.published_step >= self.recipe.publish_steps
            and now - self.warm.published_at >= self.recipe.publish_every_s
        )

    def _publish(self) -> None:
        from learning.core.gate import sanity_gate
        from learning.core.policies.base import save_policy

        warm, policy = self.warm, self.trainer.learner.policy
        # Also after a failure: a store that is down is tried again at the next time due.
        warm.published_at = time.monotonic()
        # Weights that robots run can always be trained on from: first what resumes them.
        if not self._checkpoint():
            return
        if warm.published_at - warm.gate_frames_at >= GATE_FRAMES_S or not warm.gate_frames:
            warm.gate_frames = gate_observations(policy.config)
            warm.gate_frames_at = warm.published_at
        result = sanity_gate(policy, warm.gate_frames, self.last_loss)
        try:
            version = publish_version(
                self.claim,
                artifact=save_policy(policy, base=warm.base),
                gate={
                    "passed": result.passed,
                    "reason": result.reason,
                    "low": list(result.low),
                    "high": list(result.high),
                    "frames": len(warm.gate_frames),
                    "loss": self.last_loss,
                    **self.trainer.learner.report(warm.gate_frames),
                },
                passed=result.passed,
                step=self.trainer.step_number,
                trained_seq=self.indexer.cursor,
            )
        except StoreUnavailable as error:
            self.note = str(error)
            return
        warm.published_step = self.trainer.step_number
        if result.passed:
            self.published += 1
        else:
            self.note = f"version {version.number} was rejected: {result.reason}"
            logger.warning("learner %s: %s", self.claim.learner_id, self.note)

    def _checkpoint(self) -> bool:
        warm = self.warm
        data = self.trainer.checkpoint()
        try:
            sha256 = blobs.store().put(data)
        except StoreUnavailable as error:
            self.note = f"no checkpoint: {error}"
            logger.warning("learner %s: %s", self.claim.learner_id, self.note)
            return False
        learners.save_checkpoint(
            self.claim,
            sha256=sha256,
            step=self.trainer.step_number,
            trained_seq=self.indexer.cursor,
        )
        if warm.checkpoint_sha256 not in ("", sha256):
            try:
                blobs.store().delete(warm.checkpoint_sha256)
            except StoreUnavailable:
                logger.info("checkpoint %s is left to the sweep", warm.checkpoint_sha256)
        warm.checkpoint_sha256 = sha256
        return True

    def _end(self, took_s: float) -> None:
        waited_s = min(took_s, self.idle_s + self.gather_s)
        learners.end_round(
            self.claim,
            state=Round.State.DONE,
            note=self.note,
            first_step=self.first_step,
            steps=self.steps,
            train_s=self.train_s,
            overhead_s=max(0.0, took_s - self.train_s - self.idle_s),
            wait_share=waited_s / took_s if took_s > 0 else 0.0,
            episodes_indexed=self.indexed,
            versions_published=self.published,
        )
