import shutil

import pytest
import torch

from learning.core import compute as compute_module
from learning.core.compute import Compute
from learning.core.policies.base import load_policy, save_policy
from learning.core.policies.encoders import _shifted, random_shift
from tests.core.making import Store
from tests.core.test_policies import observation_for
from tests.core.test_trainer import IMAGE, STATE, episodes, same_state, trainer_of

BOTH = pytest.mark.parametrize("config", [IMAGE, STATE], ids=["image", "state"])
CUDA = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device, and this machine has none"
)


def trained(config, compute, *, steps=4):
    store = Store()
    trainer = trainer_of(episodes(store), store, config, compute=compute)
    return trainer, [trainer.step() for _ in range(steps)]


@BOTH
def test_bf16_on_the_cpu_learns_nearly_the_same_with_float32_weights(config):
    plain, exact = trained(config, Compute())
    half, rounded = trained(config, Compute(bf16=True))
    assert all(report.applied for report in rounded)
    assert [r.loss for r in rounded] == pytest.approx([r.loss for r in exact], rel=0.03)
    assert [r.loss for r in rounded] != [r.loss for r in exact]
    assert {t.dtype for n, t in half.learner.state().tensors.items()} == {
        t.dtype for n, t in plain.learner.state().tensors.items()
    }
    assert load_policy(save_policy(half.learner.policy)).config == config


def test_a_bf16_run_resumes_bit_for_bit():
    store = Store()
    records = episodes(store)
    whole = trainer_of(records, store, STATE, compute=Compute(bf16=True))
    for _ in range(3):
        whole.step()
    again = trainer_of(records, store, STATE, compute=Compute(bf16=True), seed=5)
    again.restore(whole.checkpoint())
    assert whole.step().loss == again.step().loss
    assert same_state(whole, again)


# Dynamo looks at the gradient of every tensor it is given, also where there is none to see.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@BOTH
def test_compiled_parts_learn_what_plain_ones_learn(config, monkeypatch):
    # The graph is captured as for real; only the code generation, which takes a minute, is not.
    monkeypatch.setattr(compute_module, "_BACKEND", "eager")
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/c++")
    plain, expected = trained(config, Compute())
    compiled, reports = trained(config, Compute(compile=True))
    assert [r.loss for r in reports] == pytest.approx([r.loss for r in expected], rel=1e-5)
    assert compiled.learner.state().tensors.keys() == plain.learner.state().tensors.keys()
    assert all(part._compiled_call_impl for part in compiled.learner._policy.children())
    # What is published and evaluated acts on single observations: compiling that costs more.
    assert not any(part._compiled_call_impl for part in compiled.learner.policy.children())


def test_without_a_compiler_or_a_gpu_the_learner_learns_all_the_same(monkeypatch, caplog):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    plain, _ = trained(STATE, Compute())
    wished, _ = trained(STATE, Compute(compile=True, device="cuda"))
    assert same_state(plain, wished)
    assert "no GPU" in caplog.text
    assert "no C++ compiler" in caplog.text


def test_the_accelerators_shift_is_the_cpus():
    images = torch.randint(0, 256, (6, 3, 20, 24), dtype=torch.uint8)
    torch.manual_seed(1)
    expected = random_shift(images, 4)
    torch.manual_seed(1)
    corners = torch.randint(0, 9, (6, 2))
    assert torch.equal(_shifted(images, corners - 4), expected)


@CUDA
@BOTH
def test_a_gpu_learns_nearly_what_the_cpu_learns_and_its_policy_acts_anywhere(config):
    _, exact = trained(config, Compute())
    there, reports = trained(config, Compute(device="cuda"))
    assert [r.loss for r in reports] == pytest.approx([r.loss for r in exact], rel=1e-3)
    seen = observation_for(config)
    chunk, _ = there.learner.policy.act(seen)
    assert chunk.device.type == "cpu"
    here = load_policy(save_policy(there.learner.policy)).act(seen)[0]
    torch.testing.assert_close(here, chunk, atol=1e-4, rtol=1e-3)


@CUDA
def test_a_gpu_learns_in_bf16_and_compiled():
    _, reports = trained(IMAGE, Compute(device="cuda", bf16=True, compile=True))
    assert all(report.applied for report in reports)
