import numpy as np
import pytest
import torch

from learning.core.gate import sanity_gate
from learning.core.payload import observations_of
from learning.core.policies.base import PolicyConfig, build_policy
from tests.core.making import CONFIG, Store, TinyPolicy

IMAGE = PolicyConfig(
    kind="image",
    state_dim=4,
    action_dim=4,
    cameras=("corner", "wrist"),
    image_px=32,
    action_low=(-1.0,) * 4,
    action_high=(1.0,) * 4,
)


@pytest.fixture
def held_out():
    store = Store()
    record = store.make(purpose="eval")
    part = store.open_part(record.parts[0].sha256)
    return observations_of(part, CONFIG.cameras, range(0, 20, 4))


@pytest.fixture
def policy():
    torch.manual_seed(0)
    return TinyPolicy(CONFIG).eval()


def test_observations_are_what_the_robot_saw(held_out):
    assert [o.state[0] for o in held_out] == [0, 4, 8, 12, 16]
    assert held_out[0].images["wrist"].shape == (32, 32, 3)
    assert held_out[0].instruction == "reach the red cube"


def test_a_sound_policy_passes(policy, held_out):
    result = sanity_gate(policy, held_out, 0.1)
    assert result.passed
    assert result.reason == ""
    assert len(result.low) == 4
    assert np.all(np.array(result.low) <= result.high)
    torch.manual_seed(0)
    assert sanity_gate(build_policy(IMAGE).eval(), held_out, 0.1).passed


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_does_not_pass(policy, held_out, loss):
    assert "loss" in sanity_gate(policy, held_out, loss).reason


def test_weights_that_are_not_finite_do_not_pass(policy, held_out):
    with torch.no_grad():
        policy.trunk[0].weight[3, 3] = float("inf")
    result = sanity_gate(policy, held_out, 0.1)
    assert not result.passed
    assert "trunk.0.weight" in result.reason
    assert not sanity_gate(policy, [], None).passed


def test_proposals_outside_the_limits_do_not_pass(policy, held_out):
    with torch.no_grad():
        policy.trunk[2].bias[1::4] = 1.5
    result = sanity_gate(policy, held_out, 0.1)
    assert not result.passed
    assert "[1]" in result.reason
    assert result.high[1] > 1.2


def test_proposals_that_ignore_the_observation_do_not_pass(policy, held_out):
    with torch.no_grad():
        policy.trunk[2].weight.zero_()
    assert "depend" in sanity_gate(policy, held_out, 0.1).reason
    assert sanity_gate(policy, held_out[:1], 0.1).passed


def test_exploded_weights_do_not_pass_though_proposals_are_clipped(held_out):
    torch.manual_seed(0)
    policy = build_policy(IMAGE).eval()
    with torch.no_grad():
        policy.head[-1].weight.mul_(1e6)
    assert not sanity_gate(policy, held_out, 0.1).passed
