"""Which samples make up a batch: tasks uniformly, online against offline by how each is learned.

`AdaptiveSampler` is SOP's (arXiv 2601.03044): per task, online data is drawn the more often the
higher its recent loss is above the offline one. Behind the same protocol are what it is compared
with: `FixedMixture` (half and half, as RLPD has it) and `FrameUniform` (no mixing at all).

Departures, all stated in docs/learners.md: alpha = 2; an empty buffer is never drawn from, in
place of a clipped share; 0.5 until both losses are known; fewer than W losses give the mean of
those there are; `normalise`, off by default, because at losses of 0.03 to 0.05 the formula as
printed stays within 0.02 of a half.
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np

# Of a task's samples: offline, online.
_SIDES = (False, True)


class Strata(Protocol):
    """What a sampler needs to know of a buffer."""

    tasks: list[str]

    def size(self, task: int, *, online: bool) -> int:
        """Return how many samples a task has online or offline."""


@dataclass(frozen=True, slots=True)
class TaskMixture:
    """How one task's draws are split, and why."""

    task: str
    # Share of online draws before and after clipping. `raw` is None where the formula does not
    # apply: a side is empty, or has no loss yet.
    raw: float | None
    omega: float
    # Means of the last W online and offline losses; None before the first.
    online_loss: float | None
    offline_loss: float | None
    online_losses: int
    offline_losses: int


class SamplerState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a sampler remembers, for a checkpoint."""

    kind: str
    # Task whose turn it is to get the next left-over draw.
    turn: int = 0
    # Task to its last losses, oldest first: (offline, online).
    windows: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {}


class Sampler(Protocol):
    """Decides the mixture of a batch."""

    def draw(
        self, strata: Strata, batch: int, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the task, int64 (b,), and the side, bool (b,), of each draw of a batch."""

    def observe(self, task: str, *, online: bool, loss: float) -> None:
        """Take note of the mean loss of a task's online or offline samples in one step."""

    def mixtures(self, strata: Strata) -> list[TaskMixture]:
        """Return how each task with samples is split now, in the buffer's order of tasks."""

    def state(self) -> SamplerState:
        """Return what a checkpoint must keep."""

    def load_state(self, state: SamplerState) -> None:
        """Go on from `state`. Raises ValueError when it is another kind's."""


def adaptive_omega(
    online_loss: float,
    offline_loss: float,
    *,
    alpha: float = 2.0,
    low: float = 0.2,
    high: float = 0.8,
) -> tuple[float, float]:
    """Return the raw and the clipped share of online draws.

    omega = exp(alpha l_on) / (exp(alpha l_on) + exp(l_off)) = sigmoid(alpha l_on - l_off),
    computed as the sigmoid because the quotient overflows at large losses.

    Source:
        SOP (arXiv 2601.03044), adaptive sampling: alpha > 1, clipped to [0.2, 0.8].
    """
    x = alpha * online_loss - offline_loss
    raw = 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))
    return raw, min(max(raw, low), high)


def split_evenly(tasks: Sequence[int], batch: int, turn: int) -> tuple[np.ndarray, int]:
    """Deal `batch` draws to `tasks` evenly; what is left over goes round.

    Returns:
        The task of each draw, int64 (b,), and the turn of the next call.
    """
    each, left = divmod(batch, len(tasks))
    counts = np.full(len(tasks), each)
    counts[(turn + np.arange(left)) % len(tasks)] += 1
    return np.repeat(np.asarray(tasks, np.int64), counts), (turn + left) % len(tasks)


