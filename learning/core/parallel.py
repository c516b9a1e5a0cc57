"""One batch over several processes: what a rank must do so that the sum of shares is the whole.

Outside `splitting` every function here is that of one process: the same calls, the same bits.
Ranks come from `torchrun` (gloo on the CPU, NCCL on CUDA); who sends whom what is in `ranks.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

# This process's share of the batch in work: (rank, ranks).
_share = (0, 1)


@contextmanager
def splitting(rank: int, ranks: int) -> Iterator[None]:
    """Declare that the batches in this block are the `rank`-th of `ranks` equal parts."""
    global _share
    before, _share = _share, (rank, ranks)
    try:
        yield
    finally:
        _share = before


def whole_draw(draw: Callable[[int], Tensor], rows: int) -> Tensor:
    """Return this rank's part of random numbers drawn for the whole batch.

    Every rank draws all of them from the same generator's state, so that each sample is augmented
    as one process would have done it, and the generators stay equal.

    Args:
        draw: Makes the numbers of so many rows.
        rows: How many this rank has.
    """
    rank, ranks = _share
    if ranks == 1:
        return draw(rows)
    return draw(rows * ranks)[rank * rows : (rank + 1) * rows]


def sum_of_ranks(values: Tensor) -> Tensor:
    """Return the sum of every rank's `values`; with one process these."""
    if _share[1] == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total


def mean_gradients(parameters: Sequence[nn.Parameter], loss: Tensor) -> bool:
    """Replace the gradients by their mean over the ranks; say whether every loss is finite.

    Call it between the backward pass of the mean of `loss` and anything that reads a gradient.
    Each rank then takes the step that one process would take on the whole batch, but for the
    order in which floats are added.

    Args:
        parameters: Those that train, in the same order on every rank.
        loss: Of this rank's samples, [b].
    """
    ranks = _share[1]
    if ranks == 1:
        return bool(torch.isfinite(loss).all())
    gradients = [p.grad for p in parameters if p.grad is not None]
    # One message in place of one a parameter; the losses' sum rides along.
    together = torch.cat([g.flatten() for g in gradients] + [loss.detach().sum()[None]])
    dist.all_reduce(together)
    together /= ranks
    at = 0
    for gradient in gradients:
        gradient.copy_(together[at : at + gradient.numel()].view(gradient.shape))
        at += gradient.numel()
    return bool(torch.isfinite(together[-1]))
