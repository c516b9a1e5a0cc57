"""RECAP's improvement indicator as words that a policy is told, and how a policy acts on them.

The words "Advantage: positive" or "Advantage: negative" are a prompt of their own beside the
instruction. They modulate (FiLM) every layer of the policy's head: appended to the instruction,
or to the head's input, a network of this size ignores two words that explain little of an action.
Without words the modulation is the identity, bit for bit. So weights that never saw an indicator
go on as they were, unconditioned training trains the same head, and pictures are encoded once for
both halves of the guidance.

Source:
    RECAP (arXiv:2511.14759): the indicator as text in the prompt, left out 30 % of the time,
    classifier-free guidance. Departures: FiLM in place of attention over the text, and guidance
    of the action itself, v = a, because these policies regress actions in place of a flow.
    FiLM (Perez et al. 2017, arXiv:1709.07871).
"""

from collections.abc import Callable

import msgspec
import torch
from torch import Tensor, nn

from learning.core.policies.base import Policy, build_policy
from learning.core.text import words_of
from learning.core.types import Indicator

PROMPTS: dict[Indicator, str] = {
    Indicator.NONE: "",
    Indicator.NEGATIVE: "Advantage: negative",
    Indicator.POSITIVE: "Advantage: positive",
}
# Size of a word's vector. Its own table, so that no word of an instruction shares a row with it.
PROMPT_DIM = 16
_VOCABULARY = {
    word: token
    for token, word in enumerate(sorted({w for p in PROMPTS.values() for w in words_of(p)}), 1)
}


def _prompt_tokens() -> Tensor:
    """Return int64 (indicators, l): the words of each prompt, 0 pads."""
    words = [[_VOCABULARY[word] for word in words_of(PROMPTS[i])] for i in Indicator]
    tokens = torch.zeros(len(words), max(map(len, words)), dtype=torch.long)
    for row, ids in enumerate(words):
        tokens[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
    return tokens


class IndicatorPrompt(nn.Module):
    """Modulates each layer of a head by the words of the indicator."""

    tokens: Tensor

    def __init__(self, head: nn.Sequential) -> None:
        """Modulate before each SiLU of heads that are built like `head`."""
        super().__init__()
        widths, width = [], 0
        for layer in head:
            if isinstance(layer, nn.Linear):
                width = layer.out_features
            elif isinstance(layer, nn.SiLU):
                widths.append(width)
        self.words = nn.Embedding(len(_VOCABULARY) + 1, PROMPT_DIM, padding_idx=0)
        # Always the same words: a learner that starts anew starts from the same weights.
        with torch.no_grad():
            generator = torch.Generator().manual_seed(0)
            self.words.weight[1:] = torch.randn(len(_VOCABULARY), PROMPT_DIM, generator=generator)
        # No bias: without words a modulation is zero.
        films = [nn.Linear(PROMPT_DIM, 2 * width, bias=False) for width in widths]
        for film in films:
            nn.init.zeros_(film.weight)
        self.films = nn.ModuleList(films)
        self.register_buffer("tokens", _prompt_tokens(), persistent=False)

    def forward(self, head: nn.Sequential, x: Tensor, indicator: Tensor) -> Tensor:
        """Return what `head` makes of [b, f], told the `Indicator` of each sample, int64 [b]."""
        tokens = self.tokens[indicator.to(self.tokens.device)]  # (b, l)
        count = (tokens > 0).sum(1, keepdim=True).clamp_min(1)
        prompt = self.words(tokens).sum(1) / count  # (b, d)
        films = iter(self.films)
        for layer in head:
            if isinstance(layer, nn.SiLU):
                scale, shift = next(films)(prompt).chunk(2, dim=1)
                x = x * (1 + scale) + shift
            x = layer(x)
        return x


def guided(
    run: Callable[[Tensor], Tensor], beta: float, told: Indicator = Indicator.POSITIVE
) -> Tensor:
    """Return one sample's action chunk [h, a] under guidance `beta`.

    v = v_unc + beta (v_cond - v_unc): beta 0 is unconditioned, 1 is conditioned, more goes beyond
    what was seen.

    Args:
        run: Returns the chunks [n, h, a] of one observation for indicators int64 [n].
        beta: At least 0.
        told: What the condition is.
    """
    if beta in (0.0, 1.0):
        return run(torch.tensor([told if beta else Indicator.NONE]))[0]
    unconditioned, conditioned = run(torch.tensor([Indicator.NONE, told]))
    return unconditioned + beta * (conditioned - unconditioned)


def with_indicator(
    policy: Policy, *, guidance: float = 1.0, evaluation_guidance: float = 1.5
) -> Policy:
    """Return a policy with the same weights that can be told the indicator.

    One that already can is returned as it is, with this guidance. A new one does at first whatever
    it did before, whatever it is told: what the words mean is to be learned.
    """
    config = msgspec.structs.replace(
        policy.config, indicator=True, guidance=guidance, evaluation_guidance=evaluation_guidance
    )
    if policy.config.indicator:
        policy.config = config
        return policy
    wider = build_policy(config)
    own = policy.state_dict()
    missing = [name for name in wider.state_dict() if name not in own]
    if any(not name.startswith("prompt.") for name in missing):
        raise ValueError(f"a {config.kind!r} policy cannot be told an indicator")
    wider.load_state_dict(own, strict=False)
    for name, parameter in policy.named_parameters():
        wider.get_parameter(name).requires_grad_(parameter.requires_grad)
    return wider.to(policy.device).train(policy.training)