class _TaskUniform(ABC):
    """Draws tasks uniformly; a subclass says how a task with both sides is split."""

    kind = ""

    def __init__(self, *, window: int = 200) -> None:
        """Remember the last `window` losses of each task's sides."""
        self._window = window
        self._turn = 0
        self._losses: dict[str, tuple[deque[float], deque[float]]] = {}

    def _windows(self, task: str) -> tuple[deque[float], deque[float]]:
        if task not in self._losses:
            self._losses[task] = (deque(maxlen=self._window), deque(maxlen=self._window))
        return self._losses[task]

    @abstractmethod
    def _split(self, offline: deque[float], online: deque[float]) -> tuple[float | None, float]:
        """Return the raw and the final share of online draws of a task that has both sides."""

    def _mixture(self, strata: Strata, task: int) -> TaskMixture | None:
        """Return the split of a task, or None when it has no samples."""
        offline_size, online_size = (strata.size(task, online=side) for side in (False, True))
        if not offline_size and not online_size:
            return None
        offline, online = self._windows(strata.tasks[task])
        if not online_size:
            raw, omega = None, 0.0
        elif not offline_size:
            raw, omega = None, 1.0
        else:
            raw, omega = self._split(offline, online)
        return TaskMixture(
            task=strata.tasks[task],
            raw=raw,
            omega=omega,
            online_loss=math.fsum(online) / len(online) if online else None,
            offline_loss=math.fsum(offline) / len(offline) if offline else None,
            online_losses=len(online),
            offline_losses=len(offline),
        )

    def draw(
        self, strata: Strata, batch: int, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the task and the side of each draw; the buffer must hold a sample."""
        omegas = {}
        for task in range(len(strata.tasks)):
            mixture = self._mixture(strata, task)
            if mixture is not None:
                omegas[task] = mixture.omega
        tasks, self._turn = split_evenly(list(omegas), batch, self._turn)
        omega = np.array([omegas[task] for task in tasks.tolist()])
        return tasks, generator.random(batch) < omega

    def observe(self, task: str, *, online: bool, loss: float) -> None:
        """Append a loss to its window; one that is not finite is left out."""
        if math.isfinite(loss):
            self._windows(task)[online].append(loss)

    def mixtures(self, strata: Strata) -> list[TaskMixture]:
        """Return how each task with samples is split now."""
        found = (self._mixture(strata, task) for task in range(len(strata.tasks)))
        return [mixture for mixture in found if mixture is not None]

    def state(self) -> SamplerState:
        """Return the turn and the windows."""
        windows = {task: (tuple(off), tuple(on)) for task, (off, on) in self._losses.items()}
        return SamplerState(kind=self.kind, turn=self._turn, windows=windows)

    def load_state(self, state: SamplerState) -> None:
        """Go on from `state`. Raises ValueError when it is another kind's."""
        if state.kind != self.kind:
            raise ValueError(f"state of a {state.kind!r} sampler, this is {self.kind!r}")
        self._turn = state.turn
        self._losses = {}
        for task, sides in state.windows.items():
            for window, losses in zip(self._windows(task), sides, strict=True):
                window.extend(losses)


class AdaptiveSampler(_TaskUniform):
    """SOP's sampler: the online share of each task follows its losses."""

    kind = "adaptive"

    def __init__(
        self,
        *,
        alpha: float = 2.0,
        window: int = 200,
        low: float = 0.2,
        high: float = 0.8,
        normalise: bool = False,
    ) -> None:
        """Weigh online losses by `alpha` > 1 and clip the share to [low, high].

        Args:
            alpha: How much an online loss counts against an offline one.
            window: W, in learner steps with samples of that side.
            low: Least share of online draws of a task that has both.
            high: Largest share.
            normalise: Divide both means by the mean of all the task's losses in both windows, so
                that the loss's scale does not matter.
        """
        super().__init__(window=window)
        self._alpha, self._low, self._high = alpha, low, high
        self._normalise = normalise

    def _split(self, offline: deque[float], online: deque[float]) -> tuple[float | None, float]:
        if not offline or not online:
            return None, 0.5
        online_loss = math.fsum(online) / len(online)
        offline_loss = math.fsum(offline) / len(offline)
        if self._normalise:
            scale = (math.fsum(online) + math.fsum(offline)) / (len(online) + len(offline))
            if scale > 0:
                online_loss, offline_loss = online_loss / scale, offline_loss / scale
        return adaptive_omega(
            online_loss, offline_loss, alpha=self._alpha, low=self._low, high=self._high
        )


class FixedMixture(_TaskUniform):
    """A constant share of online draws where a task has both sides."""

    kind = "fixed"

    def __init__(self, share: float = 0.5, *, window: int = 200) -> None:
        """Draw `share` of a task's samples online; losses are kept for the curves only."""
        super().__init__(window=window)
        self._share = share

    def _split(self, offline: deque[float], online: deque[float]) -> tuple[float | None, float]:
        return self._share, self._share


class FrameUniform(_TaskUniform):
    """Every sample as likely as every other, whatever its task and side: one big data set."""

    kind = "frames"

    def _split(self, offline: deque[float], online: deque[float]) -> tuple[float | None, float]:
        return None, 0.5  # shares come from sizes, see `_mixture`

    def _mixture(self, strata: Strata, task: int) -> TaskMixture | None:
        mixture = super()._mixture(strata, task)
        if mixture is None:
            return None
        online = strata.size(task, online=True)
        share = online / (online + strata.size(task, online=False))
        return dataclasses.replace(mixture, raw=share, omega=share)

    def draw(
        self, strata: Strata, batch: int, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the task and the side of each draw; the buffer must hold a sample."""
        sizes = [
            strata.size(task, online=side) for task in range(len(strata.tasks)) for side in _SIDES
        ]
        ends = np.cumsum(sizes)
        drawn = (generator.random(batch) * ends[-1]).astype(np.int64)
        stratum = np.searchsorted(ends, drawn, side="right")
        return stratum // len(_SIDES), (stratum % len(_SIDES)).astype(bool)


def build_sampler(
    kind: str, *, alpha: float = 2.0, normalise: bool = False, share: float = 0.5
) -> Sampler:
    """Return the sampler `kind`: "adaptive" (`alpha`, `normalise`), "fixed" (`share`), "frames".

    Raises:
        ValueError: No such kind.
    """
    if kind == AdaptiveSampler.kind:
        return AdaptiveSampler(alpha=alpha, normalise=normalise)
    if kind == FixedMixture.kind:
        return FixedMixture(share)
    if kind == FrameUniform.kind:
        return FrameUniform()
    raise ValueError(f"no sampler {kind!r}")
