"""Trials a robot was ordered to run: which is next, with which version, and when to give up.

The version of an order is kept apart from the fleet's (a `PolicyKeeper` of its own), so that an
evaluation of an old version neither delays nor is disturbed by what the learner publishes, and the
fleet's newest version is ready when the order ends.
"""

from fleet.agent.clock import Clock
from fleet.agent.episodes import EpisodePlan, Planner
from fleet.agent.policies import PolicyKeeper
from fleet.protocol import messages as m
from fleet.protocol.spec import TrialOrder

# An order with nothing to begin is waited for this long before the robot works on as usual: two
# swaps of the policy and a training episode cost more than an upload and an answer.
WAIT_S = 5.0


class Trials:
    """What the control loop asks at an episode boundary. `assign` may be called by any thread.

    Args:
        keeper: Of the ordered version, and of nothing else.
        planner: The loop's: it remembers which trials were begun.
    """

    def __init__(self, keeper: PolicyKeeper, planner: Planner, clock: Clock) -> None:
        self.keeper = keeper
        self._planner = planner
        self._clock = clock
        self._order: TrialOrder | None = None
        self._idle_since_ns: int | None = None

    def assign(self, order: TrialOrder | None) -> None:
        """Use `order` from the next episode boundary on, and fetch its version now."""
        self._order, self._idle_since_ns = order, None
        if order is not None:
            self.keeper.offer(m.PolicyAnnouncement(policy=order.policy))

    def ordered(self, trial: str) -> bool:
        """Say whether a trial is still wanted; one that is not ends at the next tick."""
        order = self._order
        return order is not None and any(trial == ordered.uid for ordered in order.trials)

    def next(self) -> EpisodePlan | None:
        """Return the trial to begin now; None without one, or while its version is not here.

        Called by the loop between episodes only: it takes the ordered version when it is ready, and
        lets go of it when the order is over.
        """
        order = self._order
        if order is None:
            self.keeper.clear()
            return None
        plan = self._planner.trial(order)
        if plan is None:
            return None
        self.keeper.take()
        active = self.keeper.active
        if active is None or active.ref != order.policy:
            return None
        self._idle_since_ns = None
        return plan

    def wait(self) -> bool:
        """Say whether the robot should wait: more trials, or their version, may be on their way.

        True for `WAIT_S` from the first time there was nothing to begin although an order stands.
        """
        if self._order is None:
            return False
        now_ns = self._clock.monotonic_ns()
        if self._idle_since_ns is None:
            self._idle_since_ns = now_ns
        return now_ns - self._idle_since_ns < WAIT_S * 1e9

    @property
    def evaluation(self) -> str:
        """Name of the evaluation the order is of; empty without one."""
        order = self._order
        return "" if order is None else order.evaluation
