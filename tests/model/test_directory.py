from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tureen.model.directory import MODELS_VARIABLE, current_export, find_model, open_model
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
    model = open_model(exported)
    found = current_export(model)
    assert found is not None
    assert found.path == exported / "onnx" / "model.onnx"
    assert found.fingerprint == model.fingerprint
    assert current_export(model, "int8") is None


def test_int8_weights_have_a_fingerprint_of_their_own(exported: Path):
    """That of the model, of the dtype, and of their bytes."""
    (exported / "onnx").rename(exported / "onnx-int8")
    model = open_model(exported)
    assert current_export(model) is None
    found = current_export(model, "int8")
    assert found is not None
    files = {"model.onnx": sha256_file(found.path)}
    parts = {"model": model.fingerprint, "dtype": "int8", "files": files}
    canonical = json.dumps(parts, sort_keys=True)
    assert found.fingerprint == "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


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


def test_a_name_is_looked_for_in_the_folders_of_the_variable(
    reward_directory, monkeypatch, tmp_path
):
    monkeypatch.setenv(MODELS_VARIABLE, f"{tmp_path}:{reward_directory.parent}")
    assert find_model(reward_directory.name) == reward_directory
    assert find_model(reward_directory) == reward_directory
    assert find_model("someone/some-model") == "someone/some-model"


def test_an_unknown_name_says_where_it_was_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    with pytest.raises(ModelError) as caught:
        find_model("grounded-qx")
    message = str(caught.value)
    assert str(tmp_path / "grounded-qx") in message
    assert str(Path("models") / "grounded-qx") in message
    assert MODELS_VARIABLE in message


def test_a_misspelt_name_is_offered_the_nearest_of_the_models_there(monkeypatch, tmp_path):
    for name, file in {"astronomy-qa": "tureen.json", "judge": "config.json", "notes": "x"}.items():
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / file).write_text("{}")
    monkeypatch.setenv(MODELS_VARIABLE, f"{tmp_path / 'nowhere'}:{tmp_path / 'models'}")
    with pytest.raises(ModelError, match="no model 'astronmy-qa'; did you mean 'astronomy-qa'"):
        find_model("astronmy-qa")
    with pytest.raises(ModelError) as caught:
        find_model("zzz")
    known = str(caught.value).partition("Known: ")[2].partition(". Give")[0].split(", ")
    assert {"astronomy-qa", "judge"} <= set(known)  # and what the checkout has
    assert "notes" not in known


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "a/b/c"])
def test_a_path_that_is_not_there(name):
    with pytest.raises(ModelError, match="is no directory"):
        find_model(name)
