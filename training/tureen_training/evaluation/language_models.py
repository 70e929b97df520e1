"""Language models to be judged: causal ones (policies) and masked ones, told apart by their configuration."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tureen_training.policies import Policy, fingerprint_of, load_policy, told_of

CAUSAL = ("ForCausalLM", "LMHeadModel")
MASKED = ("ForMaskedLM", "ForPreTraining")
"""How the architectures end that predict the next token, and those that predict a masked one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModel:
    """policy: the network with its tokenizer, of a masked model as well. masked: what it predicts."""

    name: str
    policy: Policy
    masked: bool
    fingerprint: str


def open_language_model(source: str, device: str = "cpu") -> LanguageModel:
    """By the path of a directory or by its name on the Hugging Face hub, in fp32, for inference.

    Raises:
        OSError: there is none. ValueError: it predicts no tokens, or its tokenizer does not serve.
    """
    with told_of(source):
        architectures = AutoConfig.from_pretrained(source).architectures or []
    masked = any(name.endswith(MASKED) for name in architectures)
    if not masked and not any(name.endswith(CAUSAL) for name in architectures):
        raise ValueError(
            f"{source} is {' and '.join(architectures) or 'of no architecture that it names'}, which has no head "
            f"that predicts tokens; give a causal ({', '.join(CAUSAL)}) or a masked language model ({MASKED[0]})"
        )
    policy = _load_masked(source) if masked else load_policy(source)
    policy.model.to(torch.device(device)).eval()  # pyright: ignore[reportArgumentType] - its annotation is of another
    return LanguageModel(
        name=source, policy=policy, masked=masked, fingerprint=f"sha256:{fingerprint_of(policy)}"
    )


def _load_masked(source: str) -> Policy:
    tokenizer = AutoTokenizer.from_pretrained(source)
    if not isinstance(tokenizer, PreTrainedTokenizerFast) or tokenizer.mask_token_id is None:
        raise ValueError(
            f"the tokenizer of {source} is slow or has no mask_token; a masked language model needs both "
            "a tokenizer.json and a token to hide words behind"
        )
    model, loading = AutoModelForMaskedLM.from_pretrained(
        source, dtype=torch.float32, output_loading_info=True
    )
    if loading["missing_keys"]:
        raise ValueError(
            f"{source} has no weights for {', '.join(sorted(loading['missing_keys'])[:3])}: its head was not "
            "stored, and one of random weights would say nothing"
        )
    assert isinstance(model, PreTrainedModel)
    return Policy(model, tokenizer)
