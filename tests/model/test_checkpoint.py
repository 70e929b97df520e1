from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pico
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tureen.model import checkpoint
from tureen.model.base import resolve_base
from tureen.model.files import sha256_file
from tureen.model.heads import RewardHeads
from tureen.model.manifest import Manifest, ModelError, read_manifest, write_manifest
from tureen.model.reward_model import RewardModel, load_backbone
from tureen.model.soup import make_soup

ROWS = [[2, 10, 11, 12, 3], [2, 40, 41, 42, 43, 44, 45, 46, 3]]
INGREDIENT = "ingredients/checkpoint.safetensors"


@pytest.fixture
def base(tmp_path: Path) -> Manifest:
    """A manifest of a delta to a base of its own."""
    return Manifest(
        model_id="m",
        base=pico.bert_base(tmp_path / "base"),
        encoding="delta",
        text=pico.PAIR,
        heads=pico.HEADS,
    )


def trained(manifest: Manifest, change: float = 0.01) -> RewardModel:
    """The base with one matrix changed, and heads."""
    assert manifest.base is not None
    backbone = load_backbone(resolve_base(manifest.base))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        weight = backbone.state_dict()["encoder.layer.1.output.dense.weight"]
        weight.add_(torch.randn(weight.shape, generator=generator), alpha=change)
    return RewardModel(backbone, RewardHeads.initialise(pico.HIDDEN, 4, generator=generator)).eval()


def rehash(directory: Path) -> None:
    """Make the manifest agree with a file that a test has tampered with."""
    manifest = read_manifest(directory)
    (ingredient,) = manifest.ingredients
    sha256 = sha256_file(directory / ingredient.file)
    changed = dataclasses.replace(ingredient, sha256=sha256)
    write_manifest(directory, dataclasses.replace(manifest, ingredients=(changed,)))


@pytest.mark.parametrize("encoding", ["delta", "full"])
def test_what_was_trained_is_what_is_loaded(
    base: Manifest, tmp_path: Path, values_of: Callable[..., Tensor], encoding: str
):
    model = trained(base)
    manifest = dataclasses.replace(base, encoding=encoding, lineage={"seed": "1"})
    written = checkpoint.save(tmp_path / "m", model, manifest)
    loaded = checkpoint.load(tmp_path / "m")
    assert loaded.manifest == written
    assert written.soup == "single:1"
    assert written.ingredients[0].lineage == {"seed": "1"}
    assert not loaded.model.training
    # a change of 0.01 in fp16 has an error of 0.01 · 2⁻¹¹ ≈ 5e-6; in full there is none
    tolerance = 1e-4 if encoding == "delta" else 1e-6
    torch.testing.assert_close(
        values_of(loaded.model, ROWS), values_of(model, ROWS), rtol=0, atol=tolerance
    )


def test_a_delta_holds_only_what_changed(base: Manifest, tmp_path: Path):
    checkpoint.save(tmp_path / "m", trained(base), base)
    tensors = load_file(tmp_path / "m" / INGREDIENT)
    assert {name: tensor.dtype for name, tensor in tensors.items()} == {
        "backbone.encoder.layer.1.output.dense.weight": torch.float16,
        "heads.weight": torch.float32,
        "heads.bias": torch.float32,
    }
    assert tensors["heads.weight"].shape == (4, pico.HIDDEN)


def test_the_tokenizer_is_the_models_own_or_the_bases(base: Manifest, tmp_path: Path):
    assert base.base is not None
    checkpoint.save(tmp_path / "without", trained(base), base)
    assert checkpoint.load(tmp_path / "without").tokenizer_directory == Path(base.base.repo)
    source = Path(base.base.repo)
    checkpoint.save(tmp_path / "with", trained(base), base, tokenizer_directory=source)
    assert checkpoint.load(tmp_path / "with").tokenizer_directory == tmp_path / "with"


def test_other_coefficients_are_another_soup_and_fingerprint(
    tmp_path: Path, member_directories: list[Path], values_of: Callable[..., Tensor]
):
    """Re-weighting touches nothing but tureen.json."""
    make_soup(member_directories[:2], [0.5, 0.5], tmp_path / "s", "weighted")
    before = checkpoint.load(tmp_path / "s")
    a, b = before.manifest.ingredients
    moved = (dataclasses.replace(a, coefficient=1.0), dataclasses.replace(b, coefficient=0.0))
    write_manifest(tmp_path / "s", dataclasses.replace(before.manifest, ingredients=moved))
    after = checkpoint.load(tmp_path / "s")
    assert after.fingerprint != before.fingerprint
    member = checkpoint.load(member_directories[0])
    torch.testing.assert_close(
        values_of(after.model, ROWS)[:, :, 0],
        values_of(member.model, ROWS)[:, :, 0],
        rtol=0,
        atol=1e-6,
    )


