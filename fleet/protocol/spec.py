"""What a robot is and what it is asked to do, as values on the wire."""

from typing import Annotated

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Meta(max_length=500)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Epoch = Annotated[int, Meta(ge=0, le=2**31)]

MAX_ACTION_DIM = 64
MAX_STATE_DIM = 256
MAX_CAMERAS = 8
MAX_TASKS = 256
# Trials a robot is told at once; the server adds more while it works on them.
MAX_ORDERED_TRIALS = 16


Vector = tuple[float, float, float]


class CameraView(msgspec.Struct, frozen=True, kw_only=True):
    """Where a camera that does not move stands, in the robot's frame.

    A pinhole with square pixels and its axis through the middle of the picture. With d the way from
    the camera to a point, a picture of width w and height h shows it at
    (w/2 + f h (d right)/(d forward), h/2 + f h (d down)/(d forward)) from the upper left corner,
    f being `focal_heights`.
    """

    position_m: Vector
    # Unit vectors, as the upright picture shows them.
    right: Vector
    down: Vector
    forward: Vector
    # Focal length in heights of the picture: 0.5 / tan(vertical field of view / 2).
    focal_heights: Annotated[float, Meta(gt=0, le=100)]


class Camera(msgspec.Struct, frozen=True, kw_only=True):
    """One camera: the size it is recorded at, and the sizes people may watch."""

    name: Name
    width_px: Annotated[int, Meta(ge=16, le=4096)]
    height_px: Annotated[int, Meta(ge=16, le=4096)]
    title: Text = ""
    # Heading of the camera seen from above, counterclockwise from the robot's +x axis. An
    # operator's "forward" moves the hand along it; None: the camera gives no sense of direction.
    heading_rad: float | None = None
    # Lets pages draw on its pictures; None: the camera moves, or nobody measured it.
    view: CameraView | None = None


class HandMotion(msgspec.Struct, frozen=True, kw_only=True):
    """How actions move the hand: each tick by `unit_m` metres a unit of the named components."""

    # The hand's position among `state_names`, metres in the robot's frame.
    position: tuple[Name, Name, Name]
    # What moves it along the same axes, among `action_names`.
    action: tuple[Name, Name, Name]
    unit_m: Annotated[float, Meta(gt=0, le=10)]


class RobotSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Embodiment: what is measured and commanded, and how fast."""

    embodiment: Name
    control_hz: Annotated[float, Meta(gt=0, le=1000)]
    action_names: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=MAX_ACTION_DIM)]
    # Limits of each action component, in the action's own unit.
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    # Largest change of an action component in one tick during the slew window after a hand-back.
    action_slew: tuple[float, ...]
    state_names: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=MAX_STATE_DIM)]
    cameras: Annotated[tuple[Camera, ...], Meta(max_length=MAX_CAMERAS)]
    # Images are recorded every this many ticks; the state and the action on every tick.
    image_every: Annotated[int, Meta(ge=1, le=100)] = 1
    simulated: bool = False
    # None: nobody can say from a chunk of actions where the hand will be.
    hand: HandMotion | None = None

    def __post_init__(self) -> None:
        a = len(self.action_names)
        if not len(self.action_low) == len(self.action_high) == len(self.action_slew) == a:
            raise ValueError(
                "action_low, action_high and action_slew need one entry per action name"
            )
        if any(low >= high for low, high in zip(self.action_low, self.action_high, strict=True)):
            raise ValueError("every action_low must be below its action_high")
        hand = self.hand
        if hand and not (
            set(hand.position) <= set(self.state_names)
            and set(hand.action) <= set(self.action_names)
        ):
            raise ValueError("hand names a component that the robot does not have")


class TaskSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A task as a robot needs it. The policy reads `instruction`; `name` is never its input."""

    name: Name
    instruction: Text
    paraphrases: Annotated[tuple[Text, ...], Meta(max_length=32)] = ()
    timeout_ticks: Annotated[int, Meta(ge=1, le=1_000_000)] = 200
    weight: Annotated[float, Meta(ge=0)] = 1.0
    # Part of each layout dimension's range that training resets draw from, as fractions.
    layout_low: float = 0.0
    layout_high: float = 1.0


class PolicyRef(msgspec.Struct, frozen=True, kw_only=True):
    """A published set of weights, as a value: what a robot is told to run."""

    number: Count
    sha256: Sha256
    url: Text
    size_bytes: Count
    parent: int | None = None


class ValueRef(msgspec.Struct, frozen=True, kw_only=True):
    """RECAP's value function that robots are to compute, as a value; it comes beside the policy."""

    number: Count
    sha256: Sha256
    url: Text
    size_bytes: Count
    # Spearman's correlation of value and return on held-out episodes; None: nobody could say.
    correlation: Annotated[float, Meta(ge=-1, le=1)] | None = None


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One trial of an evaluation: a held-out layout of a task, with the time it may take."""

    # Names this attempt. A trial that is done anew gets another name; only the newest one counts.
    uid: Text
    # With the evaluation's own timeout, where it has one.
    task: TaskSpec
    seed: int


class TrialOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Trials that a robot runs before anything else, all with one fixed version."""

    # The evaluation they belong to.
    evaluation: Text
    policy: PolicyRef
    trials: Annotated[tuple[Trial, ...], Meta(max_length=MAX_ORDERED_TRIALS)]
