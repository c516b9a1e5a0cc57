"""What the value function says, in the control loop: one value for every inference, a tick later.

A value costs about what an inference costs (docs/learners.md). It is worked out in the tick after
the inference, where nothing is inferred and, as pictures are usually taken, nothing is rendered;
and after that tick's action is out. So no action is ever late because of a value, and no tick does
both.
"""

import math
import time

from fleet.agent.drivers.base import Reading
from fleet.agent.values import ActiveValue, ValueKeeper
from learning.core.types import Observation

NONE = math.nan


class Valuing:
    """For the control loop's thread.

    Args:
        keeper: Of the value function; None on a robot that computes none.
    """

    def __init__(self, keeper: ValueKeeper | None) -> None:
        self._keeper = keeper
        self._active: ActiveValue | None = None
        self._due: Observation | None = None
        self._value = NONE

    def begin(self) -> ActiveValue | None:
        """Begin an episode, with the newest function that is ready; return it."""
        self._due, self._value, self._active = None, NONE, None
        if self._keeper is not None:
            self._keeper.take()
            self._active = self._keeper.active
        return self._active

    def after(self, reading: Reading, instruction: str, chunk_index: int) -> float:
        """Return the value known at this tick, in [-1, 0]; NaN where there is none.

        Called once a tick, after the action was applied. It is of what the last inference before
        this tick saw; where the function looks through cameras of which that had no pictures, of
        the last one that had.

        Args:
            reading: This tick's.
            instruction: The episode's words.
            chunk_index: The proposal's; 0 says that the policy inferred, negative that it did not
                even propose.
        """
        if self._active is None:
            return NONE
        if chunk_index < 0:
            self._due, self._value = None, NONE
            return NONE
        due, self._due = self._due, None
        if due is not None:
            self._compute(self._active, due)
        cameras = () if self._active is None else self._active.network.config.cameras
        if chunk_index == 0 and all(name in reading.images for name in cameras):
            self._due = Observation(
                images=reading.images, state=reading.state, instruction=instruction
            )
        return self._value

    def _compute(self, active: ActiveValue, observation: Observation) -> None:
        assert self._keeper is not None
        started = time.perf_counter()
        try:
            self._value = active.network.value_at(observation)
        except Exception as error:
            self._give_up(f"it does not run: {error}")
            return
        self._keeper.took(time.perf_counter() - started)
        if not math.isfinite(self._value):
            self._give_up("its value is not finite")

    def _give_up(self, why: str) -> None:
        assert self._keeper is not None
        self._value, self._active = NONE, None
        self._keeper.fail(why)
