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


class Camera:
    """Pictures of one size, for one thread at a time; close it before dropping it.

    A renderer that is merely dropped leaves later ones drawing garbage, with no error.
    """

    def __init__(
        self, model: mujoco.MjModel, *, width_px: int, height_px: int, quick: bool = False
    ) -> None:
        """Make one; it takes about 0.6 s of CPU, or 0.2 s with `quick`, at coarser textures."""
        model.vis.global_.offwidth, model.vis.global_.offheight = width_px, height_px
        with _small_textures(model) if quick else nullcontext():
            self._renderer = mujoco.Renderer(model, height_px, width_px)
        for flag in _OFF:
            self._renderer.scene.flags[getattr(mujoco.mjtRndFlag, flag)] = 0
        self._everything, self._without_arm = mujoco.MjvOption(), mujoco.MjvOption()
        self._everything.geomgroup[_ARM_GROUP] = 1
        self._without_arm.geomgroup[_ARM_GROUP] = 0
        for option in (self._everything, self._without_arm):
            # MetaWorld marks the goal with a green ball: a policy must not read it off the picture.
            option.sitegroup[:] = 0

    def picture(self, data: mujoco.MjData, camera: str) -> np.ndarray:
        """Return uint8 (ih, iw, 3), upright. Raises KeyError for an unknown camera."""
        name, upside_down = CAMERAS[camera]
        option = self._without_arm if camera == "wrist" else self._everything
        self._renderer.update_scene(data, name, option)
        picture = self._renderer.render()
        return np.ascontiguousarray(picture[::-1, ::-1]) if upside_down else picture

    def make_current(self) -> None:
        """Take this thread's place in OpenGL, so that another camera made here may leave it."""
        self._renderer._gl_context.make_current()  # noqa: SLF001

    def close(self) -> None:
        """Free the OpenGL context and what is in it.

        `Renderer.close` frees the context first and then deletes textures and lists by number, in
        whatever context is current: another camera then draws garbage. So: ours, in order.
        """
        renderer = self._renderer
        if renderer._gl_context is not None:  # noqa: SLF001
            renderer._gl_context.make_current()  # noqa: SLF001
            renderer._mjr_context.free()  # noqa: SLF001
            renderer._gl_context.free()  # noqa: SLF001
            renderer._mjr_context = renderer._gl_context = None  # noqa: SLF001


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
