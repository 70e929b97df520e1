"""Tiny random models on disk, 2 layers of 32: every kind of directory that Tureen loads.

Weights are drawn from seeds, so that a value in a test is the same everywhere.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pico_tokenizers
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tureen.contracts import Calibration, Granularity
from tureen.model import checkpoint
from tureen.model.files import sha256_file
from tureen.model.heads import RewardHeads
from tureen.model.manifest import BaseRef, Encoding, HeadSpec, Manifest
from tureen.model.reward_model import RewardModel, load_backbone, width_of
from tureen.text.template import TextSpec

HIDDEN = 32
MAX_INPUT_TOKENS = 128

HEADS = (
    HeadSpec(name="preference", granularity=Granularity.RESPONSE, weight=0.4),
    HeadSpec(
        name="factuality",
        granularity=Granularity.SENTENCE,
        weight=0.3,
        calibration=Calibration(mean=0.1, std=0.5),
    ),
    HeadSpec(name="relevance", granularity=Granularity.SUB_SENTENCE, weight=0.2),
    HeadSpec(name="completeness", granularity=Granularity.RESPONSE, weight=0.1),
)

PAIR = TextSpec(
    template="pair",
    max_input_tokens=MAX_INPUT_TOKENS,
    max_windows=4,
    response_pooling="first",
    unit_pooling="mean",
)


def bert_base(directory: Path, seed: int = 0) -> BaseRef:
    """A pretrained model as a base: config.json, model.safetensors, tokenizer.json."""
    tokenizer = pico_tokenizers.bert_like()
    with _seeded(seed):
        model = BertModel(_bert_config(tokenizer), add_pooling_layer=False)
        _spread(model)
    _save_pretrained(model, tokenizer, directory)
    return base_of(directory)


def base_of(directory: Path) -> BaseRef:
    """What refers to the base that `bert_base` left in a directory."""
    sha256 = sha256_file(directory / "model.safetensors")
    return BaseRef(repo=str(directory), revision="main", sha256=sha256)


def bert_reward(
    directory: Path,
    *,
    seed: int = 0,
    heads: tuple[HeadSpec, ...] = HEADS,
    text: TextSpec = PAIR,
) -> Path:
    """One BERT `RewardModel`, stored in full with its tokenizer."""
    tokenizer = pico_tokenizers.bert_like()
    with _seeded(seed):
        backbone = BertModel(_bert_config(tokenizer), add_pooling_layer=False)
        _spread(backbone)
        model = RewardModel(backbone, _heads(len(heads), width_of(backbone, text)))
    manifest = Manifest(
        model_id=directory.name,
        text=text,
        heads=heads,
        lineage={"seed": str(seed)},
        data_licences=("none: random weights",),
    )
    return _save(directory, model, manifest, tokenizer)


def bert_members(
    directory: Path, n: int = 3, seed: int = 0, *, encoding: Encoding = "delta"
) -> list[Path]:
    """n checkpoints under `directory`, as if fine-tuned from one base, which lies beside them."""
    base = bert_base(directory / "base", seed)
    members = []
    for i in range(n):
        with _seeded(1000 * (seed + 1) + i):
            backbone = load_backbone(Path(base.repo))
            model = RewardModel(backbone, _heads(len(HEADS), width_of(backbone, PAIR)))
            _nudge(model.backbone)
        manifest = Manifest(
            model_id=f"member-{i}",
            base=base,
            encoding=encoding,
            text=PAIR,
            heads=HEADS,
            lineage={"seed": str(i)},
            data_licences=("none: random weights",),
        )
        checkpoint.save(directory / f"member-{i}", model, manifest)
        members.append(directory / f"member-{i}")
    return members


def llama_reward(directory: Path, *, seed: int = 0) -> Path:
    """A decoder `RewardModel` with a chat template: units are read at their last token."""
    tokenizer = pico_tokenizers.chat()
    with _seeded(seed):
        backbone = LlamaModel(_llama_config(tokenizer))
        _spread(backbone)
        model = RewardModel(backbone, _heads(len(HEADS)))
    text = TextSpec(
        template="chat",
        max_input_tokens=4 * MAX_INPUT_TOKENS,  # bytes, not words
        response_pooling="last",
        unit_pooling="last",
    )
    manifest = Manifest(model_id=directory.name, text=text, heads=HEADS)
    return _save(directory, model, manifest, tokenizer)


def bert_classifier(directory: Path, labels: int = 1, *, seed: int = 0) -> Path:
    """A third party's encoder with `labels` outputs."""
    tokenizer = pico_tokenizers.bert_like()
    with _seeded(seed):
        model = BertForSequenceClassification(_bert_config(tokenizer, num_labels=labels))
        _spread(model)
    return _save_pretrained(model, tokenizer, directory)