def test_a_failed_save_leaves_the_checkpoint_that_was_there(
    base: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    checkpoint.save(tmp_path / "m", trained(base), base)
    before = checkpoint.load(tmp_path / "m").fingerprint

    def full(tensors: object, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(tmp_path / "m", trained(base, 0.02), base)
    assert checkpoint.load(tmp_path / "m").fingerprint == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "m"]


def test_saving_again_replaces(base: Manifest, tmp_path: Path):
    checkpoint.save(tmp_path / "m", trained(base), base)
    before = checkpoint.load(tmp_path / "m").fingerprint
    checkpoint.save(tmp_path / "m", trained(base, 0.02), base)
    assert checkpoint.load(tmp_path / "m").fingerprint != before


def test_a_foreign_directory_is_not_replaced(base: Manifest, tmp_path: Path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter-1").write_text("years of work")
    with pytest.raises(ModelError, match="will not be replaced"):
        checkpoint.save(tmp_path / "thesis", trained(base), base)
    assert (tmp_path / "thesis" / "chapter-1").is_file()


@pytest.mark.parametrize("change", [1e5, float("nan")])
def test_a_delta_that_fp16_cannot_hold_is_refused(base: Manifest, tmp_path: Path, change: float):
    with pytest.raises(ModelError, match="not finite in fp16"):
        checkpoint.save(tmp_path / "m", trained(base, change), base)


def test_heads_that_the_manifest_does_not_describe(base: Manifest, tmp_path: Path):
    manifest = dataclasses.replace(base, heads=base.heads[:2])
    with pytest.raises(ModelError, match="4 heads, its manifest 2"):
        checkpoint.save(tmp_path / "m", trained(base), manifest)


def test_a_soup_is_not_saved_as_a_checkpoint(
    base: Manifest, tmp_path: Path, member_directories: list[Path]
):
    make_soup(member_directories, None, tmp_path / "s", "uniform")
    model = checkpoint.load(tmp_path / "s").model
    assert isinstance(model, RewardModel)
    with pytest.raises(ModelError, match="4 groups of heads"):
        checkpoint.save(tmp_path / "m", model, base)


def test_a_wrong_hash_is_refused(base: Manifest, tmp_path: Path):
    checkpoint.save(tmp_path / "m", trained(base), base)
    content = bytearray((tmp_path / "m" / INGREDIENT).read_bytes())
    content[-1] ^= 1  # one bit of one weight
    (tmp_path / "m" / INGREDIENT).write_bytes(content)
    with pytest.raises(ModelError, match=r"has sha256 .* states .* damaged"):
        checkpoint.load(tmp_path / "m")


def test_a_missing_ingredient_is_named(base: Manifest, tmp_path: Path):
    checkpoint.save(tmp_path / "m", trained(base), base)
    (tmp_path / "m" / INGREDIENT).unlink()
    with pytest.raises(ModelError, match=r"checkpoint\.safetensors.* is missing"):
        checkpoint.load(tmp_path / "m")


def test_a_truncated_file_is_refused_even_if_its_hash_is_right(base: Manifest, tmp_path: Path):
    checkpoint.save(tmp_path / "m", trained(base), base)
    content = (tmp_path / "m" / INGREDIENT).read_bytes()
    (tmp_path / "m" / INGREDIENT).write_bytes(content[:-8])
    rehash(tmp_path / "m")
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        checkpoint.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("heads.weight", torch.zeros(3, 32), r"has heads \(3, 32\); 4 heads .* \(4, 32\)"),
        ("backbone.no.such", torch.zeros(2), "changes 'no.such'"),
        ("backbone.embeddings.LayerNorm.bias", torch.zeros(5), "belongs to another base"),
        ("heads.bias", None, r"lacks heads\.weight or heads\.bias"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    base: Manifest, tmp_path: Path, name: str, tensor: Tensor | None, message: str
):
    checkpoint.save(tmp_path / "m", trained(base), base)
    tensors = load_file(tmp_path / "m" / INGREDIENT)
    tensors.pop(name, None)
    if tensor is not None:
        tensors[name] = tensor
    save_file(tensors, tmp_path / "m" / INGREDIENT)
    rehash(tmp_path / "m")
    with pytest.raises(ModelError, match=message):
        checkpoint.load(tmp_path / "m")


def test_an_unknown_tensor_of_a_full_checkpoint_is_refused(reward_directory: Path, tmp_path: Path):
    shutil.copytree(reward_directory, tmp_path / "m")
    tensors = load_file(tmp_path / "m" / INGREDIENT)
    tensors["backbone.adapter.weight"] = torch.zeros(2)
    save_file(tensors, tmp_path / "m" / INGREDIENT)
    rehash(tmp_path / "m")
    with pytest.raises(ModelError, match=r"adapter\.weight"):
        checkpoint.load(tmp_path / "m")


def test_no_tokenizer_anywhere(reward_directory: Path, tmp_path: Path):
    shutil.copytree(reward_directory, tmp_path / "m")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "m" / name).unlink()
    with pytest.raises(ModelError, match="has no tokenizer"):
        checkpoint.load(tmp_path / "m")


def test_a_path_that_is_not_there(tmp_path: Path):
    with pytest.raises(ModelError, match="is no directory"):
        checkpoint.load(tmp_path / "nothing")


def test_the_manifest_on_disk_is_plain_json(reward_directory: Path):
    data = json.loads((reward_directory / "tureen.json").read_text())
    assert data["format_version"] == 1
    assert data["heads"][1]["granularity"] == "sentence"
    assert data["text"]["template"] == "pair"
