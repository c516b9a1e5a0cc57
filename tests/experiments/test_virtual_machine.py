"""Rollouts of the experiments on the real simulation."""

import msgspec
import torch

from fleet.protocol.simulation import FINAL_SEEDS, TASKS, robot_spec
from learning.core.policies.base import build_policy, save_policy
from learning.experiments.training import policy_config
from learning.experiments.virtual.machine import Machine
from learning.experiments.virtual.summary import within

LIMIT = {task.name: task.timeout_ticks for task in TASKS}


def test_what_failed_is_given_more_time_in_another_try_and_nothing_else_is():
    # Untrained: it stands still more or less, and succeeds at nothing.
    torch.manual_seed(0)
    config = msgspec.structs.replace(policy_config(robot_spec("state")), doubt_heads=0)
    judged = Machine().judge(save_policy(build_policy(config)), trials=1, patience=2)
    layouts = [(task.name, FINAL_SEEDS[0]) for task in TASKS]
    for name, factor in (("final", 1), ("patient", 2)):
        rows = judged[name]
        assert [row[:2] for row in rows] == layouts
        assert [row[2:] for row in rows] == [(False, factor * LIMIT[row[0]]) for row in rows]
    assert within(judged["patient"], LIMIT) == judged["final"]
