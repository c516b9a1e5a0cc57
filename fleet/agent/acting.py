"""Which version acts, and the chunk it is in."""

from fleet.agent.controllers import ChunkController
from fleet.agent.decisions import View
from fleet.agent.policies import ActivePolicy, PolicyKeeper
from fleet.protocol.control import Mode


class Acting:
    """The fleet's version, or in a trial the ordered one; changed between episodes only.

    For the control loop's thread; others may read `keeper`.

    Args:
        policies: Keeps the fleet's version.
    """

    def __init__(self, policies: PolicyKeeper) -> None:
        self.keeper = policies
        self._fleets = policies
        self._controller: ChunkController | None = None
        # The version the controller was made of.
        self._version: ActivePolicy | None = None
        self._turn = -1

    @property
    def active(self) -> ActivePolicy | None:
        """The version that acts, if there is one."""
        return self.keeper.active

    @property
    def on_trial(self) -> bool:
        """Whether it is another version than the fleet's."""
        return self.keeper is not self._fleets

    def swap(self, keeper: PolicyKeeper | None = None) -> None:
        """Let `keeper`'s version act from now on, or the fleet's: then the newest, if it is due."""
        keeper = keeper or self._fleets
        newer = keeper is self._fleets and keeper.take()
        active = keeper.active
        if newer or keeper is not self.keeper or (active and self._version is not active):
            self.keeper = keeper
            self._adopt()

    def begin(self, *, evaluation: bool) -> None:
        """Begin an episode: no chunk is pending, and guidance is what the episode is for."""
        if self._controller is None:
            self._adopt()
        if self._controller is not None:
            self._controller.reset()
            self._controller.guide(evaluation=evaluation)

    def controller(self, view: View) -> ChunkController | None:
        """Return what proposes at this tick; None where nothing may act, or nothing is there."""
        if view.mode in (Mode.HOLDING, Mode.STOPPED):
            return None
        if self._controller is not None and view.policy_turn != self._turn:
            # The policy got the robot back: what it planned before is of another situation.
            self._turn = view.policy_turn
            self._controller.reset()
        return self._controller

    def roll_back(self, reason: str) -> None:
        """Replace the version by the last-known-good one."""
        self.keeper.roll_back(reason)
        self._adopt()

    def _adopt(self) -> None:
        self._version = active = self.keeper.active
        self._controller = None if active is None else ChunkController(active.policy)
