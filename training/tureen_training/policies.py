"""A policy: a causal language model with its tokenizer, on disk, made small from a few numbers, and sampled from.

What a policy reads is made by `prompt_ids` alone, in fine-tuning as in sampling. A response is handed on with the
characters that each of its tokens stands for, so that rewards of characters become rewards of tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    Lfm2Config,
    Lfm2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tureen.contracts import Message
from tureen.model.files import replacing
from tureen.text.policy_tokens import decoded
from tureen.text.segments import Span
from tureen_training.runlog import progress

LINEAGE = "lineage.json"
PASSAGES = "Passages: {}\n"
PLAIN = "{passages}Question: {prompt}\nAnswer:"
"""What a policy without a chat template reads; a response follows after a space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TinySpec:
    """A Llama of random weights for small worlds; input and output embeddings are shared.

    layers, heads: of attention. width: of the residual stream. mlp: width of the hidden layer, 0 is 3 × width.
    convolution: so many tokens does the first layer look back by a gated convolution instead of attention, which
        makes it an LFM2 (arXiv:2511.23404): where what is to be recalled stands just before, it is recalled after a
        tenth of the text; 0 has attention alone.
    context_tokens: prompt and response together.
    """

    layers: int = 4
    width: int = 128
    heads: int = 4
    mlp: int = 0
    convolution: int = 0
    context_tokens: int = 192

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "context_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.convolution < 0 or (self.convolution and self.layers < 2):
            raise ValueError(
                f"convolution is {self.convolution} with {self.layers} layers; it must be 0 or more, "
                "and above it attention needs a layer"
            )
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} does not split into {self.heads} heads of an even width; "
                "rotary positions turn pairs of numbers"
            )


