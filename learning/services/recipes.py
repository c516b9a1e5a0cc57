"""What a learner is made of, beside its algorithm: `Learner.config`, checked."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from learning.exceptions import Unprocessable


class SamplerRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a batch is mixed (learning.core.sampler)."""

    # "adaptive" is SOP's; "fixed" draws `share` of every task's samples online.
    kind: Literal["adaptive", "fixed"] = "adaptive"
    # Weight of an online loss against an offline one; above 1.
    alpha: Annotated[float, Meta(gt=1, le=100)] = 2.0
    # Divide the losses by the task's mean loss; off, as SOP prints it.
    normalise: bool = False
    share: Annotated[float, Meta(ge=0, le=1)] = 0.5


class ComputeRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where and how precisely it computes (learning.core.compute); used where it is there."""

    device: Literal["cpu", "cuda"] = "cpu"
    bf16: bool = False
    compile: bool = False


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a learner's rounds; `learner` holds those of its algorithm."""

    learner: dict[str, Any] = {}
    sampler: SamplerRecipe = SamplerRecipe()
    batch_size: Annotated[int, Meta(ge=1, le=65536)] = 60
    seed: Annotated[int, Meta(ge=0, le=2**53)] = 0
    # A version is published after this many steps and this many seconds, whichever is later.
    publish_steps: Annotated[int, Meta(ge=1)] = 25
    publish_every_s: Annotated[float, Meta(ge=0, le=3600)] = 5.0
    # Largest rate of gradient steps; None is as fast as the machine allows.
    updates_per_s: Annotated[float, Meta(gt=0)] | None = None
    # Parts of the policy that train, by prefix of their weights' names ("head", "encoder.films");
    # none named, all train, and parts that the base lacks always do. With some, published versions
    # hold what differs from the base only.
    trains: tuple[str, ...] = ()
    # Members of the ensemble beside the head that doubt is computed from; 0 leaves the base as it
    # is. Cannot be changed once there is a checkpoint.
    doubt_heads: Annotated[int, Meta(ge=0, le=32)] = 0
    compute: ComputeRecipe = ComputeRecipe()
    # Memory for decoded samples.
    cache_bytes: Annotated[int, Meta(ge=2**20)] = 512 * 2**20


# What a fresh installation learns with. `autonomous_successes` is a departure from HG-DAgger and
# `normalise` one from SOP; docs/learners.md says why they are on and what was measured with them.
DEFAULT_RECIPE: dict[str, Any] = {
    "learner": {"learning_rate": 4e-4, "ema_decay": 0.97, "autonomous_successes": True},
    "sampler": {"kind": "adaptive", "alpha": 2.0, "normalise": True},
    "batch_size": 60,
    "doubt_heads": 4,
    "publish_steps": 25,
    "publish_every_s": 8.0,
}


def default_recipe(algorithm: str) -> dict[str, Any]:
    """Return what a fresh learner of `algorithm` starts with; only HG-DAgger has options here."""
    return DEFAULT_RECIPE if algorithm == "hg_dagger" else {**DEFAULT_RECIPE, "learner": {}}


def decode_recipe(config: dict[str, Any]) -> Recipe:
    """Return the recipe in a learner's configuration. Raises Unprocessable."""
    try:
        return msgspec.convert(config, Recipe)
    except msgspec.ValidationError as error:
        raise Unprocessable(f"configuration of the learner: {error}") from None
