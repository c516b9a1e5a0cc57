"""Simulated robots that share their scenes: one is only in one scene at a time."""

from fleet.agent.drivers.metaworld import MetaWorldDriver
from fleet.agent.drivers.scenes import Scene
from fleet.protocol.spec import TaskSpec


class ScenePool:
    """Scenes that no robot is in; building one takes a second and tens of megabytes."""

    def __init__(self) -> None:
        self._free: dict[str, list[Scene]] = {}

    def take(self, task_name: str) -> Scene:
        """Return a scene of a task, a new one when none is free."""
        free = self._free.setdefault(task_name, [])
        return free.pop() if free else Scene(task_name)

    def give(self, scene: Scene) -> None:
        """Take a scene back."""
        self._free.setdefault(scene.task_name, []).append(scene)


class PooledDriver(MetaWorldDriver):
    """A simulated arm without cameras that returns its scene when it needs another."""

    def __init__(self, pool: ScenePool) -> None:
        """Take scenes from `pool`, which outlives this robot."""
        super().__init__("state")
        self._pool = pool

    def reset(self, task: TaskSpec, *, seed: int, held_out: bool = False) -> None:
        """Put a scene of `task` in the layout of `seed`."""
        if self._scene is None or self._scene.task_name != task.name:
            self.leave()
            self._scenes[task.name] = self._pool.take(task.name)
        super().reset(task, seed=seed, held_out=held_out)

    def leave(self) -> None:
        """Give the scene back, if there is one."""
        for scene in self._scenes.values():
            self._pool.give(scene)
        self._scenes.clear()
        self._scene = None

    def close(self) -> None:
        """Give the scene back; the pool keeps it."""
        self.leave()