@dataclass(frozen=True, slots=True)
class Policy:
    """lineage: how it came to be; empty for a model from elsewhere."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    lineage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def context_tokens(self) -> int | None:
        """Of prompt and response together; None where the model does not say."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """temperature: 0 takes the most probable token. top_p: below 1 the log-probabilities of the policy are not
    those of what was sampled: for evaluation, not for PPO."""

    max_new_tokens: int = 32
    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}; it must be 1 or more")
        if not self.temperature >= 0:
            raise ValueError(f"temperature is {self.temperature}; it must be 0 or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it must be in (0, 1]")


@dataclass(frozen=True, slots=True)
class Sampled:
    """One response.

    token_ids: with the end-of-text token, if the policy ended. text: without white space at its start.
    offsets: for each token the characters of `text` it brought; none for the end of text, nor for a token that
        is only a part of a character, whose last token brings it.
    ended: whether the policy ended it; otherwise it ran into `max_new_tokens`.
    """

    token_ids: tuple[int, ...]
    text: str
    offsets: tuple[Span, ...]
    ended: bool


def load_policy(source: str | Path) -> Policy:
    """A policy by the path of a directory or by its name on the Hugging Face hub, in fp32.

    Raises:
        OSError: there is none. ValueError: its tokenizer is not a fast one or knows no end of text.
    """
    tokenizer = load_tokenizer(source)
    with told_of(source):
        model = AutoModelForCausalLM.from_pretrained(str(source), dtype=torch.float32)
    return Policy(model, tokenizer, read_lineage(source))


@contextmanager
def told_of(source: str | Path) -> Iterator[None]:
    """Names the model in an error of transformers, which may speak of its own hub alone."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise OSError(
            f"{str(source)!r} cannot be loaded, neither as a directory nor from the Hugging Face hub: {error}"
        ) from error


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerFast:
    """Left padding; where there is no token for it, the end of text pads, which the mask hides.

    Raises:
        OSError: there is none. ValueError: it is not a fast one or knows no end of text.
    """
    with told_of(source):
        tokenizer = AutoTokenizer.from_pretrained(str(source))
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError(
            f"{source} has a slow tokenizer, which cannot say where in the text its tokens are; "
            "convert it: a policy needs a tokenizer.json"
        )
    if tokenizer.eos_token_id is None:
        raise ValueError(
            f"the tokenizer of {source} has no eos_token; set one, a response must end"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def end_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """Of the end-of-text token."""
    return int(tokenizer.eos_token_id)  # pyright: ignore[reportArgumentType] - one id, by `load_tokenizer`


def pad_id(tokenizer: PreTrainedTokenizerFast) -> int:
    return int(tokenizer.pad_token_id)  # pyright: ignore[reportArgumentType] - one id, by `load_tokenizer`


def tiny_policy(spec: TinySpec, tokenizer: PreTrainedTokenizerFast, seed: int) -> Policy:
    """Random weights, the same for the same seed."""
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": spec.width,
        "intermediate_size": spec.mlp or 3 * spec.width,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.heads,
        "max_position_embeddings": spec.context_tokens,
        "tie_word_embeddings": True,
        "initializer_range": spec.width**-0.5,  # the usual 0.02 is made for a width of thousands
        "bos_token_id": None,
        "eos_token_id": end_id(tokenizer),
        "pad_token_id": pad_id(tokenizer),
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if spec.convolution:
            layers = ["conv", *["full_attention"] * (spec.layers - 1)]
            config = Lfm2Config(
                **shape,
                layer_types=layers,
                conv_L_cache=spec.convolution,
                block_auto_adjust_ff_dim=False,
            )
            return Policy(Lfm2ForCausalLM(config), tokenizer)
        return Policy(LlamaForCausalLM(LlamaConfig(**shape)), tokenizer)


def save_policy(policy: Policy, directory: Path, lineage: Mapping[str, Any]) -> None:
    """Weights, tokenizer and lineage, in one step."""
    with replacing(directory) as fresh:
        policy.model.save_pretrained(fresh)
        policy.tokenizer.save_pretrained(fresh)
        (fresh / LINEAGE).write_text(json.dumps(lineage, indent=2) + "\n", encoding="utf-8")


def read_lineage(source: str | Path) -> dict[str, Any]:
    """Empty where nothing is written down."""
    try:
        return json.loads((Path(source) / LINEAGE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def fingerprint_of(policy: Policy) -> str:
    """Hash of the weights by name, and of the tokenizer: 64 hexadecimal digits."""
    digest = hashlib.sha256(policy.tokenizer.backend_tokenizer.to_str().encode())
    for name, tensor in sorted(policy.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def prompt_ids(
    tokenizer: PreTrainedTokenizerFast,
    prompt: str | Sequence[Message],
    context: Sequence[str] = (),
) -> list[int]:
    """The tokens after which a policy responds.

    A tokenizer with a chat template gets messages, the passages at the head of the last one, and the opening of the
    assistant's turn; without one it gets `PLAIN`.

    Raises:
        ValueError: messages without a chat template.
    """
    if tokenizer.chat_template is None:
        if not isinstance(prompt, str):
            raise ValueError(
                "messages need a tokenizer with a chat template; give a plain prompt instead"
            )
        passages = PASSAGES.format(" ".join(context)) if context else ""
        return whole_ids(tokenizer, PLAIN.format(passages=passages, prompt=prompt))
    if isinstance(prompt, str):
        messages = [{"role": "user", "content": prompt}]
    else:
        messages = [{"role": message.role, "content": message.content} for message in prompt]
    messages[-1]["content"] = "\n".join((*context, messages[-1]["content"]))
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(str(text), add_special_tokens=False)["input_ids"])


def whole_ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """The tokens of a text with what the tokenizer puts before it, and without any end of text."""
    ids = list(tokenizer(text)["input_ids"])
    return ids[:-1] if ids[-1] == end_id(tokenizer) else ids


def response_ids(tokenizer: PreTrainedTokenizerFast, response: str) -> list[int]:
    """The tokens of a response as a policy would write it, with the end of text."""
    text = response if tokenizer.chat_template is not None else " " + response
    return [*tokenizer(text, add_special_tokens=False)["input_ids"], end_id(tokenizer)]


def sample(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    seed: int,
    batch: int = 64,
    what: str = "sampling",
) -> list[Sampled]:
    """One response to each prompt, in their order. Give a prompt K times for K responses.

    The same prompts, batch and seed give the same responses on the same machine; the state of torch's generators
    is left as it was.

    Args:
        prompts: tokens of each, see `prompt_ids`.

    Raises:
        ValueError: a prompt leaves no room for the response.
    """
    room = policy.context_tokens
    for index, prompt in enumerate(prompts):
        if not prompt or (room is not None and len(prompt) + sampling.max_new_tokens > room):
            raise ValueError(
                f"prompt {index} has {len(prompt)} tokens and max_new_tokens is {sampling.max_new_tokens}; a "
                f"prompt has at least 1, and together they may be {room}"
            )
    order = sorted(
        range(len(prompts)), key=lambda i: len(prompts[i])
    )  # rows of like length: little padding
    sampled: dict[int, Sampled] = {}
    devices = [policy.model.device] if policy.model.device.type == "cuda" else []
    training = policy.model.training
    policy.model.eval()
    try:
        with torch.random.fork_rng(devices), torch.no_grad():
            torch.manual_seed(seed)
            for start in progress(range(0, len(order), batch), what):
                rows = order[start : start + batch]
                responses = _generate(policy, [prompts[i] for i in rows], sampling)
                for i, tokens in zip(rows, responses, strict=True):
                    sampled[i] = as_sampled(policy.tokenizer, tokens)
    finally:
        policy.model.train(training)
    return [sampled[i] for i in range(len(prompts))]


def _generate(
    policy: Policy, prompts: Sequence[Sequence[int]], sampling: Sampling
) -> list[list[int]]:
    """Token ids of the responses, up to their end-of-text token and with it."""
    ids, mask = left_padded(prompts, pad_id(policy.tokenizer), policy.model.device)
    greedy = sampling.temperature == 0
    config = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        do_sample=not greedy,
        temperature=None if greedy else sampling.temperature,
        top_p=None if greedy else sampling.top_p,
        top_k=None if greedy else 0,
        eos_token_id=end_id(policy.tokenizer),
        pad_token_id=pad_id(policy.tokenizer),
    )
    out = policy.model.generate(input_ids=ids, attention_mask=mask, generation_config=config)  # pyright: ignore[reportCallIssue]
    rows = out[:, ids.shape[1] :].tolist()  # (B, R)
    end = end_id(policy.tokenizer)
    return [row[: row.index(end) + 1] if end in row else row for row in rows]


def left_padded(
    rows: Sequence[Sequence[int]], padding: int, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, True where a token counts. Both (B, T)."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), padding, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :] = torch.tensor(row)
        mask[i, longest - len(row) :] = True
    return ids.to(device), mask.to(device)


def as_sampled(tokenizer: PreTrainedTokenizerFast, token_ids: Sequence[int]) -> Sampled:
    """Text and offsets of a response's tokens."""
    ended = bool(token_ids) and token_ids[-1] == end_id(tokenizer)
    text, spans = decoded(tokenizer.backend_tokenizer, token_ids)
    return Sampled(tuple(token_ids), text, tuple(spans), ended)
