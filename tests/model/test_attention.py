"""Against transformers' own eager attention, which gives its probabilities."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pico
import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    ModernBertConfig,
    MPNetConfig,
    PretrainedConfig,
    Qwen2Config,
    T5Config,
)

from tureen.model.checkpoint import load
from tureen.model.manifest import ModelError
from tureen.model.sequence_classifier import SequenceClassifier

LABELS: dict[str, Any] = {"num_labels": 2}
SIZE: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "pad_token_id": 0,
    **LABELS,
}
LOCAL = 4  # tokens that a layer of local attention sees
LOCAL_SIZE: dict[str, Any] = {**SIZE, "local_attention": LOCAL, "global_attn_every_n_layers": 2}
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "bert": lambda: BertConfig(**SIZE),
    "distilbert": lambda: DistilBertConfig(
        vocab_size=60, dim=32, n_layers=2, n_heads=4, hidden_dim=64, **LABELS
    ),
    "modernbert": lambda: ModernBertConfig(**LOCAL_SIZE),
    "llama": lambda: LlamaConfig(**SIZE, num_key_value_heads=2),
    "qwen2": lambda: Qwen2Config(**SIZE, num_key_value_heads=2),
    "mistral": lambda: MistralConfig(**SIZE, num_key_value_heads=2, sliding_window=LOCAL),
    "gpt2": lambda: GPT2Config(
        vocab_size=60, n_embd=32, n_layer=2, n_head=4, pad_token_id=0, **LABELS
    ),
}
ROWS = {
    "padded": [[2, 10, 11, 12, 13, 14, 15, 16, 3], [2, 20, 21, 22, 3]],
    "all of one length": [[2, 10, 11, 12, 13, 14, 3], [2, 20, 21, 22, 23, 24, 3]],
}


def batch(rows: list[list[int]]) -> dict[str, Tensor]:
    """Unit 0 is the first token, unit 1 tokens 1 and 2, unit 2 token 3."""
    width = max(map(len, rows))
    padded = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    counts = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    spans = torch.zeros(len(rows), 3, width)
    spans[:, 0, 0], spans[:, 1, 1:3], spans[:, 2, 3] = 1, 0.5, 1
    return {
        "input_ids": padded,
        "attention_mask": counts,
        "token_type_ids": 0 * padded,
        "span_weights": spans,
    }


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("kind", CONFIGS)
@torch.inference_mode()
def test_attention_is_that_of_the_eager_model(kind: str, rows: str):
    def build(implementation: str):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = AutoModelForSequenceClassification.from_config(
                CONFIGS[kind](), attn_implementation=implementation
            )
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(std=0.3)
        return model.eval()

    given = batch(ROWS[rows])
    mask = given["attention_mask"]
    eager = build("eager").base_model(
        input_ids=given["input_ids"], attention_mask=mask, output_attentions=True
    )
    classifier = build("sdpa")
    decoder = hasattr(classifier, "score")
    each = torch.arange(len(mask))
    place = mask.sum(dim=1) - 1 if decoder else 0 * each
    attention = eager.attentions[-1].mean(dim=1)[each, place]  # (B, T)
    assert attention.std(dim=1).min() > 1e-2  # some tokens are looked at more than others

    model = SequenceClassifier(classifier)
    plain = model(**given)
    model.give_attention()
    values = model(**given)  # (B, N, 1, H)
    assert torch.equal(values[:, 0], plain[:, 0])  # to the bit
    expected = torch.stack([attention[:, 1:3].sum(dim=1), attention[:, 3]], dim=1)
    torch.testing.assert_close(
        values[:, 1:, 0], expected[:, :, None].expand(-1, -1, 2), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("make", [pico.bert_classifier, pico.llama_classifier])
def test_attention_does_not_depend_on_neighbours(tmp_path: Path, make: Callable[..., Path]):
    model = load(make(tmp_path / "m")).model
    assert isinstance(model, SequenceClassifier)
    model.give_attention()
    rows = [[2, 10, 11, 12, 3], [2, 20, 21, 22, 23, 24, 25, 3], [2, 30, 31, 32, 33, 3]]
    with torch.inference_mode():
        crowd = model(**batch(rows))
        for row, values in zip(rows, crowd, strict=True):
            torch.testing.assert_close(model(**batch([row]))[0], values, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (MPNetConfig(**SIZE), "attention of a MPNetForSequenceClassification cannot be looked at"),
        (ModernBertConfig(**SIZE, classifier_pooling="mean"), "does not read its value at one"),
        (
            T5Config(vocab_size=60, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4),
            "does not read its value at one",
        ),
    ],
    ids=["own attention", "mean pooling", "encoder-decoder"],
)
def test_what_cannot_be_looked_at_is_refused(config: PretrainedConfig, says: str):
    model = SequenceClassifier(AutoModelForSequenceClassification.from_config(config))
    with pytest.raises(ModelError, match=f"{says}.*ablation"):
        model.give_attention()
