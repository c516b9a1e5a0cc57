import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from learning.core.parallel import mean_gradients, splitting, sum_of_ranks, whole_draw
from learning.core.policies.encoders import random_shift
from tests.core import split_steps

ROOT = Path(__file__).parents[2]
# Two ranks add the same floats in another order, and AdamW divides by the root of a second moment
# that is tiny at first. Measured after twelve steps: below 1e-5 for weights of order 0.1 to 1.
LOSS_TOLERANCE = 1e-5
WEIGHT_TOLERANCE = 5e-5


def test_one_process_draws_what_it_always_drew():
    torch.manual_seed(3)
    plain = torch.rand(4, 2)
    torch.manual_seed(3)
    assert torch.equal(whole_draw(lambda n: torch.rand(n, 2), 4), plain)


def test_the_ranks_draws_are_the_parts_of_one_draw():
    torch.manual_seed(3)
    whole = torch.rand(6, 2)
    after = torch.get_rng_state()
    parts = []
    for rank in range(3):
        torch.manual_seed(3)
        with splitting(rank, 3):
            parts.append(whole_draw(lambda n: torch.rand(n, 2), 2))
        assert torch.equal(torch.get_rng_state(), after)
    assert torch.equal(torch.cat(parts), whole)


def test_pictures_of_a_part_are_shifted_as_in_the_whole():
    images = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8)
    torch.manual_seed(5)
    whole = random_shift(images, 4)
    torch.manual_seed(5)
    with splitting(1, 2):
        assert torch.equal(random_shift(images[4:], 4), whole[4:])


def test_alone_nothing_is_summed_or_averaged():
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([1.0, 2.0])
    assert mean_gradients([weight], torch.tensor([1.0]))
    assert not mean_gradients([weight], torch.tensor([1.0, float("nan")]))
    assert weight.grad.tolist() == [1.0, 2.0]
    assert sum_of_ranks(torch.tensor([3.0])).tolist() == [3.0]


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_from_the_whole_batch(tmp_path):
    folders = {processes: tmp_path / str(processes) for processes in (1, 2)}
    for folder in folders.values():
        folder.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", split_steps.__file__, str(folders[2])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr[-4000:]
    split_steps.main(folders[1])
    for name in ("state.safetensors", "image.safetensors"):
        one, two = (load_file(folder / name) for folder in folders.values())
        assert one.keys() == two.keys()
        torch.testing.assert_close(two["loss"], one["loss"], atol=LOSS_TOLERANCE, rtol=0)
        for key, tensor in one.items():
            torch.testing.assert_close(
                two[key], tensor, atol=WEIGHT_TOLERANCE, rtol=1e-4, msg=lambda m, k=key: f"{k}: {m}"
            )
