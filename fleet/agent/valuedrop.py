"""When a fall of the value is one to ask about.

The fall at step t is the highest value of the N steps up to t less V(o_t), N being the horizon of
RECAP's advantage (arXiv:2511.14759). Where it exceeds `drop`, the k-step advantage of some step
t - k, k < N, is below -drop: the steps between only cost. It counts once it has lasted (LazyDAgger,
arXiv:2104.00053): a single odd value is none.
From then on it is measured from the value before the fall, not from the window, which forgets that
value after N steps though nothing is better; it is over when half of it is made good.
"""

from collections import deque

from fleet.agent.latch import Latch
from learning.core.advantages import HORIZON

# LazyDAgger's lower threshold: with less than this share of the drop left, it is over.
LEAVE = 0.5


class ValueDrop:
    """Watches the values of one episode. `ticks` is how long a fall, or its end, must last."""

    def __init__(self, ticks: int) -> None:
        self._latch = Latch(ticks)
        self._recent: deque[float] = deque(maxlen=HORIZON)
        self._before = 0.0
        # How far below the highest recent value, or the value before the fall that asks.
        self.fall = 0.0

    @property
    def on(self) -> bool:
        """Whether the value fell, and is still down."""
        return self._latch.on

    def step(self, value: float, *, drop: float, acting: bool) -> bool:
        """Take one tick; return whether the value is down.

        Args:
            value: Finite, in [-1, 0].
            drop: From where on a fall counts, in the same unit; positive.
            acting: Whether the policy acts: a fall under a person's hands is not the policy's.
        """
        was = self._latch.on
        self._recent.append(value)
        high = self._before if was else max(self._recent)
        self.fall = max(0.0, high - value)
        on = self._latch.step(on=acting and self.fall > drop, off=self.fall < LEAVE * drop)
        if on and not was:
            self._before = high
        elif was and not on:
            # What was before is made good: the next fall is measured anew.
            self._recent.clear()
        return on

    def clear(self) -> None:
        """Forget every value."""
        self._latch.clear()
        self._recent.clear()
        self.fall = 0.0
