"""The alignment tax, and two remedies: pretraining text in every update, and averaging back toward the start.

PPO-ptx (InstructGPT, arXiv:2203.02155) adds γ_ptx · E[−log π(text)] to the loss; averaging takes
(1 − a) θ_start + a θ_trained (Lin et al., arXiv:2309.06256), without training. What is lost is measured as perplexity
on held-out text and as the share of cloze questions whose answer the policy finds most probable.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from tureen_training.data.jsonl import records
from tureen_training.experience import batches
from tureen_training.losses_ppo import imitation_loss
from tureen_training.metrics import mean, singly
from tureen_training.policies import Policy
from tureen_training.sft import IGNORED

Text = Mapping[str, Sequence[int]]
"""`input_ids` and `labels` of one record, as `sft.encode_files` gives them."""


def text_losses(model: nn.Module, texts: Sequence[Text], device: torch.device | str) -> Tensor:
    """−log π of the tokens that are learnt, one after the other. Shape: (N,)"""
    ids, labels = (
        nn.utils.rnn.pad_sequence(
            [torch.tensor(text[name]) for text in texts], batch_first=True, padding_value=padding
        ).to(device)
        for name, padding in (("input_ids", 0), ("labels", IGNORED))
    )
    lengths = torch.tensor([len(text["input_ids"]) for text in texts], device=device)
    mask = torch.arange(ids.shape[1], device=device) < lengths[:, None]
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return imitation_loss(logits, labels, IGNORED)[labels[:, 1:] != IGNORED]


def learnt_tokens(texts: Iterable[Text]) -> int:
    """How many of the texts' tokens are predicted from those before them."""
    return sum(label != IGNORED for text in texts for label in text["labels"][1:])


def read_cloze(paths: Iterable[str], tokenizer: PreTrainedTokenizerFast) -> list[dict[str, Any]]:
    """Questions as {texts: one for each choice, its labels the choice's tokens; answer: the place of the right one}.

    A record is {prompt, answer, choices}; a choice follows the prompt after a space.

    Raises:
        BadData: with file and line. OSError: a file cannot be read.
    """
    questions: list[dict[str, Any]] = []
    for path in paths:
        for fields in records(Path(path)):
            prompt, choices = fields.text("prompt"), fields.texts("choices")
            answer = fields.one_of("answer", choices)
            opening = list(tokenizer(prompt)["input_ids"])
            texts = []
            for choice in choices:
                own = list(tokenizer(" " + choice, add_special_tokens=False)["input_ids"])
                labels = [IGNORED] * len(opening) + own
                texts.append({"input_ids": opening + own, "labels": labels})
            questions.append({"texts": texts, "answer": choices.index(answer)})
    return questions


def tax(
    policy: Policy, texts: Sequence[Text], questions: Sequence[Mapping[str, Any]], *, batch: int
) -> dict[str, Any]:
    """What the policy still knows.

    Returns:
        perplexity: e to the mean −log π of a token of the texts. cloze: share of the questions whose answer has the
        highest log-probability of all choices, with its 95 % interval over questions and what guessing would give;
        each only where there is something to measure it on.
    """
    figures: dict[str, Any] = {}
    device = policy.model.device
    with torch.no_grad():
        if texts:
            losses = [
                text_losses(policy.model, [texts[i] for i in some], device)
                for some in batches(range(len(texts)), batch)
            ]
            figures["perplexity"] = math.exp(torch.cat(losses).double().mean().item())
        if questions:
            right = np.array([float(_is_right(policy, q, device, batch)) for q in questions])
            guessed = float(np.mean([1 / len(question["texts"]) for question in questions]))
            found = mean(singly(right), baselines={"guessing": guessed})
            figures["cloze"] = {**found.interval(), "n": found.n, "guessing": guessed}
    return figures


def _is_right(
    policy: Policy, question: Mapping[str, Any], device: torch.device | str, batch: int
) -> bool:
    texts = question["texts"]
    sums: list[float] = []
    for some in batches(range(len(texts)), batch):
        losses = text_losses(policy.model, [texts[i] for i in some], device)
        counts = [learnt_tokens([texts[i]]) for i in some]
        sums += [part.sum().item() for part in losses.split(counts)]
    return min(range(len(sums)), key=sums.__getitem__) == question["answer"]


def average(
    start: Mapping[str, Tensor], trained: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """(1 − a) θ_start + a θ_trained, tensor by tensor. share: a, 0 is the start and 1 the end."""
    return {name: torch.lerp(start[name].float(), trained[name].float(), share) for name in trained}
