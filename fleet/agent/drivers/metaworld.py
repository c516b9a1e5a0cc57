"""A simulated Sawyer arm in MetaWorld's tasks, with two cameras and seeded layouts.

One control period is one environment step: at 20 Hz the physics plays at a quarter of real speed,
so a robot-minute here is 15 s of simulated time. Layout, pictures and the libraries' traps are in
`scenes.py`. Every task keeps its environment and renderer, so changing the task costs nothing
after the first time (building one takes about a second).
"""

import threading

import mujoco
import numpy as np

from fleet.agent.drivers.base import Reading
from fleet.agent.drivers.scenes import CAMERAS, Camera, Canvas, Scene
from fleet.protocol.messages import FeedSize
from fleet.protocol.simulation import CONTROL_HZ, IMAGE_PX, ObservationKind, robot_spec
from fleet.protocol.spec import TaskSpec

# Width and height of the pictures people watch.
FEED_SIZES_PX: dict[FeedSize, tuple[int, int]] = {"thumbnail": (160, 120), "full": (320, 240)}
# What a copy of the simulation needs to look the same: physics, controls and mocap bodies.
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
# Where hand and gripper, objects, and goal are among MetaWorld's 39 numbers.
_HAND, _OBJECTS, _GOAL = slice(0, 4), slice(4, 18), slice(36, 39)


class MetaWorldDriver:
    """The `Driver` of a simulated arm.

    `reset`, `read` and `apply` belong to the control loop's thread, `render_feed` to one other
    thread. They meet in a lock that the feed holds only while it copies the simulator's state
    (about 10 µs); it renders from the copy, on a canvas and with cameras of its own.
    """

    def __init__(
        self, observation: ObservationKind = "image", control_hz: float = CONTROL_HZ
    ) -> None:
        self.spec = robot_spec(observation, control_hz=control_hz)
        self._privileged_state = observation == "state"
        self._scenes: dict[str, Scene] = {}
        self._canvas: Canvas | None = None
        self._cameras: dict[str, Camera] = {}
        self._scene: Scene | None = None
        self._lock = threading.Lock()
        # What the feed's thread draws, and draws with.
        self._copies: dict[str, mujoco.MjData] = {}
        self._feed_canvas: Canvas | None = None
        self._feed_cameras: dict[str, Camera] = {}

    def prepare(self, task_names: tuple[str, ...]) -> None:
        """Build the scenes of these tasks now rather than at their first reset."""
        for name in task_names:
            if name not in self._scenes:
                self._scenes[name] = Scene(name)
            if self.spec.cameras and name not in self._cameras:
                if self._feed_canvas is None:
                    # A canvas holds the interpreter, and with it every thread, for 0.4 s: between
                    # episodes nobody minds.
                    self._feed_camera(self._scenes[name])
                self._canvas = self._canvas or Canvas()
                self._cameras[name] = Camera(
                    self._canvas, self._scenes[name].model, width_px=IMAGE_PX, height_px=IMAGE_PX
                )

    def reset(self, task: TaskSpec, *, seed: int, held_out: bool = False) -> None:
        """Put the scene of `task` in the layout of `seed`. Raises KeyError for an unknown task.

        A held-out layout comes from the full range and another random stream than training
        layouts; a training layout from the task's slice of each dimension.
        """
        self.prepare((task.name,))
        with self._lock:
            self._scene = self._scenes[task.name]
            self._scene.reset(task, seed=seed, held_out=held_out)

    def read(self, *, images: bool) -> Reading:
        """Return the present reading; two pictures take about 15 ms. Raises RuntimeError early."""
        scene = self._current()
        observation = scene.observation
        state = observation[_HAND]
        if self._privileged_state:
            state = np.concatenate((state, observation[_OBJECTS], observation[_GOAL]))
        pictures: dict[str, np.ndarray] = {}
        if images and self.spec.cameras:
            camera = self._cameras[scene.task_name]
            pictures = {
                c.name: camera.picture(
                    scene.data, c.name, width_px=c.width_px, height_px=c.height_px
                )
                for c in self.spec.cameras
            }
        return Reading(
            state=state.astype(np.float32),
            images=pictures,
            success=scene.success,
            reward=scene.reward,
            privileged=tuple(observation.tolist()),
        )

    def apply(self, action: np.ndarray) -> None:
        """Play one control period of physics. Raises RuntimeError before the first reset."""
        scene = self._current()
        with self._lock:
            scene.step(action)

    def render_feed(self, camera: str, size: FeedSize) -> np.ndarray:
        """Return uint8 (ih, iw, 3). Raises KeyError for a camera or size that does not exist."""
        if camera not in CAMERAS:
            raise KeyError(camera)
        with self._lock:
            scene = self._current()
            state = np.empty(mujoco.mj_stateSize(scene.model, _STATE))
            mujoco.mj_getState(scene.model, scene.data, state, _STATE)
        if scene.task_name not in self._copies:
            self._copies[scene.task_name] = mujoco.MjData(scene.model)
        copy = self._copies[scene.task_name]
        # MuJoCo's Python layer has no mj_copyData; a whole copy would hold the loop for 2 ms.
        mujoco.mj_setState(scene.model, copy, state, _STATE)
        mujoco.mj_forward(scene.model, copy)
        width_px, height_px = FEED_SIZES_PX[size]
        return self._feed_camera(scene).picture(
            copy, camera, width_px=width_px, height_px=height_px
        )

    def _feed_camera(self, scene: Scene) -> Camera:
        if scene.task_name not in self._feed_cameras:
            self._feed_canvas = self._feed_canvas or Canvas()
            width_px, height_px = FEED_SIZES_PX["full"]
            self._feed_cameras[scene.task_name] = Camera(
                self._feed_canvas,
                scene.model,
                width_px=width_px,
                height_px=height_px,
                quick=True,
            )
        return self._feed_cameras[scene.task_name]

    def close(self) -> None:
        """Free every renderer and environment; the feed's thread must have ended."""
        for camera in (*self._cameras.values(), *self._feed_cameras.values()):
            camera.close()
        for canvas in (self._canvas, self._feed_canvas):
            if canvas is not None:
                canvas.close()
        self._canvas = self._feed_canvas = None
        for scene in self._scenes.values():
            scene.close()
        self._feed_cameras.clear()
        self._cameras.clear()
        self._scenes.clear()
        self._scene = None

    def _current(self) -> Scene:
        if self._scene is None:
            raise RuntimeError("the robot has no scene yet: call reset first")
        return self._scene
