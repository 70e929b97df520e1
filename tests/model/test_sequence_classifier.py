from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pico
import pico_tokenizers
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPT2Config,
    GPT2ForSequenceClassification,
)

from tureen.contracts import Calibration
from tureen.model.checkpoint import load
from tureen.model.directory import open_model
from tureen.model.manifest import ModelError, write_manifest

PAIRS = [
    ("who painted it", "rembrandt painted it"),
    ("who", "the sky is blue, and the river is green"),
    ("what is red", "no"),
]
KINDS = {
    "bert": pico.bert_classifier,
    "llama chat": pico.llama_classifier,
    "llama plain": lambda d, n: pico.llama_classifier(d, n, chat=False),
    "llama pad=eos": lambda d, n: pico.llama_classifier(d, n, pad_is_eos=True),
}


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_transformers(tmp_path: Path, kind: str, labels: int):
    """A padded batch through us, and through AutoModelForSequenceClassification alone."""
    directory = KINDS[kind](tmp_path / "m", labels)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    batch = tokenizer(
        [a for a, _ in PAIRS], [b for _, b in PAIRS], padding=True, return_tensors="pt"
    )
    assert batch["attention_mask"].sum() < batch["attention_mask"].numel()  # there is padding
    theirs = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    rows, tokens = batch["input_ids"].shape
    types = batch.get("token_type_ids", torch.zeros(rows, tokens, dtype=torch.int64))
    ours = load(directory).model
    with torch.inference_mode():
        expected = theirs(**batch).logits
        values = ours(
            batch["input_ids"], batch["attention_mask"], types, torch.zeros(rows, 2, tokens)
        )
    assert values.shape == (rows, 2, 1, labels)
    for unit in range(2):
        torch.testing.assert_close(values[:, unit, 0], expected, rtol=0, atol=1e-5)
    assert expected.std(dim=0).min() > 1e-2  # rows are told apart, so the parity says something


def test_a_row_that_ends_with_the_padding_id_is_read_to_its_end(
    tmp_path: Path, values_of: Callable[..., Tensor]
):
    """pad == eos: the last token that counts is the eos itself, which transformers would skip."""
    directory = pico.llama_classifier(tmp_path / "m", pad_is_eos=True)
    theirs = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    eos = theirs.config.eos_token_id
    assert theirs.config.pad_token_id == eos
    row = [256, 10, 11, 12, eos]
    theirs.config.pad_token_id = 0  # an id that is not in the row
    with torch.inference_mode():
        expected = theirs(torch.tensor([row])).logits[0]
    values = values_of(load(directory).model, [row, [256, 10, 11, 12, 13, 14, 15, eos]])
    torch.testing.assert_close(values[0, 0, 0], expected, rtol=0, atol=1e-5)


def test_token_types_are_given_to_those_that_have_them(tmp_path: Path):
    """GPT-2 takes token types too, and would embed our zeros as the word 0 in every place."""
    tokenizer = pico_tokenizers.chat()
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=64)
    config.pad_token_id = 0
    theirs = GPT2ForSequenceClassification(config).eval()
    theirs.save_pretrained(tmp_path / "m")
    pico_tokenizers.save(tokenizer, tmp_path / "m")
    ids = torch.tensor([[256, 10, 11, 12]])
    ones = torch.ones_like(ids)
    with torch.inference_mode():
        expected = theirs(ids, attention_mask=ones).logits[0]
        values = load(tmp_path / "m").model(ids, ones, 0 * ones, torch.zeros(1, 1, 4))
    torch.testing.assert_close(values[0, 0, 0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_does_not_depend_on_its_neighbours(
    tmp_path: Path, values_of: Callable[..., Tensor], kind: str
):
    model = load(KINDS[kind](tmp_path / "m", 2)).model
    rows = [[2, 10, 11, 3], [2, 20, 21, 22, 23, 24, 25, 3], [2, 30, 3]]
    crowd = values_of(model, rows)
    for i, row in enumerate(rows):
        torch.testing.assert_close(values_of(model, [row])[0], crowd[i], rtol=0, atol=1e-5)


def test_the_score_of_a_decoder_stays_fp32(tmp_path: Path, values_of: Callable[..., Tensor]):
    model = load(pico.llama_classifier(tmp_path / "m"), dtype=torch.bfloat16).model
    types = {name: p.dtype for name, p in model.named_parameters()}
    assert types.pop("classifier.score.weight") == torch.float32
    assert set(types.values()) == {torch.bfloat16}
    assert values_of(model, [[2, 10, 3]]).dtype == torch.float32


@pytest.mark.parametrize(
    ("kind", "head"), [("bert", "classifier.weight"), ("llama chat", "score.weight")]
)
def test_a_head_that_is_missing_is_not_made_up(tmp_path: Path, kind: str, head: str):
    """transformers would draw it at random and go on; every reward would be invented."""
    directory = KINDS[kind](tmp_path / "m", 1)
    tensors = load_file(directory / "model.safetensors")
    del tensors[head]
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"missing .*{head}"):
        load(directory)
    tensors[head] = torch.zeros(1, 5)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"misshapen .*{head}"):
        load(directory)


def test_a_written_manifest_gives_weights_and_calibrations(tmp_path: Path):
    directory = pico.bert_classifier(tmp_path / "m", 2)
    described = open_model(directory).manifest
    calibration = Calibration(mean=1.0, std=2.0)
    heads = tuple(
        dataclasses.replace(head, weight=weight, calibration=calibration)
        for head, weight in zip(described.heads, (1.0, -0.5), strict=True)
    )
    write_manifest(directory, dataclasses.replace(described, heads=heads))
    assert load(directory).manifest.heads == heads

    write_manifest(directory, dataclasses.replace(described, heads=heads[:1]))
    with pytest.raises(ModelError, match="has 1 heads, the classifier 2 labels"):
        load(directory)

    write_manifest(directory, described)
    other = pico.bert_classifier(tmp_path / "other", 2, seed=1)
    shutil.copyfile(other / "model.safetensors", directory / "model.safetensors")
    with pytest.raises(ModelError, match=r"states .* another version"):
        load(directory)
