"""How many frames of one viewer may be on the way at once, learned from how soon they are shown."""

import math
from collections.abc import Callable

# What a new viewer may have on the way, and the least that anybody may.
_AT_FIRST = 8.0
_FEWEST = 4.0
# Looked at this often, over at least so many frames.
_ROUND_S = 0.2
_ROUND_FRAMES = 4
# How much longer than the undisturbed way the quicker frames of a round may take.
_QUEUE_S = 0.02
_GROWTH, _SHRINKAGE = 1.1, 0.85
# The undisturbed way is taken to be this much longer with each round: links change.
_FORGET = 1.02


class Pace:
    """A limit over all feeds of a viewer.

    A page draws in bursts: it decodes what came, then lays out and composes a picture of itself, in
    which time frames wait. That much is unavoidable and costs nobody anything. A queue that never
    empties is not: then even the *quicker* frames of a round take longer than the way itself, and
    fewer are sent (a standing queue as told by CoDel: Nichols and Jacobson, 2012, with a quartile
    for the minimum). While they do not, and the limit held frames back, more are tried.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._frames = _AT_FIRST
        self._way_s = math.inf
        self._took_s: list[float] = []
        self._round_ends = monotonic() + _ROUND_S
        self._was_full = False

    def full(self, on_the_way: int) -> bool:
        """Whether no further frame may be sent while so many are on the way."""
        full = on_the_way >= int(self._frames)
        self._was_full |= full
        return full

    def shown(self, took_s: float) -> None:
        """Take from sending a frame to hearing that it was shown, seconds."""
        self._took_s.append(took_s)
        now = self._monotonic()
        if now < self._round_ends or len(self._took_s) < _ROUND_FRAMES:
            return
        took = sorted(self._took_s)
        self._way_s = min(took[0], self._way_s * _FORGET)
        if took[len(took) // 4] > self._way_s + _QUEUE_S:
            self._frames = max(_FEWEST, self._frames * _SHRINKAGE)
        elif self._was_full:
            self._frames = max(self._frames + 1, self._frames * _GROWTH)
        self._took_s.clear()
        self._was_full = False
        self._round_ends = now + _ROUND_S
