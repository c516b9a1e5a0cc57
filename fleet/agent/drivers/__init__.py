"""Robots behind one interface (`base.py`)."""

import os

# Before any driver imports MuJoCo, which picks its OpenGL at import: Mesa's off-screen library
# needs no display and no GPU.
os.environ.setdefault("MUJOCO_GL", "osmesa")
os.environ.setdefault("PYOPENGL_PLATFORM", "osmesa")
# Mesa would otherwise start a thread for every core for pictures of a few thousand pixels.
os.environ.setdefault("LP_NUM_THREADS", "0")
