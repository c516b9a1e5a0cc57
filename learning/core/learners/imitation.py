"""What imitation learners share: AdamW on the mean loss, averaged weights, and state to resume.

An algorithm that imitates says which steps (`targets`) and, if it differs from the policy's own
loss, how (`_loss`, `_weights`); the rest is here. Not an algorithm by itself: nothing registers it.
"""

import copy
import math
from abc import ABC
from typing import Annotated

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import get_ema_multi_avg_fn

from learning.core.learners.base import Learner, LearnerState, UpdateResult
from learning.core.parallel import mean_gradients
from learning.core.policies.base import Policy
from learning.core.records import EpisodeRecord
from learning.core.types import Batch


class ImitationConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of every imitation learner."""

    # Step size of AdamW. Constant online: there is no last step to anneal towards.
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 4e-4
    # The step size rises linearly over this many steps; spares a converged base policy the
    # optimiser's first, badly scaled steps. 0 is off.
    warmup_steps: Annotated[int, Meta(ge=0)] = 0
    # Decoupled weight decay of AdamW.
    weight_decay: Annotated[float, Meta(ge=0, le=1)] = 1e-4
    # Decay of the averaged weights, per step: a memory of some 30 steps.
    ema_decay: Annotated[float, Meta(ge=0, lt=1)] = 0.97
    # Largest norm of the gradient; longer ones are scaled down to it.
    clip_norm: Annotated[float, Meta(gt=0)] = 10.0


class Imitation(Learner, ABC):
    """Behaviour cloning of the steps a subclass chooses, continuously."""

    Config = ImitationConfig

    def __init__(self, policy: Policy, config: ImitationConfig) -> None:
        """Go on training `policy` from its present weights."""
        self.config = config
        self._policy = policy.train()
        self._average = copy.deepcopy(policy).eval().requires_grad_(False)
        # Frozen parameters have neither moments nor an average of their own.
        self.trained = tuple(name for name, p in policy.named_parameters() if p.requires_grad)
        self._trained = [i for i, p in enumerate(policy.parameters()) if p.requires_grad]
        self._parameters = [p for p in policy.parameters() if p.requires_grad]
        means = list(self._average.parameters())
        self._averaged = [means[i] for i in self._trained]
        # torch has no annotations here.
        self._average_in = get_ema_multi_avg_fn(config.ema_decay)  # type: ignore[no-untyped-call]
        self._optimiser = torch.optim.AdamW(
            self._parameters,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self._steps = 0
        self._skipped = 0

    @property
    def policy(self) -> Policy:
        """The averaged policy, in eval mode."""
        return self._average

    def samples(self, record: EpisodeRecord) -> np.ndarray:
        """Return the targets: each starts a chunk."""
        return self.targets(record)

    def _learning_rate(self) -> float:
        warm = min(1.0, (self._steps + 1) / max(1, self.config.warmup_steps))
        return self.config.learning_rate * warm

    def _loss(self, batch: Batch) -> Tensor:
        """Return the loss of each sample, [b], with its gradient."""
        return self._policy.loss(batch)

    def _weights(self, batch: Batch) -> Tensor | None:
        """Return how much each sample counts, [b], 1 on average; None counts all the same."""
        return None

    def update(self, batch: Batch) -> UpdateResult:
        """Take one AdamW step on the mean loss, then average the weights.

        A loss or a gradient that is not finite changes nothing but the count of skipped steps.
        The losses returned are not weighted: the sampler compares them.
        """
        rate = self._learning_rate()
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad(set_to_none=True)
        loss = self._loss(batch)  # (b,)
        weights = self._weights(batch)
        torch.autograd.backward((loss if weights is None else loss * weights).mean())
        finite = mean_gradients(self._parameters, loss)
        norm = float(clip_grad_norm_(self._parameters, self.config.clip_norm, foreach=True))
        applied = finite and math.isfinite(norm)
        if applied:
            self._optimiser.step()
            self._average_in(self._averaged, self._parameters, self._steps)
            for mean, live in zip(self._average.buffers(), self._policy.buffers(), strict=True):
                mean.copy_(live)
            self._steps += 1
        else:
            self._skipped += 1
        scalars = {"grad_norm": norm, "learning_rate": rate, "skipped": float(self._skipped)}
        return UpdateResult(loss.detach(), applied, scalars)

    def state(self) -> LearnerState:
        """Return weights, averaged weights, optimiser moments, and the counts of steps."""
        tensors = {f"policy.{k}": v for k, v in self._policy.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self._average.state_dict().items()}
        for position, moments in self._optimiser.state_dict()["state"].items():
            # By the place among all parameters, so that another freeze map can go on from here.
            index = self._trained[position]
            tensors |= {f"adamw.{index}.{k}": v for k, v in moments.items()}
        return LearnerState(tensors, {"steps": self._steps, "skipped": self._skipped})

    def _laid_out(self, position: int, moment: torch.Tensor) -> torch.Tensor:
        """Copy a moment into the memory layout of its parameter, which the fused kernel assumes."""
        parameter = self._parameters[position]
        if moment.shape != parameter.shape:
            return moment.clone()  # the step count
        return torch.empty_like(parameter, requires_grad=False).copy_(moment)

    @torch.no_grad()
    def _settle_frozen(self) -> None:
        """Freeze at the averaged weights: what robots run, and what the rest is to fit."""
        for mean, live in zip(self._average.parameters(), self._policy.parameters(), strict=True):
            if not live.requires_grad:
                live.copy_(mean)

    def load_state(self, state: LearnerState) -> None:
        """Take over `state` by copy, also one with another freeze map.

        A parameter that was frozen then starts without moments. Raises ValueError when the state
        does not fit.
        """
        position_of = {index: position for position, index in enumerate(self._trained)}
        moments: dict[int, dict[str, torch.Tensor]] = {}
        networks: dict[str, dict[str, torch.Tensor]] = {"policy": {}, "average": {}}
        try:
            for key, tensor in state.tensors.items():
                part, _, name = key.partition(".")
                if part == "adamw":
                    index, _, moment = name.partition(".")
                    position = position_of.get(int(index))
                    if position is not None:
                        laid_out = self._laid_out(position, tensor)
                        moments.setdefault(position, {})[moment] = laid_out
                else:
                    networks[part][name] = tensor
            self._policy.load_state_dict(networks["policy"])
            self._average.load_state_dict(networks["average"])
            self._settle_frozen()
            groups = self._optimiser.state_dict()["param_groups"]
            self._optimiser.load_state_dict({"state": moments, "param_groups": groups})
            self._steps, self._skipped = state.counters["steps"], state.counters["skipped"]
        except (KeyError, ValueError, RuntimeError) as error:
            raise ValueError(f"not the state of this learner: {error}") from None
