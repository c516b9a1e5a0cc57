"""Limits: the last thing before the driver, after whoever chose the action (docs/safety.md)."""

import numpy as np

from fleet.protocol.spec import RobotSpec


class SafetyGate:
    """Makes any action one the robot may execute, and remembers the one it let through."""

    def __init__(self, spec: RobotSpec) -> None:
        self._low = np.asarray(spec.action_low, np.float32)
        self._high = np.asarray(spec.action_high, np.float32)
        self._slew = np.asarray(spec.action_slew, np.float32)
        # A gripper keeps its last command while nobody moves the robot: opening it drops the part.
        self._keeps = np.array(["gripper" in name.lower() for name in spec.action_names])
        self.applied = np.clip(np.zeros(len(spec.action_names), np.float32), self._low, self._high)

    def zero_motion(self) -> np.ndarray:
        """Return float32 (a,): no motion, with the gripper where it was last commanded."""
        action = np.where(self._keeps, self.applied, np.float32(0))
        return np.clip(action, self._low, self._high)

    def gate(self, action: np.ndarray, *, slew: bool = False) -> np.ndarray:
        """Return what may be executed of `action`; it becomes `applied`.

        Args:
            action: (a,) in the action's unit. A non-finite or mis-shaped one becomes zero motion.
            slew: Also limit the change from the last applied action to the spec's `action_slew`.
        """
        if action.shape != self.applied.shape or not np.isfinite(action).all():
            action = self.zero_motion()
        if slew:
            action = np.clip(action, self.applied - self._slew, self.applied + self._slew)
        self.applied = np.clip(action, self._low, self._high).astype(np.float32)
        return self.applied.copy()

    def rest(self) -> None:
        """Forget the last action, because the scene was put back."""
        self.applied = np.clip(np.zeros_like(self.applied), self._low, self._high)
