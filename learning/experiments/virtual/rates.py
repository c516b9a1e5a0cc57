"""How fast everything is on a virtual clock. Stated with every result."""

from dataclasses import dataclass

from fleet.protocol.simulation import CONTROL_HZ


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What takes how long, in simulated seconds; defaults are those measured on the real system.

    A robot's control rate is its specification's and therefore no option: 20 Hz.
    """

    # Gradient steps a second.
    updates_per_s: float = 10.0
    # A version is published after this many steps and this many seconds, whichever is later.
    publish_steps: int = 25
    publish_every_s: float = 8.0
    # From the learner's decision to publish until every robot holds the verified version.
    broadcast_s: float = 1.0
    # From an episode's end until the learner has it in its index.
    upload_s: float = 2.0
    # From an episode's end until the next begins.
    reset_s: float = 5.0
    # From seeing that a robot needs help to asking for it, on top of the link both ways.
    reaction_s: float = 0.2
    # One way between a robot and an operator.
    link_s: float = 0.02

    @property
    def reaction_ticks(self) -> int:
        """The reaction in control ticks, as the gate counts it."""
        return round(self.reaction_s * CONTROL_HZ)


DEFAULT_RATES = Rates()
