"""Steps of the real trainer under torchrun: `python split_steps.py FOLDER`; rank 0 writes there."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from learning.core import ranks
from tests.core.making import Store
from tests.core.test_trainer import IMAGE, STATE, episodes, trainer_of

STEPS = 6


def train(config, leader, out: Path) -> None:
    store = Store()
    trainer = trainer_of(episodes(store), store, config, leader=leader)
    reports = [trainer.step() for _ in range(STEPS)]
    # A resume hands the state to the followers too.
    trainer.restore(trainer.checkpoint())
    reports += [trainer.step() for _ in range(STEPS)]
    tensors = {k: v.detach().contiguous() for k, v in trainer.learner.state().tensors.items()}
    tensors["loss"] = torch.tensor([report.loss for report in reports])
    tensors["norm"] = torch.tensor([report.scalars["grad_norm"] for report in reports])
    save_file(tensors, out)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    if ranks.join():
        ranks.follow()
    else:
        leader = ranks.leader()
        for config in (STATE, IMAGE):
            train(config, leader, folder / f"{config.kind}.safetensors")
        if leader is not None:
            leader.stop()
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
