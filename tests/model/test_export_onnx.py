from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pico
import pytest
import torch

from tureen.errors import MissingExtra
from tureen.model import export_onnx
from tureen.model.checkpoint import load
from tureen.model.directory import current_export, open_model
from tureen.model.export_onnx import export
from tureen.model.manifest import ModelError
from tureen.model.onnx_attention import fused_attention
from tureen.model.reward_model import RewardModel
from tureen.model.soup import make_soup
from tureen.text.unit_features import UNIT_FEATURES


def soup(directory: Path) -> Path:
    make_soup(pico.bert_members(directory.parent / "members", 2), None, directory, "uniform")
    return directory


KINDS: dict[str, Callable[[Path], Path]] = {
    "soup": soup,
    "what is counted about units": lambda d: pico.bert_reward(
        d, text=replace(pico.PAIR, template="evidence-2")
    ),
    "decoder": pico.llama_reward,
    "encoder classifier": lambda d: pico.bert_classifier(d, 3),
    "decoder classifier": lambda d: pico.llama_classifier(d, 2, pad_is_eos=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_onnx_gives_the_values_of_torch(tmp_path: Path, kind: str):
    """Every dimension is free: shapes that the export never saw, padded and not."""
    directory = KINDS[kind](tmp_path / "m")
    report = export(directory)
    assert report.max_abs_error <= 1e-5
    assert report.fingerprint == load(directory).fingerprint
    assert report.fused
    found = current_export(open_model(directory))
    assert found is not None
    assert found.path == report.path == directory / "onnx" / "model.onnx"

    session = onnxruntime.InferenceSession(report.path, providers=["CPUExecutionProvider"])
    loaded = load(directory)
    model, counted = loaded.model, loaded.manifest.text.describes_units
    inputs = export_onnx.INPUTS if counted else export_onnx.INPUTS[:-1]
    assert [item.name for item in session.get_inputs()] == list(inputs)
    generator = torch.Generator().manual_seed(7)
    for rows, units, tokens in [(1, 1, 1), (1, 4, 23), (5, 2, 11), (2, 7, 100)]:
        ids = torch.randint(5, 90, (rows, tokens), generator=generator)
        lengths = torch.randint(1, tokens + 1, (rows, 1), generator=generator)
        mask = (torch.arange(tokens) < lengths).long()
        weights = torch.rand(rows, units, tokens, generator=generator) * mask[:, None]
        weights /= weights.sum(dim=2, keepdim=True)
        batch = (ids, mask, torch.zeros_like(ids), weights)
        if counted:
            batch += (torch.rand(rows, units, UNIT_FEATURES, generator=generator),)
        feeds = {k: v.numpy() for k, v in zip(inputs, batch, strict=True)}
        got = np.asarray(session.run(["values"], feeds)[0])
        with torch.inference_mode():
            expected = model(*batch).numpy()
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


@pytest.fixture
def no_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the exporter, which takes seconds, where what follows is tested."""
    monkeypatch.setattr(export_onnx, "_write", lambda *a, **_: a[2].write_bytes(b"g"))


@pytest.mark.usefixtures("no_exporter")
@pytest.mark.parametrize("error", [2e-4, float("nan"), float("inf")])
def test_without_parity_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: float
):
    directory = pico.bert_reward(tmp_path / "m")
    monkeypatch.setattr(export_onnx, "_compare", lambda *_: (0.0, 1))
    before = export(directory).path.read_bytes()
    monkeypatch.setattr(export_onnx, "_compare", lambda *_: (error, 1))
    with pytest.raises(ModelError, match=r"differs from torch by .*0\.0001 is allowed"):
        export(directory)
    assert (directory / "onnx" / "model.onnx").read_bytes() == before
    assert current_export(open_model(directory)) is not None


@pytest.mark.usefixtures("no_exporter")
def test_attention_that_is_wrong_when_fused_is_exported_plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    errors = iter([3e-3, 2e-6])
    monkeypatch.setattr(export_onnx, "_compare", lambda *_: (next(errors), 1))
    report = export(pico.bert_reward(tmp_path / "m"))
    assert (report.fused, report.max_abs_error) == (False, 2e-6)
    assert json.loads((report.path.parent / "export.json").read_text())["fused_attention"] is False


def test_an_attention_of_its_own_is_not_fused(tmp_path: Path):
    model = load(pico.bert_reward(tmp_path / "m")).model
    assert isinstance(model, RewardModel)
    model.backbone.set_attn_implementation("eager")
    with (
        pytest.raises(ModelError, match="a BertModel is its own"),
        fused_attention(model.backbone),
    ):
        pass


@pytest.mark.usefixtures("no_exporter")
def test_another_place_and_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(export_onnx, "_compare", lambda *_: (1e-6, 40))
    directory = pico.bert_reward(tmp_path / "m")
    report = export(directory, tmp_path / "out")
    assert report.path == tmp_path / "out" / "model.onnx"
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    assert record["fingerprint"] == report.fingerprint
    assert record["parity"]["max_abs_error"] == 1e-6
    assert list(record["files"]) == ["model.onnx"]
    assert not (directory / "onnx").exists()


def test_an_onnx_folder_of_somebody_else_is_not_replaced(tmp_path: Path):
    directory = pico.bert_classifier(tmp_path / "m")
    (directory / "onnx").mkdir()
    (directory / "onnx" / "model.onnx").write_bytes(b"theirs")
    with pytest.raises(ModelError, match="will not be replaced"):
        export(directory)


def test_an_architecture_that_cannot_be_exported_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such operator\nand a long trace")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(
        ModelError, match=r"\(RuntimeError: no such operator\); serve it with torch"
    ):
        export(pico.bert_reward(tmp_path / "m"))


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tureen\[export\]'"):
        export(tmp_path)
