from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tureen.model.directory import current_export, open_model
from tureen.model.files import sha256_file
from tureen.model.manifest import ModelError


@pytest.fixture
def exported(reward_directory: Path, tmp_path: Path) -> Path:
    """A model with an export that says it is of these weights."""
    directory = tmp_path / "m"
    shutil.copytree(reward_directory, directory)
    (directory / "onnx").mkdir()
    (directory / "onnx" / "model.onnx").write_bytes(b"graph")
    record = {
        "fingerprint": open_model(directory).fingerprint,
        "files": {"model.onnx": sha256_file(directory / "onnx" / "model.onnx")},
    }
    (directory / "onnx" / "export.json").write_text(json.dumps(record))
    return directory


def test_an_export_of_these_weights_is_current(exported: Path):
    assert current_export(open_model(exported)) == exported / "onnx" / "model.onnx"


def test_no_export_is_none(reward_directory: Path):
    assert current_export(open_model(reward_directory)) is None


def test_an_export_of_other_weights_is_none(exported: Path):
    manifest = json.loads((exported / "tureen.json").read_text())
    manifest["heads"][0]["weight"] = 0.9
    (exported / "tureen.json").write_text(json.dumps(manifest))
    assert current_export(open_model(exported)) is None


@pytest.mark.parametrize("damage", ["other bytes", "no file", "no record"])
def test_a_damaged_export_is_an_error(exported: Path, damage: str):
    path = exported / "onnx" / "model.onnx"
    if damage == "other bytes":
        path.write_bytes(b"grapf")
    elif damage == "no file":
        path.unlink()
    else:
        (exported / "onnx" / "export.json").write_text("{")
    with pytest.raises(ModelError, match="export the model again"):
        current_export(open_model(exported))
