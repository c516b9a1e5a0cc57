"""What a policy is, and its artifact: safetensors with the configuration in the metadata.

The artifact is what is published: weights and what is needed to rebuild the network around them,
never pickle. A registry maps `PolicyConfig.kind` to a class, so that an agent can load any policy
it has the code for.
"""

from collections.abc import Callable
from typing import Annotated

import msgspec
import torch
from msgspec import Meta
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from fleet.protocol.episode import sha256_of
from fleet.protocol.spec import Sha256
from learning.core.types import Batch, Indicator, Observation

MAX_ARTIFACT_BYTES = 2 * 1024**3


class BadArtifact(ValueError):
    """Bytes that are not a policy this code can run."""


class PolicyConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything needed to rebuild a policy's network."""

    # Which class: "image" or "state".
    kind: str
    state_dim: Annotated[int, Meta(ge=1, le=256)]
    action_dim: Annotated[int, Meta(ge=1, le=64)]
    # Cameras in the order the network stacks them; empty for a state policy.
    cameras: tuple[str, ...] = ()
    # Side of the square image the network sees; recorded images are reduced to it by area.
    image_px: Annotated[int, Meta(ge=16, le=512)] = 64
    # Actions proposed at once, and how many of them are executed before the next inference.
    horizon: Annotated[int, Meta(ge=1, le=100)] = 8
    execute: Annotated[int, Meta(ge=1, le=100)] = 4
    width: Annotated[int, Meta(ge=8, le=4096)] = 256
    text_buckets: Annotated[int, Meta(ge=16, le=65536)] = 512
    # Members of the ensemble that doubt is computed from, and the width of each; 0 computes none.
    # Narrower than 32 they cannot fit the data, and disagree everywhere (docs/learners.md).
    doubt_heads: Annotated[int, Meta(ge=0, le=32)] = 0
    doubt_width: Annotated[int, Meta(ge=1, le=1024)] = 32
    # Limits of the action, in its unit; proposals are clipped to them.
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()
    # Whether it is told RECAP's indicator, see `policies.prompt`; the base policy is not.
    indicator: bool = False
    # Classifier-free guidance, beta: while acting for training data, and while being evaluated.
    # 0 says nothing, 1 says "positive", more exaggerates what that changes. RECAP: 1.5 to 2.5.
    guidance: Annotated[float, Meta(ge=0, le=10)] = 1.0
    evaluation_guidance: Annotated[float, Meta(ge=0, le=10)] = 1.5


class Policy(nn.Module):
    """A network that turns an observation into an action chunk."""

    config: PolicyConfig
    # The beta it acts with; None is the configuration's for training data.
    guidance: float | None = None
    # What it is told, where it was trained with the indicator.
    told: Indicator = Indicator.POSITIVE

    def guide(self, *, evaluation: bool) -> None:
        """Act with the configuration's guidance for evaluation, or for training data."""
        self.guidance = self.config.evaluation_guidance if evaluation else self.config.guidance

    @property
    def beta(self) -> float:
        """The guidance it acts with."""
        return self.config.guidance if self.guidance is None else self.guidance

    @property
    def device(self) -> torch.device:
        """Where the weights are; observations are moved there."""
        return next(self.parameters()).device

    def act(self, observation: Observation) -> tuple[Tensor, float]:
        """Return (float32 [h, a] on the CPU, doubt). Doubt is NaN when the policy computes none."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of each sample, float32 [b], differentiable."""
        raise NotImplementedError


_registry: dict[str, Callable[[PolicyConfig], Policy]] = {}


def register(kind: str) -> Callable[[type[Policy]], type[Policy]]:
    """Class decorator: `kind` in a configuration builds this class."""

    def add(cls: type[Policy]) -> type[Policy]:
        _registry[kind] = cls
        return cls

    return add


def build_policy(config: PolicyConfig) -> Policy:
    """Return an untrained policy of `config`. Raises BadArtifact for an unknown kind."""
    import learning.core.policies.image
    import learning.core.policies.state  # noqa: F401

    if config.kind not in _registry:
        raise BadArtifact(f"no policy of kind {config.kind!r} in this version of the code")
    return _registry[config.kind](config)


class BaseRef(msgspec.Struct, frozen=True, kw_only=True):
    """The artifact that another one is a part of, in the metadata of the latter."""

    sha256: Sha256
    size_bytes: Annotated[int, Meta(ge=1, le=MAX_ARTIFACT_BYTES)]


