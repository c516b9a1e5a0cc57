"""How many frames of one viewer may be on the way at once, learned from how soon they are shown."""

import math
from collections.abc import Callable

# The least that anybody may have on the way.
_FEWEST = 4.0
# Looked at this often, over at least so many frames.
_ROUND_S = 0.2
_ROUND_FRAMES = 4
# A viewer keeps up that misses at most this share of the frames it wants.
_MISSED = 0.1
# How much longer than the undisturbed way the quicker frames of a round may take.
_QUEUE_S = 0.015
_GROWTH, _SHRINKAGE = 1.1, 0.5
# The undisturbed way is taken to be this much longer with each round: links change.
_FORGET = 1.02


class Pace:
    """A limit over all feeds of a viewer that does not keep up; none for one that does.

    A page draws in bursts: it decodes what came, then lays out and composes a picture of itself, in
    which time frames wait. That much is unavoidable and costs nobody anything. A queue that never
    empties is not: then even the *quicker* frames of a round take longer than the way itself, and
    fewer are sent (a standing queue as told by CoDel: Nichols and Jacobson, 2012, with a quartile
    for the minimum). While they do not, and the limit held frames back, more are tried.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._frames = math.inf
        self._way_s = math.inf
        self._round_ends = monotonic() + _ROUND_S
        self._took_s: list[float] = []
        self._missed = 0
        self._most = 0
        self._was_full = False

    def full(self, on_the_way: int) -> bool:
        """Whether no further frame may be sent while so many are on the way."""
        self._most = max(self._most, on_the_way)
        full = on_the_way + 1 > self._frames
        self._was_full |= full
        return full

    def missed(self) -> None:
        """Note a frame that the viewer wanted and that was overtaken before it could be sent."""
        self._missed += 1

    def shown(self, took_s: float) -> None:
        """Take from sending a frame to hearing that it was shown, seconds."""
        self._took_s.append(took_s)
        now = self._monotonic()
        if now < self._round_ends or len(self._took_s) < _ROUND_FRAMES:
            return
        took = sorted(self._took_s)
        self._way_s = min(took[0], self._way_s * _FORGET)
        quick_s, should_s = took[len(took) // 4], self._way_s + _QUEUE_S
        if quick_s > should_s and self._missed > _MISSED * len(took):
            kept = max(_SHRINKAGE, should_s / quick_s)
            self._frames = max(_FEWEST, kept * min(self._frames, self._most))
        elif quick_s <= should_s and self._was_full:
            self._frames = max(self._frames + 1, self._frames * _GROWTH)
        self._took_s.clear()
        self._missed = self._most = 0
        self._was_full = False
        self._round_ends = now + _ROUND_S
