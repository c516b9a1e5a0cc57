"""HG-DAgger inside SOP's loop: imitate what people did while they held the robot.

Kelly et al. 2019, HG-DAgger (arXiv 1810.02890), its loop beside where each line lives here:

    D ← D_BC;  π ← train on D                     demonstrations: all steps, the offline buffer
    for each rollout: for each time step          fleet.agent, on the robot
        if the human takes control:
            D_j ← the human's actions             `targets`: control_mode 1, nothing else
            doubt at the takeover is logged       fleet.agent, with the episode
        else the policy acts                      not a target
    D ← D ∪ D_j;  π ← train on D                  `update`, continuously and from where it stands,
                                                  in place of one fit an epoch (SOP)

Departures
- Supervision is an action chunk, masked where the human was not in control, in place of one action.
- The start of a takeover (control_mode 2, 0.3 s) is no target: the person is still taking hold.
- The steps before a takeover are flagged as the policy's mistake (Sirius) and never imitated.
- Weights are averaged (EMA), and the average is what robots run.
- Corrections count even when the episode fails later: they are what the person would do there.
  An aborted episode is discarded whole; aborting is how an operator throws a fumble away.
- `autonomous_successes` also imitates what the policy did in episodes that succeeded without an
  intervention. It is not HG-DAgger, it is self-imitation, and off by default.
"""

import copy
import math
from typing import Annotated

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import get_ema_multi_avg_fn

from fleet.protocol.control import ControlLabel
from learning.core.learners.base import Learner, LearnerState, UpdateResult, register
from learning.core.policies.base import Policy
from learning.core.records import EpisodeRecord
from learning.core.types import Batch


class HgDaggerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of the learner."""

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
    # Also imitate episodes that succeeded without an intervention (a departure, see above).
    autonomous_successes: bool = False


@register("hg_dagger")
class HgDagger(Learner):
    """Behaviour cloning of the steps under human control, continuously."""

    Config = HgDaggerConfig

    def __init__(self, policy: Policy, config: HgDaggerConfig) -> None:
        """Go on training `policy` from its present weights."""
        self.config = config
        self._policy = policy.train()
        self._average = copy.deepcopy(policy).eval().requires_grad_(False)
        self._parameters = [p for p in policy.parameters() if p.requires_grad]
        self._averaged = [
            mean
            for mean, live in zip(self._average.parameters(), policy.parameters(), strict=True)
            if live.requires_grad
        ]
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

    def targets(self, record: EpisodeRecord) -> np.ndarray:
        """Return the steps under human control; all of a demonstration; none of an abort."""
        if record.outcome == "abort":
            return np.zeros(len(record), bool)
        if not record.online:
            return np.ones(len(record), bool)
        mode = record.control_mode
        imitated = mode == ControlLabel.HUMAN
        touched = imitated.any() or (mode == ControlLabel.TRANSITION).any()
        if self.config.autonomous_successes and record.outcome == "success" and not touched:
            imitated = mode == ControlLabel.POLICY
        return np.asarray(imitated & ~record.before_takeover)

    def samples(self, record: EpisodeRecord) -> np.ndarray:
        """Return the targets: each starts a chunk."""
        return self.targets(record)

    def _loss(self, batch: Batch) -> torch.Tensor:
        """Return the loss of each sample, [b]."""
        return self._policy.loss(batch)

    def _weights(self, batch: Batch) -> torch.Tensor:
        """Return how much each sample counts in the step, [b], of mean 1."""
        return torch.ones(len(batch.row), device=batch.row.device)

    def _learning_rate(self) -> float:
        warm = min(1.0, (self._steps + 1) / max(1, self.config.warmup_steps))
        return self.config.learning_rate * warm

    def update(self, batch: Batch) -> UpdateResult:
        """Take one AdamW step on the mean loss, then average the weights.

        A loss or a gradient that is not finite changes nothing but the count of skipped steps.
        """
        rate = self._learning_rate()
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad(set_to_none=True)
        loss = self._loss(batch)  # (b,)
        torch.autograd.backward((loss * self._weights(batch)).mean())
        norm = float(clip_grad_norm_(self._parameters, self.config.clip_norm, foreach=True))
        applied = math.isfinite(norm) and bool(torch.isfinite(loss).all())
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
        for index, moments in self._optimiser.state_dict()["state"].items():
            tensors |= {f"adamw.{index}.{k}": v for k, v in moments.items()}
        return LearnerState(tensors, {"steps": self._steps, "skipped": self._skipped})

    def _laid_out(self, index: str, moment: torch.Tensor) -> torch.Tensor:
        """Copy a moment into the memory layout of its parameter, which the fused kernel assumes."""
        parameter = self._parameters[int(index)]
        if moment.shape != parameter.shape:
            return moment.clone()  # the step count
        return torch.empty_like(parameter, requires_grad=False).copy_(moment)

    def load_state(self, state: LearnerState) -> None:
        """Take over `state` by copy. Raises ValueError when it does not fit."""
        moments: dict[int, dict[str, torch.Tensor]] = {}
        networks: dict[str, dict[str, torch.Tensor]] = {"policy": {}, "average": {}}
        try:
            for key, tensor in state.tensors.items():
                part, _, name = key.partition(".")
                if part == "adamw":
                    index, _, moment = name.partition(".")
                    moments.setdefault(int(index), {})[moment] = self._laid_out(index, tensor)
                else:
                    networks[part][name] = tensor
            self._policy.load_state_dict(networks["policy"])
            self._average.load_state_dict(networks["average"])
            groups = self._optimiser.state_dict()["param_groups"]
            self._optimiser.load_state_dict({"state": moments, "param_groups": groups})
            self._steps, self._skipped = state.counters["steps"], state.counters["skipped"]
        except (KeyError, IndexError, RuntimeError) as error:
            raise ValueError(f"not the state of this learner: {error}") from None