# Returns the bytes of a base. Raises BadArtifact when they cannot be had.
ReadBase = Callable[[BaseRef], bytes]


def save_policy(policy: Policy, *, base: bytes | None = None) -> bytes:
    """Return the artifact of a policy: float32 weights and configuration, as safetensors bytes.

    Args:
        policy: What to save.
        base: A whole artifact that whoever loads this one can get. Only what differs from it is
            saved, to the bit: what trained, and parts that the base does not have.

    Raises:
        BadArtifact: The base is none, or not whole.
    """
    tensors = {k: v.detach().contiguous().cpu() for k, v in policy.state_dict().items()}
    metadata = {"policy": msgspec.json.encode(policy.config).decode()}
    if base is not None:
        _, known = _read(base)
        if base_of(base) is not None:
            raise BadArtifact("a base must be whole, not based on another one")
        tensors = {
            k: v for k, v in tensors.items() if k not in known or not torch.equal(v, known[k])
        }
        ref = BaseRef(sha256=sha256_of(base), size_bytes=len(base))
        metadata["base"] = msgspec.json.encode(ref).decode()
    return in_order(save_tensors(tensors, metadata))


def in_order(artifact: bytes) -> bytes:
    """Sort the header, which safetensors writes in random order: equal weights have one hash."""
    size = int.from_bytes(artifact[:8], "little")
    header = msgspec.json.encode(msgspec.json.decode(artifact[8 : 8 + size]), order="deterministic")
    header = header.ljust(-(-len(header) // 8) * 8)  # tensors are aligned to 8 bytes
    return len(header).to_bytes(8, "little") + header + artifact[8 + size :]


def base_of(artifact: bytes) -> BaseRef | None:
    """Return which base an artifact needs, None for a whole one.

    Raises:
        BadArtifact: Not an artifact.
    """
    metadata, _ = _read(artifact, tensors=False)
    if "base" not in metadata:
        return None
    try:
        return msgspec.json.decode(metadata["base"], type=BaseRef)
    except msgspec.MsgspecError as error:
        raise BadArtifact(f"not a policy artifact: {error}") from None


def load_policy(artifact: bytes, read_base: ReadBase | None = None) -> Policy:
    """Rebuild the policy of an artifact, in eval mode.

    Args:
        artifact: As `save_policy` made it.
        read_base: Where the base comes from when the artifact has one; its sha256 is checked here.

    Raises:
        BadArtifact: Not safetensors, no or wrong configuration, tensors that do not fit it, values
            that are not finite, or a base that cannot be had or is another one.
    """
    metadata, tensors = _read(artifact)
    ref = base_of(artifact)
    if ref is not None:
        tensors = _base_tensors(ref, read_base) | tensors
    try:
        config = msgspec.json.decode(metadata["policy"], type=PolicyConfig)
        policy = build_policy(config)
        policy.load_state_dict(tensors)
    except BadArtifact:
        raise
    except Exception as error:  # msgspec and torch each raise their own kinds
        raise BadArtifact(f"not a policy artifact: {error}") from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise BadArtifact(f"weights of {name} are not finite")
    return policy.eval()


def whole_artifact(artifact: bytes, read_base: ReadBase) -> bytes:
    """Return an artifact that needs no base. Raises BadArtifact as `load_policy` does."""
    if base_of(artifact) is None:
        return artifact
    return save_policy(load_policy(artifact, read_base))


def _read(artifact: bytes, *, tensors: bool = True) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return metadata and, if wanted, tensors of an artifact. Raises BadArtifact."""
    try:
        size = int.from_bytes(artifact[:8], "little")
        header = msgspec.json.decode(artifact[8 : 8 + size], type=dict)
        metadata = msgspec.convert(header["__metadata__"], dict[str, str])
        return metadata, load_tensors(artifact) if tensors else {}
    except Exception as error:  # safetensors and msgspec each raise their own kinds
        raise BadArtifact(f"not a policy artifact: {error}") from None


def _base_tensors(ref: BaseRef, read_base: ReadBase | None) -> dict[str, Tensor]:
    if read_base is None:
        raise BadArtifact(f"it needs its base {ref.sha256[:12]}…, which is not here")
    base = read_base(ref)
    if (found := sha256_of(base)) != ref.sha256:
        raise BadArtifact(f"its base has sha256 {found[:12]}…, not {ref.sha256[:12]}…")
    if base_of(base) is not None:
        raise BadArtifact(f"its base {ref.sha256[:12]}… is not whole")
    return _read(base)[1]
