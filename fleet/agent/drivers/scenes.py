"""One MetaWorld task as a scene: its physics, its layouts, and cheap pictures of it.

Software rendering is most of a simulated robot's CPU time, and nearly all of that is the arm's
67,000 triangles. So the meshes are thinned to what these picture sizes can show, the wrist camera
skips the arm, which it never sees, and effects are off. Traps of the libraries are named where
they bite.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import metaworld  # noqa: F401  (first: it registers its environments)
import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE

from fleet.protocol.simulation import LAYOUT_FROM_TOP
from fleet.protocol.spec import TaskSpec

# Camera of the robot's specification → camera of the model, and whether it hangs upside down.
CAMERAS: dict[str, tuple[str, bool]] = {"front": ("corner4", True), "wrist": ("gripperPOV", False)}
_OFF = ("mjRND_SHADOW", "mjRND_REFLECTION", "mjRND_SKYBOX", "mjRND_HAZE", "mjRND_FOG")
# Geoms of the arm's outer links move here; the wrist camera leaves this group out.
_ARM_GROUP = 5
_ARM_BODIES = (
    "right_l0", "right_l1", "right_l2", "right_l3", "right_l4", "right_l5", "right_l6",
    "right_hand", "head", "right_arm_base_link", "pedestal",
)  # fmt: skip
# Meshes with more triangles than this are thinned on a grid of this many metres.
_THIN_ABOVE = 1500
_THIN_CELL_M = 0.008
# Loading large textures is most of the time it takes to make a renderer.
_SMALL_TEXTURE_PX = 128
# MetaWorld's scenes have 30 to 60 geoms.
_MAX_GEOMS = 500


def _thin_meshes(model: mujoco.MjModel) -> None:
    """Merge mesh vertices that share a grid cell. Only pictures change: no such mesh collides."""
    for mesh in range(model.nmesh):
        faces = int(model.mesh_facenum[mesh])
        if faces <= _THIN_ABOVE:
            continue
        first, vertices = int(model.mesh_faceadr[mesh]), int(model.mesh_vertnum[mesh])
        start = int(model.mesh_vertadr[mesh])
        cells = np.floor(model.mesh_vert[start : start + vertices] / _THIN_CELL_M).astype(np.int64)
        _, representative, cell = np.unique(cells, axis=0, return_index=True, return_inverse=True)
        merged = representative[cell.reshape(-1)]
        face = merged[model.mesh_face[first : first + faces]]  # (faces, 3)
        kept = np.flatnonzero(
            (face[:, 0] != face[:, 1]) & (face[:, 1] != face[:, 2]) & (face[:, 0] != face[:, 2])
        )
        for array in (model.mesh_facenormal, model.mesh_facetexcoord):
            array[first : first + len(kept)] = array[first + kept]
        model.mesh_face[first : first + len(kept)] = face[kept]
        model.mesh_facenum[mesh] = len(kept)


@contextmanager
def _small_textures(model: mujoco.MjModel) -> Iterator[None]:
    """Let a renderer that is made inside load textures of at most `_SMALL_TEXTURE_PX`."""
    kept = model.tex_width.copy(), model.tex_height.copy(), model.tex_data.copy()
    for texture in range(model.ntex):
        width, height = int(model.tex_width[texture]), int(model.tex_height[texture])
        factor, channels = -(-width // _SMALL_TEXTURE_PX), int(model.tex_nchannel[texture])
        first = int(model.tex_adr[texture])
        pixels = model.tex_data[first : first + width * height * channels]
        small = pixels.reshape(height, width, channels)[::factor, ::factor].copy()
        model.tex_height[texture], model.tex_width[texture] = small.shape[:2]
        model.tex_data[first : first + small.size] = small.reshape(-1)
    try:
        yield
    finally:
        model.tex_width[:], model.tex_height[:], model.tex_data[:] = kept


class Canvas:
    """An OpenGL context: for one thread at a time, and for every camera that thread draws with.

    Software rendering compiles its shaders again in each context, which takes 0.4 s of CPU and
    holds the interpreter; a further camera in the same one takes 0.03 to 0.2 s.
    """

    def __init__(self) -> None:
        # Cameras have framebuffers of their own, so the context's size says nothing.
        self._context = mujoco.GLContext(64, 64)

    def make_current(self) -> None:
        """Draw here from now on, in this thread."""
        self._context.make_current()

    def close(self) -> None:
        """Free the context; its cameras must be closed."""
        self._context.free()


class Camera:
    """Pictures of one scene on a canvas; close it before the canvas."""

    def __init__(
        self,
        canvas: Canvas,
        model: mujoco.MjModel,
        *,
        width_px: int,
        height_px: int,
        quick: bool = False,
    ) -> None:
        """Make one for pictures of at most this size; `quick` makes do with coarser textures."""
        self._canvas, self._model = canvas, model
        model.vis.global_.offwidth, model.vis.global_.offheight = width_px, height_px
        canvas.make_current()
        with _small_textures(model) if quick else nullcontext():
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        self._scene = mujoco.MjvScene(model, maxgeom=_MAX_GEOMS)
        for flag in _OFF:
            self._scene.flags[getattr(mujoco.mjtRndFlag, flag)] = 0
        self._everything, self._without_arm = mujoco.MjvOption(), mujoco.MjvOption()
        self._everything.geomgroup[_ARM_GROUP] = 1
        self._without_arm.geomgroup[_ARM_GROUP] = 0
        for option in (self._everything, self._without_arm):
            # MetaWorld marks the goal with a green ball: a policy must not read it off the picture.
            option.sitegroup[:] = 0

    def picture(
        self, data: mujoco.MjData, camera: str, *, width_px: int, height_px: int
    ) -> np.ndarray:
        """Return uint8 (ih, iw, 3), upright. Raises KeyError for an unknown camera."""
        name, upside_down = CAMERAS[camera]
        option = self._without_arm if camera == "wrist" else self._everything
        view = mujoco.MjvCamera()
        view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, self._model.camera(name).id
        mujoco.mjv_updateScene(
            self._model, data, option, None, view, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene
        )
        self._canvas.make_current()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        area = mujoco.MjrRect(0, 0, width_px, height_px)
        mujoco.mjr_render(area, self._scene, self._context)
        rows_up = np.empty((height_px, width_px, 3), np.uint8)
        mujoco.mjr_readPixels(rows_up, None, area, self._context)
        # OpenGL's first row is the lowest.
        return np.ascontiguousarray(rows_up[:, ::-1] if upside_down else rows_up[::-1])

    def close(self) -> None:
        """Free what it put on the canvas: by number, in whatever context is current."""
        self._canvas.make_current()
        self._context.free()


class Scene:
    """A MetaWorld environment under our layouts; raises KeyError for a task it does not know."""

    def __init__(self, task_name: str) -> None:
        self.task_name = task_name
        self._env = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{task_name}-v3-goal-observable"](seed=0)
        # MetaWorld raises after 500 steps; how long an episode lasts is the runtime's decision.
        self._env.max_path_length = 2**31
        self.model: mujoco.MjModel = self._env.model
        self.data: mujoco.MjData = self._env.data
        # Before any renderer exists: these are read when one is made.
        self.model.vis.quality.offsamples = 0
        self.model.vis.quality.shadowsize = 0
        _thin_meshes(self.model)
        arm = [self.model.body(name).id for name in _ARM_BODIES]
        mesh = self.model.geom_type == mujoco.mjtGeom.mjGEOM_MESH
        shown = self.model.geom_group < 3
        self.model.geom_group[np.isin(self.model.geom_bodyid, arm) & mesh & shown] = _ARM_GROUP
        self.observation = np.zeros(39)
        self.reward = float("nan")
        self.success = False

    def reset(self, task: TaskSpec, *, seed: int, held_out: bool) -> None:
        """Put the objects where `seed` says: the same seed, task and slice give the same layout."""
        low, high = (0.0, 1.0) if held_out else (task.layout_low, task.layout_high)
        space = self._env._random_reset_space  # noqa: SLF001
        from_top = list(LAYOUT_FROM_TOP.get(self.task_name, ()))
        entropy = [seed, int(held_out), zlib.crc32(self.task_name.encode())]

        def layout() -> np.ndarray:
            share = rng.uniform(low, high, size=space.low.size)
            share[from_top] = 1.0 - share[from_top]
            return np.asarray(space.low + share * (space.high - space.low))

        # The -goal-observable environments freeze the layout and ignore `reset(seed=)`, so the
        # draw itself is replaced. Twice, because the first pass still stands on what the last
        # episode left in the model.
        self._env._get_state_rand_vec = layout  # noqa: SLF001
        for _ in range(2):
            rng = np.random.default_rng(entropy)
            mujoco.mj_resetData(self.model, self.data)
            self._env.curr_path_length = 0
            self._env.reset_model()
        mujoco.mj_forward(self.model, self.data)
        # The first observation repeats itself where the previous one belongs.
        self._env._get_obs()  # noqa: SLF001
        self.observation = np.asarray(self._env._get_obs(), np.float64)  # noqa: SLF001
        self.reward, self.success = float("nan"), False

    def step(self, action: np.ndarray) -> None:
        """Play one control period."""
        self.observation, reward, _, _, info = self._env.step(action)
        self.reward, self.success = float(reward), bool(info["success"])

    def close(self) -> None:
        """Release the environment."""
        self._env.close()
