"""Which parts of a policy train: the freeze map, by prefixes of the names of its weights."""

from collections.abc import Sequence

from learning.core.policies.base import Policy


class UnknownPart(ValueError):
    """A freeze map names a part that this policy does not have."""


def train_only(policy: Policy, parts: Sequence[str]) -> None:
    """Let only the parameters of `parts` train; without any, all of them.

    Args:
        policy: Whose parameters' `requires_grad` is set.
        parts: Dotted prefixes of parameter names: "head" is the whole head, "head.0" its first
            layer.

    Raises:
        UnknownPart: A part matches no parameter; the message lists those there are.
    """
    names = [name for name, _ in policy.named_parameters()]
    for part in parts:
        if not any(_in_part(name, part) for name in names):
            there = ", ".join(dict.fromkeys(name.split(".")[0] for name in names))
            raise UnknownPart(f"the policy has no part {part!r}; it has {there}")
    for name, parameter in policy.named_parameters():
        parameter.requires_grad_(not parts or any(_in_part(name, part) for part in parts))


def _in_part(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")
