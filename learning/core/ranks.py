"""A learner on several processes under `torchrun`: rank 0 leads, the others follow.

The leader has the buffer, the sampler and the database behind them; a follower has nothing but a
copy of the learner. For each step the leader sends the batch, every rank computes the gradient of
its part, and all take the same step (`parallel.py`). Messages are safetensors and JSON, never
pickle.
"""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

import msgspec
import torch
import torch.distributed as dist
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from learning.core.compute import Compute
from learning.core.learners.base import Learner, LearnerState, UpdateResult, build_learner
from learning.core.parallel import splitting
from learning.core.policies.base import PolicyConfig, build_policy
from learning.core.policies.freezing import train_only
from learning.core.types import Batch

# A paused learner sends nothing for as long as people like; a peer that dies closes its socket.
_PATIENCE = timedelta(days=365)


class _Message(msgspec.Struct, frozen=True, kw_only=True):
    """What the leader says; tensors follow it."""

    kind: Literal["build", "load", "step", "stop"]
    learner: str = ""
    options: dict[str, Any] = {}
    policy: PolicyConfig | None = None
    # Names of the parameters that train.
    trained: tuple[str, ...] = ()
    compute: Compute = Compute()
    counters: dict[str, int] = {}


def join() -> int:
    """Join the processes that torchrun started; return this one's rank, 0 without torchrun."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return 0
    if not dist.is_initialized():
        # Messages are CPU tensors; gradients are where the policy is.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group(backend, timeout=_PATIENCE)
    return dist.get_rank()


def leader() -> "Leader | None":
    """Return the followers' leader on rank 0 of several processes, else None."""
    if dist.is_initialized() and dist.get_world_size() > 1 and dist.get_rank() == 0:
        return Leader()
    return None


class Leader:
    """Rank 0's side. Only one trainer may use it at a time; the newest `build` counts."""

    def __init__(self) -> None:
        self.ranks = dist.get_world_size()

    def build(self, learner: Learner, compute: Compute) -> None:
        """Make every follower hold a copy of `learner`."""
        message = _Message(
            kind="build",
            learner=learner.name,
            options=dict(learner.options),
            policy=learner.policy.config,
            trained=learner.trained,
            compute=compute,
        )
        _send(message, {})
        self.load(learner.state())

    def load(self, state: LearnerState) -> None:
        """Give every follower the state that the leader's learner has."""
        _send(_Message(kind="load", counters=state.counters), state.tensors)

    def update(
        self, learner: Learner, batch: Batch, noise: Tensor, compute: Compute
    ) -> tuple[UpdateResult, Tensor]:
        """Take one step together; return as `Compute.update` does, with every sample's loss.

        Raises:
            ValueError: The batch has no equal part for every rank.
        """
        if len(batch.row) % self.ranks:
            raise ValueError(f"a batch of {len(batch.row)} does not divide by {self.ranks} ranks")
        _send(_Message(kind="step"), batch.tensors() | {"noise": noise})
        return _share_of_step(learner, batch, noise, compute)

    def stop(self) -> None:
        """Let the followers end."""
        _send(_Message(kind="stop"), {})


def follow() -> None:
    """Do what the leader says until it stops."""
    learner: Learner | None = None
    compute = Compute()
    while True:
        message, tensors = _receive()
        if message.kind == "stop":
            return
        if message.kind == "build":
            assert message.policy is not None
            compute = message.compute
            policy = build_policy(message.policy)
            train_only(policy, message.trained)
            learner = build_learner(message.learner, compute.place(policy), message.options)
            continue
        if learner is None:
            raise RuntimeError("the leader sent work before a learner")
        if message.kind == "load":
            learner.load_state(LearnerState(tensors, message.counters))
        else:
            noise = tensors.pop("noise")
            _share_of_step(learner, Batch(**tensors), noise, compute)


def _share_of_step(
    learner: Learner, batch: Batch, noise: Tensor, compute: Compute
) -> tuple[UpdateResult, Tensor]:
    """Compute this rank's part of a batch that every rank has; return every sample's loss."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    rows = len(batch.row) // ranks
    mine = slice(rank * rows, (rank + 1) * rows)
    part = Batch(**{name: tensor[mine] for name, tensor in batch.tensors().items()})
    with splitting(rank, ranks):
        result, noise = compute.update(learner, part, noise)
    loss = result.loss.float().cpu()
    losses = [torch.empty_like(loss) for _ in range(ranks)]
    dist.all_gather(losses, loss)
    return UpdateResult(torch.cat(losses), result.applied, result.scalars), noise


def _send(message: _Message, tensors: Mapping[str, Tensor]) -> None:
    head = msgspec.json.encode(message)
    kept = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    body = save_tensors(kept) if kept else b""
    dist.broadcast(torch.tensor([len(head), len(body)]), 0)
    dist.broadcast(torch.frombuffer(bytearray(head + body), dtype=torch.uint8), 0)


def _receive() -> tuple[_Message, dict[str, Tensor]]:
    sizes = torch.empty(2, dtype=torch.int64)
    dist.broadcast(sizes, 0)
    head, body = sizes.tolist()
    data = torch.empty(head + body, dtype=torch.uint8)
    dist.broadcast(data, 0)
    raw = data.numpy().tobytes()
    message = msgspec.json.decode(raw[:head], type=_Message)
    return message, load_tensors(raw[head:]) if body else {}
