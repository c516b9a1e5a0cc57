"""When a robot needs a person, and in which order robots are helped. Pure; run by both ends.

Source:
    Fleet-DAgger (Hoque et al. 2022, arXiv:2206.14349), its C.U.R. priority: lexicographic in
    constraint violation, uncertainty and risk, where uncertainty counts from 0.2 and risk from 0.5;
    a person stays at least 5 steps and is released when no robot needs one.
    LazyDAgger (Hoque et al. 2021, arXiv:2104.00053): one threshold to ask, a lower one to let go.
    Departures: uncertainty is the policy's doubt put on [0, 1) so that tau is 0.2, because doubt is
    in the action's unit squared. Risk is how far a robot is on its way to being stuck, to failing
    once too often, or to a fall of the learned value that asks, and 0.5 where it asks: a robot
    without a value function has the first two. What is equal goes by waiting time.
"""

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

# Fleet-DAgger: below these a figure counts as 0.
UNCERTAINTY_FROM = 0.2
RISK_FROM = 0.5
# Fleet-DAgger: a person stays at least this many control steps.
MIN_HUMAN_STEPS = 5


class HelpReason(StrEnum):
    """Why a robot asks. A reader shows a reason that it does not know as it is written."""

    # Actions far outside the limits, or a fault after which the robot holds.
    LIMIT = "limit"
    # The policy's doubt stayed above tau.
    DOUBT = "doubt"
    # The value of the state fell: on robots that have a value function which ranks well enough.
    VALUE_DROP = "value_drop"
    NO_PROGRESS = "no_progress"
    REPEATED_FAILURE = "repeated_failure"
    # A person asked: at the robot, or on a page.
    EXPLICIT = "explicit"
    # Whoever drove it went away: it holds, and the policy does not resume by itself.
    OPERATOR_LEFT = "operator_left"


class HelpLimits(msgspec.Struct, frozen=True, kw_only=True):
    """From where on a robot asks for help; part of its assignment."""

    # tau of HG-DAgger, in the action's unit squared; None: doubt never asks.
    doubt: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    # A state that hardly changed for this long is no progress, seconds; 0: never asks.
    still_s: Annotated[float, Meta(ge=0, le=3600)] = 4.0
    # What is hardly: every component of the state within this range, in the state's own unit.
    still_range: Annotated[float, Meta(gt=0, le=1e6)] = 0.01
    # Failures of one task in a row; 0: never asks.
    failures: Annotated[int, Meta(ge=0, le=1000)] = 3
    # A fall of the value by this much within RECAP's horizon, in units of returns: a certain
    # success and a certain failure lie 0.5 apart. None: the value never asks.
    value_drop: Annotated[float, Meta(gt=0, le=1)] | None = None
    # Nor does a value function whose held-out correlation is below this, or unknown.
    value_correlation: Annotated[float, Meta(ge=-1, le=1)] = 0.6


def uncertainty_of(doubt: float, tau: float) -> float:
    """Return doubt on [0, 1): UNCERTAINTY_FROM where it equals `tau`, growing with it.

    Args:
        doubt: Not negative, in the action's unit squared; NaN, for a policy without, is 0.
        tau: Positive, in the same unit.
    """
    if not doubt > 0:
        return 0.0
    return doubt / (doubt + tau * (1 / UNCERTAINTY_FROM - 1))


def priority(
    *, constraint: bool, uncertainty: float, risk: float, raised_wall_ns: int
) -> tuple[bool, float, float, int]:
    """Return the key that sorts requests: the first to be helped sorts lowest.

    Args:
        constraint: Whether the robot violates a constraint.
        uncertainty: In [0, 1].
        risk: In [0, 1].
        raised_wall_ns: When it began to wait; who waits longer comes first among equals.
    """
    return (
        not constraint,
        -uncertainty if uncertainty >= UNCERTAINTY_FROM else 0.0,
        -risk if risk >= RISK_FROM else 0.0,
        raised_wall_ns,
    )
