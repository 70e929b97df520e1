from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pico
import pytest
from safetensors.torch import load_file, save_file

from tureen.contracts import Calibration, Granularity
from tureen.model.directory import open_model
from tureen.model.manifest import ModelError


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    return pico.bert_classifier(tmp_path / "encoder", 3)


def test_a_single_label_is_the_reward(tmp_path: Path):
    manifest = open_model(pico.bert_classifier(tmp_path / "my-rm", 1)).manifest
    (head,) = manifest.heads
    assert (head.name, head.granularity, head.weight) == ("reward", Granularity.RESPONSE, 1.0)
    assert head.calibration == Calibration(mean=0.0, std=1.0)
    assert (manifest.model_id, manifest.soup, manifest.groups) == ("my-rm", "single:1", 1)


def test_several_labels_are_heads_of_equal_weight(encoder: Path):
    names = {"10": "tone", "0": "help", "2": "safe"}
    edit(encoder / "config.json", lambda d: d.update(id2label=names))
    heads = open_model(encoder).manifest.heads
    assert [head.name for head in heads] == ["help", "safe", "tone"]  # by number, not by letter
    assert [head.weight for head in heads] == [1 / 3] * 3


def test_a_single_label_with_a_name_keeps_it(tmp_path: Path):
    directory = pico.bert_classifier(tmp_path / "m", 1)
    edit(directory / "config.json", lambda d: d.update(id2label={"0": "toxicity"}))
    assert [head.name for head in open_model(directory).manifest.heads] == ["toxicity"]


@pytest.mark.parametrize(
    ("make", "template", "pooling"),
    [
        (lambda d: pico.bert_classifier(d), "pair", "first"),
        (lambda d: pico.llama_classifier(d, chat=True), "chat", "last"),
        (lambda d: pico.llama_classifier(d, chat=False), "plain", "last"),
    ],
)
def test_the_text_follows_from_the_kind(
    tmp_path: Path, make: Callable[[Path], Path], template: str, pooling: str
):
    text = open_model(make(tmp_path / "m")).manifest.text
    assert (text.template, text.response_pooling, text.max_windows) == (template, pooling, 1)


def test_input_length_is_the_least_that_is_known(encoder: Path):
    assert open_model(encoder).manifest.text.max_input_tokens == 128  # positions
    edit(encoder / "tokenizer_config.json", lambda d: d.update(model_max_length=100))
    assert open_model(encoder).manifest.text.max_input_tokens == 100
    edit(
        encoder / "config.json",
        lambda d: d.update(model_type="roberta", max_position_embeddings=50, pad_token_id=1),
    )
    assert open_model(encoder).manifest.text.max_input_tokens == 48  # positions start at 2


def test_other_weights_are_another_fingerprint(tmp_path: Path):
    one, two = (pico.bert_classifier(tmp_path / str(seed), seed=seed) for seed in (0, 1))
    assert open_model(one).fingerprint != open_model(two).fingerprint
    shutil.copytree(one, tmp_path / "copy")
    assert open_model(one).fingerprint == open_model(tmp_path / "copy").fingerprint


def shard(directory: Path) -> None:
    """Split the weights into two files with an index, as large models are."""
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {name: f"model-{1 + (i % 2)}.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        part = {name: tensors[name] for name in names if files[name] == file}
        save_file(part, directory / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": files}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def test_sharded_weights(tmp_path: Path):
    directory = pico.llama_classifier(tmp_path / "m", 2)
    shard(directory)
    opened = open_model(directory)
    assert opened.manifest.text.template == "chat"
    before = opened.fingerprint
    tensors = load_file(directory / "model-2.safetensors")
    save_file(
        {name: tensor + 1 for name, tensor in tensors.items()},
        directory / "model-2.safetensors",
        metadata={"format": "pt"},
    )
    assert open_model(directory).fingerprint != before
    (directory / "model-2.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lacks model-2\.safetensors"):
        open_model(directory)


def test_pickled_weights_are_refused(encoder: Path):
    (encoder / "model.safetensors").rename(encoder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only as a pickle \(pytorch_model\.bin\).*safetensors"):
        open_model(encoder)


def test_an_adapter_is_to_be_merged_first(tmp_path: Path):
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="merge it into its base first"):
        open_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(architectures=["BertForMaskedLM"]), "holds a BertForMaskedLM"),
        (lambda d: d.update(architectures=["MyRewardModel"]), "holds a MyRewardModel"),
        (
            lambda d: d.update(architectures=["Qwen2ForCausalLM"]),
            "holds a Qwen2ForCausalLM.*…ForSequenceClassification, or train .*`tureen-train reward`",
        ),
        (lambda d: d.update(id2label={"0": "penalty"}), "a head is named 'penalty'.*id2label"),
        (lambda d: d.update(id2label={"0": "a", "1": "a"}), "'a' twice"),
        (lambda d: d.update(max_position_embeddings=None), "how long an input may be"),
    ],
)
def test_configurations_that_are_no_reward_model(
    encoder: Path, change: Callable[[dict[str, Any]], object], message: str
):
    edit(encoder / "config.json", change)
    with pytest.raises(ModelError, match=message):
        open_model(encoder)


def test_files_that_are_damaged_or_missing(encoder: Path, tmp_path: Path):
    (encoder / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        open_model(encoder)
    (encoder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="has no weights"):
        open_model(encoder)
    (encoder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json is not JSON"):
        open_model(encoder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"neither tureen\.json nor config\.json"):
        open_model(tmp_path / "empty")


def test_a_hub_id_comes_from_the_cache(encoder: Path, offline: Path):
    folder = offline / "models--org--rm"
    shutil.copytree(encoder, folder / "snapshots" / ("b" * 40))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("b" * 40)
    opened = open_model("org/rm")
    assert opened.directory == folder / "snapshots" / ("b" * 40)
    assert opened.manifest.model_id == "org/rm"


def test_a_hub_id_that_cannot_be_had(offline: Path):
    with pytest.raises(ModelError, match="'org/none' is no directory, and the Hugging Face hub"):
        open_model("org/none")
