import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors

from fleet.protocol.episode import sha256_of
from learning.core.learners.base import build_learner
from learning.core.policies.base import (
    BadArtifact,
    base_of,
    build_policy,
    load_policy,
    save_policy,
    whole_artifact,
)
from learning.core.policies.doubt_heads import with_doubt
from learning.core.policies.freezing import UnknownPart, train_only
from tests.core.making import Store, buffer_of
from tests.core.test_policies import IMAGE, observation_for
from tests.core.test_trainer import IMAGE as SMALL
from tests.core.test_trainer import episodes, trainer_of


def trained(parts, *, steps=3, config=SMALL, base=None):
    """Return (artifact of the base, learner after a few steps with only `parts` training)."""
    torch.manual_seed(0)
    policy = build_policy(config).eval() if base is None else load_policy(base)
    base = save_policy(policy) if base is None else base
    train_only(policy, parts)
    learner = build_learner("hg_dagger", policy)
    store = Store()
    buffer = buffer_of(store, [store.make(modes=(1,) * 24)], config=policy.config, rules=learner)
    for _ in range(steps):
        assert learner.update(buffer.gather(np.arange(10), np.random.default_rng(0))).applied
    return base, learner


def test_only_the_named_parts_train_and_only_they_have_moments_and_averages():
    base, learner = trained(("text", "head.0"))
    before = load_policy(base).state_dict()
    for network in (learner._policy, learner.policy):
        for name, tensor in network.state_dict().items():
            moves = name.startswith(("text.", "head.0."))
            # The padding word never has a gradient, but the rest of the table has.
            assert torch.equal(tensor, before[name]) is not moves, name
    names = [name for name, _ in learner._policy.named_parameters()]
    moments = {int(key.split(".")[1]) for key in learner.state().tensors if key[:5] == "adamw"}
    assert {names[index] for index in moments} == {
        name for name in names if name.startswith(("text.", "head.0."))
    }
    assert learner.trained == tuple(names[index] for index in sorted(moments))


def test_without_a_map_everything_trains():
    _, learner = trained(())
    assert all(parameter.requires_grad for parameter in learner._policy.parameters())


@pytest.mark.parametrize("part", ["heads", "hea", "head.9", "encoder.", ""])
def test_a_part_that_is_not_there_is_refused_with_those_that_are(part):
    policy = build_policy(IMAGE)
    with pytest.raises(UnknownPart, match="it has text, encoder, head"):
        train_only(policy, ("text", part))


def test_an_artifact_holds_only_what_trained_and_acts_as_the_whole():
    base, learner = trained(("text", "head"))
    part = save_policy(learner.policy, base=base)
    whole = save_policy(learner.policy)
    ref = base_of(part)
    assert ref.size_bytes == len(base)
    assert base_of(whole) is None
    asked = []
    again = load_policy(part, lambda needed: (asked.append(needed), base)[1])
    assert asked == [ref]
    assert save_policy(again) == whole
    assert whole_artifact(part, lambda _: base) == whole
    assert whole_artifact(whole, lambda _: base) == whole
    seen = observation_for(SMALL)
    assert torch.equal(again.act(seen)[0], learner.policy.act(seen)[0])


def test_equal_weights_are_equal_bytes():
    base, learner = trained(("head",))
    assert len({save_policy(learner.policy, base=base) for _ in range(8)}) == 1


def test_freezing_vision_makes_the_shipped_artifact_smaller():
    policy = build_policy(IMAGE)
    base = save_policy(policy)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if not name.startswith("encoder."):
                parameter.add_(1e-3)
    part = save_policy(policy, base=base)
    vision = sum(4 * p.numel() for n, p in policy.named_parameters() if n.startswith("encoder."))
    # The header is shorter by the names of the encoder's weights, longer by the base's hash.
    assert len(base) - vision - 4000 < len(part) < len(base) - vision + 200


def test_a_part_without_its_base_or_with_another_one_is_refused():
    base, learner = trained(("head",))
    part = save_policy(learner.policy, base=base)
    other = save_policy(build_policy(SMALL))
    with pytest.raises(BadArtifact, match="needs its base"):
        load_policy(part)
    with pytest.raises(BadArtifact, match="its base has sha256"):
        load_policy(part, lambda _: other)
    with pytest.raises(BadArtifact, match="its base has sha256"):
        load_policy(part, lambda _: b"rubbish")
    with pytest.raises(BadArtifact, match="must be whole"):
        save_policy(learner.policy, base=part)
    with pytest.raises(BadArtifact):
        save_policy(learner.policy, base=b"rubbish")


def test_a_part_of_a_base_that_is_a_part_itself_is_refused():
    base, learner = trained(("head",))
    part = save_policy(learner.policy, base=base)
    forged = part.replace(base_of(part).sha256.encode(), sha256_of(part).encode())
    with pytest.raises(BadArtifact, match="not whole"):
        load_policy(forged, lambda _: part)


def test_parts_that_the_base_does_not_have_are_in_the_artifact():
    torch.manual_seed(0)
    base = save_policy(build_policy(SMALL))
    policy = load_policy(base)
    train_only(policy, ("head.0",))
    grown = with_doubt(policy, 3, seed=0)
    names = {name for name, parameter in grown.named_parameters() if parameter.requires_grad}
    assert names == {
        "head.0.weight",
        "head.0.bias",
        "doubt.inner.weight",
        "doubt.inner.bias",
        "doubt.outer",
        "doubt.bias",
    }
    part = save_policy(grown, base=base)
    assert set(load_tensors(part)) == names - {"head.0.weight", "head.0.bias"}
    assert load_policy(part, lambda _: base).config.doubt_heads == 3


def test_a_checkpoint_goes_on_under_another_freeze_map():
    store = Store()
    records = episodes(store)
    first = trainer_of(records, store, SMALL)
    for _ in range(3):
        first.step()
    saved = first.checkpoint()
    second = trainer_of(records, store, SMALL, trains=("head",))
    second.restore(saved)
    frozen = {k: v.clone() for k, v in second.learner.state().tensors.items() if "encoder" in k}
    # Both networks stand where the published one stood.
    assert all(
        torch.equal(frozen[name], frozen[name.replace("policy.", "average.")]) for name in frozen
    )
    assert second.step().applied
    now = second.learner.state().tensors
    assert all(torch.equal(now[name], tensor) for name, tensor in frozen.items())
    third = trainer_of(records, store, SMALL)
    third.restore(second.checkpoint())
    assert third.step().applied


def test_a_frozen_run_resumes_bit_for_bit():
    store = Store()
    records = episodes(store)
    whole = trainer_of(records, store, SMALL, trains=("head", "text"))
    for _ in range(4):
        whole.step()
    saved = whole.checkpoint()
    for _ in range(3):
        whole.step()
    again = trainer_of(records, store, SMALL, trains=("head", "text"), seed=9)
    again.restore(saved)
    for _ in range(3):
        again.step()
    assert save_policy(again.learner.policy) == save_policy(whole.learner.policy)
