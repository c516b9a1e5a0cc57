"""MetaWorld's scripted experts, for demonstrations and scripted operators. Opens no rendering.

They read the simulator's privileged state and have no memory, so they can take over at any step.
"""

import types
from functools import cache
from typing import Any

import numpy as np

PRIVILEGED_DIM = 39


@cache
def _expert(task_name: str) -> Any:
    import metaworld.policies as policies
    from metaworld.policies import policy as base

    # They warn at every action that the environment will clip; we clip, on purpose.
    base.warnings = types.SimpleNamespace(warn=lambda *_: None)
    try:
        return policies.ENV_POLICY_MAP[f"{task_name}-v3"]()
    except KeyError:
        raise KeyError(f"no expert for the task {task_name!r}") from None


def expert_action(task_name: str, privileged: tuple[float, ...] | np.ndarray) -> np.ndarray:
    """Return what the expert of `task_name` does now, float32 (4,) in [-1, 1].

    Args:
        task_name: A task of `fleet.protocol.simulation`.
        privileged: The 39 numbers of `Reading.privileged`.

    Raises:
        KeyError: There is no expert for the task.
        ValueError: `privileged` has the wrong length.
    """
    observation = np.asarray(privileged, np.float64)
    if observation.shape != (PRIVILEGED_DIM,):
        raise ValueError(f"an expert reads {PRIVILEGED_DIM} numbers, not {observation.shape}")
    action = np.asarray(_expert(task_name).get_action(observation), np.float32)
    return np.clip(action, -1.0, 1.0)
