"""Curves of a running round: what happened since the last point, as plain numbers."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from learning.core.trainer import StepReport, Trainer
    from learning.services.buffers import Indexer


class Curves:
    """Collects reports of steps and turns them into the values of a `LearnerMetric`."""

    def __init__(self, trainer: Trainer, indexer: Indexer) -> None:
        """Report on `trainer`."""
        self._trainer, self._indexer = trainer, indexer
        self._taken_at = time.monotonic()
        self._waited_s = 0.0
        self._reset()

    def _reset(self) -> None:
        self._steps = 0
        self._skipped = 0
        self._loss = 0.0
        self._losses: dict[tuple[str, bool], list[float]] = defaultdict(list)
        self._last: StepReport | None = None

    def add(self, report: StepReport) -> None:
        """Count one step."""
        self._steps += 1
        self._last = report
        if not report.applied:
            self._skipped += 1
            return
        self._loss += report.loss
        for stratum, loss in report.losses.items():
            self._losses[stratum].append(loss)

    def take(self, *, idle_s: float, gather_s: float) -> dict[str, Any] | None:
        """Return the point since the last call, or None when no step was taken.

        Args:
            idle_s: Seconds the round has waited so far, for data or for its update rate.
            gather_s: Seconds it has waited so far for batches.
        """
        if self._last is None:
            return None
        now = time.monotonic()
        took_s = max(now - self._taken_at, 1e-9)
        stats = self._trainer.buffer.stats()
        applied = self._steps - self._skipped
        mixtures = self._last.mixtures
        values = {
            "loss": self._loss / applied if applied else None,
            "loss_online": self._means(online=True),
            "loss_offline": self._means(online=False),
            "omega_raw": {m.task: m.raw for m in mixtures},
            "omega": {m.task: m.omega for m in mixtures},
            "l_on": {m.task: m.online_loss for m in mixtures},
            "l_off": {m.task: m.offline_loss for m in mixtures},
            "frames_online": sum(n for (_, online), n in stats.samples.items() if online),
            "frames_offline": sum(n for (_, online), n in stats.samples.items() if not online),
            "episodes_online": self._indexer.online_episodes,
            "episodes_offline": self._indexer.offline_episodes,
            "index_bytes": stats.index_bytes,
            "payload_bytes": stats.payload_bytes,
            "cached_bytes": stats.cached_bytes,
            "unreadable": stats.unreadable,
            "steps_per_s": self._steps / took_s,
            "wait_share": min(1.0, max(0.0, (idle_s + gather_s - self._waited_s) / took_s)),
            "skipped": self._skipped,
            "trained_seq": self._indexer.cursor,
            **self._last.scalars,
        }
        self._taken_at, self._waited_s = now, idle_s + gather_s
        self._reset()
        return _finite(values)

    def _means(self, *, online: bool) -> dict[str, float]:
        return {
            task: math.fsum(losses) / len(losses)
            for (task, side), losses in self._losses.items()
            if side == online
        }


def _finite(value: Any) -> Any:
    # JSON has no NaN, and PostgreSQL refuses it.
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
