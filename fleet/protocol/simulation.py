"""The simulated fleet: its tasks, its robot, and which seeds may be used for what. Pure.

The server seeds its database from here, demonstrations and evaluations draw their layouts from
here, and the MetaWorld driver builds the robot that is described here.
"""

from typing import Literal

from fleet.protocol.spec import Camera, CameraView, HandMotion, RobotSpec, TaskSpec

ObservationKind = Literal["image", "state"]

CONTROL_HZ = 20.0
IMAGE_PX = 128
IMAGE_EVERY = 2
# How far MetaWorld moves the hand in one tick for an action of one.
ACTION_UNIT_M = 0.01
# Measured on the models, the same in every task: it looks back at the arm from its front right.
FRONT_VIEW = CameraView(
    position_m=(0.75, 0.075, 0.7),
    right=(0.5499, 0.83318, -0.05844),
    down=(0.37621, -0.30955, -0.8733),
    forward=(-0.74571, 0.45824, -0.48367),
    focal_heights=0.8660254,
)
# Commands an action component may change by in one tick while the slew limit holds.
ACTION_SLEW = (0.25, 0.25, 0.25, 0.5)
ACTION_NAMES = ("x", "y", "z", "gripper")
HAND_NAMES = ("hand_x", "hand_y", "hand_z", "gripper_open")
# What the simulator knows and a camera does not: objects (padded with zeros) and the goal.
PRIVILEGED_NAMES = (*(f"object_{i}" for i in range(14)), "goal_x", "goal_y", "goal_z")


def _task(name: str, *instructions: str) -> TaskSpec:
    return TaskSpec(
        name=name,
        instruction=instructions[0],
        paraphrases=instructions[1:],
        timeout_ticks=200,
    )


TASKS: tuple[TaskSpec, ...] = (
    _task(
        "shelf-place",
        "put the block on the shelf",
        "restock the shelf with the block",
        "place the cube onto the shelf board",
    ),
    _task(
        "bin-picking",
        "move the item from one bin to the other bin",
        "sort the item into the empty bin",
        "pick the item and drop it in the second bin",
    ),
    _task(
        "drawer-open",
        "open the drawer",
        "pull the drawer open by its handle",
        "slide the cooler drawer out",
    ),
    _task(
        "box-close",
        "put the lid on the box",
        "close the box with its lid",
        "cover the carton with the lid",
    ),
    _task(
        "peg-insert-side",
        "insert the peg into the hole from the side",
        "push the peg sideways into its slot",
        "slot the peg in the hole of the block",
    ),
    _task(
        "hammer",
        "hit the nail with the hammer",
        "grab the hammer and drive the nail in",
        "hammer the nail into the wood",
    ),
)

# Never seen in training: they ask whether the policy reads words or knows sentences by heart.
HELD_OUT_PARAPHRASES: dict[str, tuple[str, ...]] = {
    "shelf-place": ("set the block down on the shelf", "lift the cube up onto the shelf"),
    "bin-picking": ("transfer the item into the other bin", "take the item to the empty bin"),
    "drawer-open": ("pull out the drawer", "get the drawer open"),
    "box-close": ("place the lid onto the box", "shut the box by adding its lid"),
    "peg-insert-side": ("slide the peg into the hole", "fit the peg in its hole from the side"),
    "hammer": ("use the hammer on the nail", "knock the nail in with the hammer"),
}

# Part of each layout dimension that the demonstrations of the base policy come from; narrow, so
# that the base policy has something left to learn from corrections.
BASE_LAYOUT: dict[str, tuple[float, float]] = {task.name: (0.0, 0.4) for task in TASKS}

# Layout dimensions whose slice is counted from the upper end. box-close draws lid and box again
# while they are closer than 0.25 m, so the low end of both leaves almost no layouts.
LAYOUT_FROM_TOP: dict[str, tuple[int, ...]] = {"box-close": (4,)}

# Seeds from here up are held out. A held-out layout is also drawn from another random stream than
# a training layout, so that the two differ even where somebody reuses a number.
HELD_OUT_FROM = 2**30
# For evaluation episodes of the running fleet.
EVAL_SEEDS: tuple[int, ...] = tuple(range(HELD_OUT_FROM, HELD_OUT_FROM + 40))
# For the final figures of experiments; used for nothing else.
FINAL_SEEDS: tuple[int, ...] = tuple(range(HELD_OUT_FROM + 1000, HELD_OUT_FROM + 1060))
# For evaluations that people ask for: every one walks them from the first, so that any two versions
# can be compared on the same layouts.
TRIAL_SEEDS: tuple[int, ...] = tuple(range(HELD_OUT_FROM + 2000, HELD_OUT_FROM + 2500))
# For curves over time and for choosing settings: never for a final figure.
CURVE_SEEDS: tuple[int, ...] = tuple(range(HELD_OUT_FROM + 3000, HELD_OUT_FROM + 3060))
# Demonstrations walk these upwards; online training starts at 0 and never gets this far.
DEMONSTRATION_SEEDS_FROM = 2**29


def task_named(name: str) -> TaskSpec:
    """Return the default task `name`. Raises KeyError."""
    for task in TASKS:
        if task.name == name:
            return task
    raise KeyError(name)


def robot_spec(
    observation: ObservationKind = "image", *, control_hz: float = CONTROL_HZ
) -> RobotSpec:
    """Return the simulated arm: action x, y, z, gripper in [-1, 1], 1 cm a unit and tick.

    With `"image"` the state is the hand's position in metres and the gripper's opening in 0..1,
    and there are two cameras. With `"state"` the privileged state is appended and there is no
    camera: for fast tests and studies, never for the shipped policy.

    A tick is the same physics at any `control_hz`: a higher one makes robot time pass faster.
    """
    image = observation == "image"
    cameras = (
        Camera(
            name="front",
            width_px=IMAGE_PX,
            height_px=IMAGE_PX,
            title="Front",
            heading_rad=2.59,
            view=FRONT_VIEW,
        ),
        Camera(name="wrist", width_px=IMAGE_PX, height_px=IMAGE_PX, title="Wrist"),
    )
    return RobotSpec(
        embodiment="sawyer-sim" if image else "sawyer-sim-state",
        control_hz=control_hz,
        action_names=ACTION_NAMES,
        action_low=(-1.0,) * 4,
        action_high=(1.0,) * 4,
        action_slew=ACTION_SLEW,
        state_names=HAND_NAMES if image else HAND_NAMES + PRIVILEGED_NAMES,
        cameras=cameras if image else (),
        image_every=IMAGE_EVERY,
        simulated=True,
        hand=HandMotion(position=HAND_NAMES[:3], action=ACTION_NAMES[:3], unit_m=ACTION_UNIT_M),
    )
