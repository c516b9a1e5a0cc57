import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from learning.core.doubt import doubt_of, doubt_threshold
from learning.core.learners.base import build_learner
from learning.core.policies.base import build_policy, load_policy, save_policy
from learning.core.policies.doubt_heads import BLOCK_BITS, bootstrap_mask, with_doubt
from tests.core.making import CONFIG, TinyPolicy
from tests.core.test_policies import IMAGE, STATE, batch_for, observation_for

SHIPPED = Path(__file__).parents[2] / "learning" / "assets" / "base_policy.safetensors"
KINDS = pytest.mark.parametrize("config", [IMAGE, STATE], ids=["image", "state"])


def test_doubt_is_the_norm_of_the_variances_of_several_proposals():
    actions = np.array([[0.0, 0.0], [2.0, 0.0]])
    assert doubt_of(actions) == pytest.approx(2.0)
    assert doubt_of(np.array([[1.0, 2.0], [4.0, 6.0]])) == pytest.approx(np.hypot(4.5, 8.0))
    with pytest.raises(ValueError, match="two proposals"):
        doubt_of(actions[:1])


def test_the_threshold_of_doubt_is_the_mean_of_the_last_quarter():
    assert doubt_threshold([9, 9, 9, 9, 9, 9, 1, 3]) == 2.0
    assert doubt_threshold([5.0]) == 5.0
    with pytest.raises(ValueError, match="no takeover"):
        doubt_threshold([])


def test_each_member_learns_from_its_own_half_in_blocks_of_steps():
    rows = torch.arange(64 << BLOCK_BITS)
    mask = bootstrap_mask(rows, 5)
    assert torch.equal(mask, bootstrap_mask(rows, 5))
    blocks = mask.unflatten(0, (64, 1 << BLOCK_BITS))
    assert (blocks == blocks[:, :1]).all()
    share = mask.float().mean(0)
    assert ((share > 0.3) & (share < 0.7)).all()
    alike = (mask[:, :, None] == mask[:, None, :]).float().mean(0)
    assert (alike[~torch.eye(5, dtype=torch.bool)] < 0.8).all()


@KINDS
def test_an_ensemble_beside_the_head_changes_no_action(config):
    torch.manual_seed(0)
    plain = build_policy(config).eval()
    before = torch.get_rng_state()
    grown = with_doubt(plain, 4, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    seen = observation_for(config)
    chunk, doubt = grown.act(seen)
    assert torch.equal(chunk, plain.act(seen)[0])
    assert math.isnan(plain.act(seen)[1])
    assert 0 < doubt < 10
    assert with_doubt(grown, 4, seed=2) is grown
    assert with_doubt(plain, 0, seed=2) is plain


def test_a_policy_that_cannot_doubt_says_so():
    with pytest.raises(ValueError, match="tiny"):
        with_doubt(TinyPolicy(CONFIG), 4, seed=0)


@KINDS
def test_the_members_learn_and_leave_the_policy_its_loss_and_its_gradient(config):
    torch.manual_seed(0)
    plain = build_policy(config).train()
    grown = with_doubt(plain, 4, seed=1)
    batch = batch_for(config)
    gradients = []
    for policy in (plain, grown):
        torch.manual_seed(3)
        loss = policy.loss(batch)
        loss.mean().backward()
        gradients.append((loss, {n: p.grad for n, p in policy.named_parameters()}))
    (first, own), (second, both) = gradients
    assert torch.equal(first, second)
    assert all(torch.equal(own[name], both[name]) for name in own)
    members = {name: gradient for name, gradient in both.items() if name.startswith("doubt.")}
    assert members
    assert all(gradient.abs().sum() > 0 for gradient in members.values())


def test_members_agree_on_what_they_learned_and_less_elsewhere():
    torch.manual_seed(0)
    config = msgspec.structs.replace(STATE, doubt_heads=5, doubt_width=32)
    learner = build_learner("hg_dagger", build_policy(config), {"learning_rate": 3e-3})
    rng = np.random.default_rng(0)
    for step in range(150):
        batch = batch_for(config, n=32)
        batch.state = torch.from_numpy(rng.normal(size=(32, 21)).astype(np.float32))
        batch.action = torch.tanh(batch.state[:, None, :4]).expand(-1, 8, -1).contiguous()
        batch.row = torch.arange(32) + 64 * step
        learner.update(batch)
    policy = learner.policy
    known, strange = [], []
    for _ in range(30):
        seen = observation_for(config)
        seen.state[:] = rng.normal(size=21)
        known.append(policy.act(seen)[1])
        seen.state[:] = 4 * rng.normal(size=21)
        strange.append(policy.act(seen)[1])
    assert np.mean(strange) > 1.5 * np.mean(known)


def test_the_ensemble_of_the_shipped_recipe_adds_less_than_a_quarter_to_the_artifact():
    grown = msgspec.structs.replace(IMAGE, doubt_heads=4)
    plain, whole = (len(save_policy(build_policy(config))) for config in (IMAGE, grown))
    assert plain < whole < 1.25 * plain


def test_the_shipped_artifact_is_from_before_doubt_and_loads_unchanged():
    artifact = SHIPPED.read_bytes()
    assert b"doubt" not in artifact
    policy = load_policy(artifact)
    assert policy.config.doubt_heads == 0
    assert math.isnan(policy.act(observation_for(policy.config))[1])
    assert math.isfinite(with_doubt(policy, 4, seed=0).act(observation_for(policy.config))[1])