def llama_classifier(
    directory: Path, labels: int = 1, chat: bool = True, *, seed: int = 0, pad_is_eos: bool = False
) -> Path:
    """A third party's decoder with `labels` outputs."""
    tokenizer = pico_tokenizers.chat() if chat else pico_tokenizers.byte_bpe()
    if pad_is_eos:
        tokenizer.pad_token = tokenizer.eos_token
    with _seeded(seed):
        model = LlamaForSequenceClassification(_llama_config(tokenizer, num_labels=labels))
        _spread(model)
    return _save_pretrained(model, tokenizer, directory)


def llama_policy(directory: Path, *, seed: int = 0, chat: bool = False) -> Path:
    """A causal language model of bytes, as `policies.load_policy` reads it; chats where it has a template."""
    tokenizer = pico_tokenizers.chat() if chat else pico_tokenizers.byte_bpe()
    with _seeded(seed):
        config = _llama_config(tokenizer)
        config.max_position_embeddings = 1536
        model = LlamaForCausalLM(config)
        _spread(model)
    return _save_pretrained(model, tokenizer, directory)


def bert_masked(directory: Path, *, seed: int = 0) -> Path:
    """A masked language model of some words and characters."""
    tokenizer = pico_tokenizers.bert_like()
    with _seeded(seed):
        model = BertForMaskedLM(_bert_config(tokenizer))
        _spread(model)
    return _save_pretrained(model, tokenizer, directory)


def _bert_config(tokenizer: PreTrainedTokenizerFast, *, num_labels: int = 1) -> BertConfig:
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * HIDDEN,
        max_position_embeddings=MAX_INPUT_TOKENS,
        pad_token_id=_id(tokenizer, "pad"),
    )
    config.num_labels = num_labels
    return config


def _llama_config(tokenizer: PreTrainedTokenizerFast, *, num_labels: int = 1) -> LlamaConfig:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=2 * HIDDEN,
        max_position_embeddings=4 * MAX_INPUT_TOKENS,
        pad_token_id=_id(tokenizer, "pad"),
        bos_token_id=_id(tokenizer, "bos"),
        eos_token_id=_id(tokenizer, "eos"),
    )
    config.num_labels = num_labels
    return config


def _id(tokenizer: PreTrainedTokenizerFast, role: Literal["pad", "bos", "eos"]) -> int:
    number = getattr(tokenizer, f"{role}_token_id")
    assert isinstance(number, int)
    return number


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw from `seed` inside, leave the caller's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@torch.no_grad()
def _spread(model: nn.Module) -> None:
    """Weights ten times as large as customary, so that inputs get plainly different values."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.normal_(std=0.2)


@torch.no_grad()
def _nudge(model: nn.Module) -> None:
    """What fine-tuning would do: every matrix moves a little."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.add_(torch.randn_like(parameter), alpha=0.02)


def _heads(count: int, width: int = HIDDEN) -> RewardHeads:
    return RewardHeads(torch.randn(1, count, width) / width**0.5, torch.randn(1, count) / 10)


def _save(
    directory: Path, model: RewardModel, manifest: Manifest, tokenizer: PreTrainedTokenizerFast
) -> Path:
    with tempfile.TemporaryDirectory() as folder:
        saved = pico_tokenizers.save(tokenizer, Path(folder))
        checkpoint.save(directory, model, manifest, tokenizer_directory=saved)
    return directory


def _save_pretrained(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, directory: Path
) -> Path:
    pico_tokenizers.save(tokenizer, directory)
    model.save_pretrained(directory)
    return directory
