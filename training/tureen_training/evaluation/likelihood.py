"""Log-probabilities of texts, in batches that leave no trace: of the next token, or of one that is masked.

A causal model's tokens are each predicted from those before them; a masked model's from all others, one hidden at a
time (pseudo-log-likelihood: Salazar et al., arXiv:1910.14659).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from tureen.contracts import ErrorInfo, Message
from tureen_training.evaluation.language_models import LanguageModel
from tureen_training.losses_ppo import token_log_probs
from tureen_training.policies import (
    end_id,
    left_padded,
    pad_id,
    prompt_ids,
    response_ids,
    whole_ids,
)

LOGITS = 2**27
"""Numbers of one forward pass that are kept: rows × places × vocabulary, half a gigabyte in fp32."""


class Text(NamedTuple):
    """ids: all tokens. counted: places of those whose log-probabilities are summed, ascending."""

    ids: tuple[int, ...]
    counted: tuple[int, ...]


def sentence(model: LanguageModel, text: str) -> Text:
    """A text by itself: every token of it counts, what the tokenizer puts around it does not.

    A causal model reads it after the beginning-of-text token, or the end-of-text token where it has no other.
    """
    tokenizer = model.policy.tokenizer
    if model.masked:
        ids = tuple(tokenizer(text)["input_ids"])
        special = tokenizer(text, return_special_tokens_mask=True)["special_tokens_mask"]
        return Text(ids, tuple(place for place, mark in enumerate(special) if not mark))
    ids = whole_ids(tokenizer, text)
    begin = tokenizer.bos_token_id
    if begin is None or ids[0] != begin:
        ids = [end_id(tokenizer) if begin is None else begin, *ids]
    return Text(tuple(ids), tuple(range(1, len(ids))))


def continuation(model: LanguageModel, prompt: str | Sequence[Message], text: str) -> Text:
    """What a causal model writes after a prompt: the tokens of `text` count, those of the prompt do not.

    Messages are put through the chat template; after a plain prompt the text follows behind a space, and both are
    tokenised together, as the model would read them.
    """
    tokenizer = model.policy.tokenizer
    if isinstance(prompt, str):
        before = whole_ids(tokenizer, prompt)
        whole = whole_ids(tokenizer, f"{prompt} {text}")
        if len(whole) > len(before) and whole[: len(before)] == before:
            return Text(tuple(whole), tuple(range(len(before), len(whole))))
        own = tokenizer(f" {text}", add_special_tokens=False)["input_ids"]
    else:
        before = prompt_ids(tokenizer, prompt)
        own = response_ids(tokenizer, text)[:-1]
    return Text((*before, *own), tuple(range(len(before), len(before) + len(own))))


def too_long(model: LanguageModel, texts: Sequence[Text]) -> ErrorInfo | None:
    """Why a model cannot read them, or None."""
    # RoBERTa counts positions from 2, which its tokenizer knows and its configuration does not say
    room = min(model.policy.context_tokens or math.inf, model.policy.tokenizer.model_max_length)
    longest = max(len(text.ids) for text in texts)
    if longest <= room:
        return None
    return ErrorInfo(
        code="input_too_long",
        message=f"{longest} tokens; {model.name} reads {room}",
        limit=room,
        got=longest,
    )


def log_probs(model: LanguageModel, texts: Sequence[Text], max_batch_tokens: int) -> list[float]:
    """Σ log p of the counted tokens of each text, in nats.

    Args:
        texts: none longer than the model reads, see `too_long`; the first token of a causal model's is not counted.
        max_batch_tokens: of one forward pass, padding among them.
    """
    with torch.inference_mode():
        return (_masked if model.masked else _causal)(model, texts, max_batch_tokens)


def _causal(model: LanguageModel, texts: Sequence[Text], max_batch_tokens: int) -> list[float]:
    policy, sums = model.policy, [0.0] * len(texts)
    kept = [len(text.ids) - text.counted[0] + 1 if text.counted else 1 for text in texts]
    for rows in _batches(
        [len(text.ids) for text in texts], kept, len(policy.tokenizer), max_batch_tokens
    ):
        ids, mask = left_padded(
            [texts[row].ids for row in rows], pad_id(policy.tokenizer), policy.model.device
        )
        last = max(kept[row] for row in rows)
        logits = policy.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.long().cumsum(1) - 1).clamp_min(0),
            logits_to_keep=last,
            use_cache=False,
        ).logits  # (B, last, V)
        own = ids[:, ids.shape[1] - last + 1 :]  # (B, last - 1)
        if own.shape[1]:
            found = token_log_probs(logits[:, :-1], own, 1.0).double().cpu()
            for row, line in zip(rows, found, strict=True):
                text = texts[row]
                places = [place - len(text.ids) for place in text.counted]  # from the end
                sums[row] = line[places].sum().item()
    return sums


def _masked(model: LanguageModel, texts: Sequence[Text], max_batch_tokens: int) -> list[float]:
    policy, sums = model.policy, [0.0] * len(texts)
    hidden = policy.tokenizer.mask_token_id
    asked = [(row, place) for row, text in enumerate(texts) for place in text.counted]
    lengths = [len(texts[row].ids) for row, _ in asked]
    for some in _batches(lengths, lengths, len(policy.tokenizer), max_batch_tokens):
        places = torch.tensor([asked[i][1] for i in some])
        own = [torch.tensor(texts[asked[i][0]].ids) for i in some]
        ids = nn.utils.rnn.pad_sequence(
            own, batch_first=True, padding_value=_padding(policy.tokenizer)
        )
        mask = torch.arange(ids.shape[1]) < torch.tensor([len(one) for one in own])[:, None]
        lines = torch.arange(len(some))
        wanted = ids[lines, places].clone()
        ids[lines, places] = int(hidden)  # pyright: ignore[reportArgumentType] - one id, checked on loading
        device = policy.model.device
        logits: Tensor = policy.model(
            input_ids=ids.to(device), attention_mask=mask.to(device)
        ).logits.cpu()
        found = token_log_probs(logits[lines, places][:, None], wanted[:, None], 1.0)[:, 0].double()
        for i, value in zip(some, found.tolist(), strict=True):
            sums[asked[i][0]] += value
    return sums


def _batches(
    lengths: Sequence[int], kept: Sequence[int], vocabulary: int, max_tokens: int
) -> Iterator[list[int]]:
    """Rows of like length, as many as the tokens and the logits of one forward pass allow."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], kept[i]))
    batch: list[int] = []
    widest = 0
    for i in order:
        widest = max(widest, kept[i])
        rows = len(batch) + 1
        if batch and (rows * lengths[i] > max_tokens or rows * widest * vocabulary > LOGITS):
            yield batch
            batch, widest = [], kept[i]
        batch.append(i)
    if batch:
        yield batch


def _padding(tokenizer: PreTrainedTokenizerFast) -> int:
    """Any id serves behind the mask."""
    return 0 if tokenizer.pad_token_id is None else pad_id(tokenizer)
