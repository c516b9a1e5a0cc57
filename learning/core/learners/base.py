"""What a learning algorithm is to the rest of the system: SOP's plug-in G. One page.

    ξ ← AdaptiveSample(B_on ∪ B_off);  θ ← G(θ, ξ);  publish θ        (SOP, arXiv 2601.03044)

Ingestion, buffers, sampling and distribution know a learner by this contract only. A new algorithm
is one new file in this folder: `learners/<name>.py` with a class decorated `@register("<name>")`.
It is found by that name; docs/learners.md, "Write your own", goes through an example.
"""

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec
import numpy as np
from jaxtyping import Float
from torch import Tensor

from learning.core.policies.base import Policy
from learning.core.records import EpisodeRecord
from learning.core.types import Batch, Observation


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """What one update did."""

    # Loss of each sample, detached.
    loss: Float[Tensor, " b"]
    # False when the step was skipped because the loss or the gradient was not finite.
    applied: bool
    # Curves: gradient norm, learning rate, ...
    scalars: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LearnerState:
    """Everything a learner must keep to go on as if never interrupted."""

    tensors: dict[str, Tensor]
    counters: dict[str, int]


class Learner(ABC):
    """An algorithm with its state: networks, optimiser, counters."""

    name: ClassVar[str]
    Config: ClassVar[type[msgspec.Struct]]
    # Whether episodes must have their indicators (`EpisodeRecord.indicator`) to teach anything.
    uses_indicators: ClassVar[bool] = False
    # The options it was built from, and the names of the parameters it trains; () is all.
    options: Mapping[str, Any] = MappingProxyType({})
    trained: tuple[str, ...] = ()

    @abstractmethod
    def __init__(self, policy: Policy, config: Any) -> None:
        """Go on training `policy`, which the learner owns from now on."""

    @property
    @abstractmethod
    def policy(self) -> Policy:
        """The policy to publish and evaluate, in eval mode; valid until the next update."""

    @abstractmethod
    def targets(self, record: EpisodeRecord) -> np.ndarray:
        """Return bool (t,): steps whose executed action may be learned from."""

    @abstractmethod
    def samples(self, record: EpisodeRecord) -> np.ndarray:
        """Return bool (t,): steps at which a training sample may start."""

    @abstractmethod
    def update(self, batch: Batch) -> UpdateResult:
        """Take one step on `batch`; randomness comes from torch's global generator."""

    def report(self, held_out: Sequence[Observation]) -> dict[str, float]:
        """Return what to log of a policy that is about to be published; nothing by default.

        Args:
            held_out: Observations no learner trains on, as the gate gets them; may be empty.
        """
        return {}

    @abstractmethod
    def state(self) -> LearnerState:
        """Return the state, as views of live tensors."""

    @abstractmethod
    def load_state(self, state: LearnerState) -> None:
        """Take over `state` by copy. Raises ValueError when it does not fit."""


class UnknownLearner(ValueError):
    """A name that is no learner, or a configuration that is not its."""


_registry: dict[str, type[Learner]] = {}


def register(name: str) -> Callable[[type[Learner]], type[Learner]]:
    """Class decorator: `name` in a learner's row builds this class."""

    def add(cls: type[Learner]) -> type[Learner]:
        cls.name = name
        _registry[name] = cls
        return cls

    return add


def build_learner(name: str, policy: Policy, config: Mapping[str, Any] | None = None) -> Learner:
    """Return the learner `name` for `policy`, configured from plain JSON values.

    Raises:
        UnknownLearner: No such learner, an unknown option, or a value out of its range.
    """
    module = f"{__package__}.{name}"
    if name not in _registry and name.isidentifier() and importlib.util.find_spec(module):
        importlib.import_module(module)
    if name not in _registry:
        raise UnknownLearner(f"no learner {name!r} in this version of the code")
    cls = _registry[name]
    options = dict(config or {})
    try:
        learner = cls(policy, msgspec.convert(options, cls.Config))
    except msgspec.ValidationError as error:
        raise UnknownLearner(f"configuration of {name}: {error}") from None
    learner.options = options
    return learner
