"""Hysteresis over ticks, for conditions that ask for help."""


class Latch:
    """On after `ticks` ticks in a row that say so, off after as many that say the opposite."""

    def __init__(self, ticks: int) -> None:
        self._ticks = ticks
        self.on = False
        self._against = 0

    def step(self, *, on: bool, off: bool) -> bool:
        """Take one tick, which may say neither; return whether it is on."""
        self._against = self._against + 1 if (off if self.on else on) else 0
        if self._against >= self._ticks:
            self.on, self._against = not self.on, 0
        return self.on

    def clear(self) -> None:
        """Be off, as if nothing had been seen."""
        self.on, self._against = False, 0
