"""int8: written behind a gate, served under its own name."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pico
import pytest

from tureen.contracts import Sample
from tureen.engine import onnx_backend
from tureen.engine.int8_export import export_int8
from tureen.engine.loading import load_model
from tureen.engine.parity import reward_parity, rewards
from tureen.engine.selfcheck import run_self_check
from tureen.model.directory import open_model
from tureen.model.manifest import ModelError, read_manifest, write_manifest
from tureen.model.soup import make_soup

SAMPLES = tuple(
    Sample(prompt=prompt, responses=("rembrandt painted it.", "vermeer.", "the night watch. yes."))
    for prompt in ("who painted it?", "is it?", "what is it?", "when?")
)
GENEROUS: dict[str, Any] = {"max_flip_rate": 0.5, "max_reward_error": 5.0}
"""Random weights of 32 numbers round badly; what is tested is that the bound decides."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A soup of two members with an int8 export."""
    folder = tmp_path_factory.mktemp("int8")
    make_soup(pico.bert_members(folder / "members", 2), None, folder / "pico", recipe="uniform")
    export_int8(folder / "pico", SAMPLES, **GENEROUS)
    return folder / "pico"


def test_it_is_served_under_its_own_name(directory: Path):
    exact = load_model(directory, backend="onnx", device="cpu")
    model = load_model(directory, device="cpu", dtype="int8")
    info = model.backend.info
    assert (info.name, info.dtype, info.device, info.groups) == ("onnx", "int8", "cpu", 3)
    assert model.fingerprint not in (exact.fingerprint, open_model(directory).fingerprint)
    assert run_self_check(model) is None
    assert run_self_check(exact) is None

    record = json.loads((directory / "onnx-int8" / "export.json").read_text())
    found = reward_parity(rewards(model, SAMPLES[1::2]), rewards(exact, SAMPLES[1::2]))
    assert record["parity"] == {**dataclasses.asdict(found), "flip_rate": found.flip_rate}
    assert found.max_error > 0
    assert record["texts"] == "6 responses of the given texts"


@pytest.mark.parametrize(
    "bound", [{"max_flip_rate": -1.0}, {"max_reward_error": 1e-9}], ids=["flips", "error"]
)
def test_beyond_a_bound_nothing_is_written(directory: Path, bound: dict[str, Any]):
    before = (directory / "onnx-int8" / "export.json").read_bytes()
    with pytest.raises(ModelError, match=r"pairs change .*rewards differ by .*Nothing was written"):
        export_int8(directory, SAMPLES, **{**GENEROUS, **bound})
    assert (directory / "onnx-int8" / "export.json").read_bytes() == before
    assert sorted(
        one.name for one in directory.iterdir() if one.name.startswith((".", "onnx"))
    ) == [
        "onnx",
        "onnx-int8",
    ]


@pytest.mark.parametrize(
    ("samples", "message"), [((), "give samples"), (SAMPLES[:1], "more of them")]
)
def test_without_texts_there_is_nothing_to_judge(directory: Path, samples, message: str):
    with pytest.raises(ModelError, match=message):
        export_int8(directory, samples)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "torch"}, "torch backend runs float32, bfloat16, float16"),
        ({"device": "cuda"}, "for a CPU"),
        ({"backend": "onnx", "dtype": "bfloat16"}, "runs float32 and int8"),
    ],
)
def test_what_int8_is_not_for(directory: Path, options: dict[str, str], message: str):
    if options.get("device") == "cuda":
        onnxruntime = onnx_backend.onnxruntime
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            message = "use --device cpu"
    with pytest.raises(ModelError, match=message):
        load_model(directory, **{"dtype": "int8", **options})  # pyright: ignore[reportArgumentType]


def test_an_export_for_vnni_is_refused_where_sums_saturate(
    directory: Path, monkeypatch: pytest.MonkeyPatch
):
    record = directory / "onnx-int8" / "export.json"
    before = record.read_text()
    try:
        record.write_text(json.dumps({**json.loads(before), "reduce_range": False}))
        monkeypatch.setattr(onnx_backend, "needs_reduced_range", lambda: True)
        with pytest.raises(ModelError, match="Make it here"):
            load_model(directory, dtype="int8", device="cpu")
        record.write_text(json.dumps({**json.loads(before), "reduce_range": True}))
        assert load_model(directory, dtype="int8", device="cpu").backend.info.dtype == "int8"
    finally:
        record.write_text(before)


def test_int8_of_other_weights_is_refused_with_the_remedy(directory: Path, tmp_path: Path):
    other = tmp_path / "other"
    shutil.copytree(directory, other)
    write_manifest(other, dataclasses.replace(read_manifest(other), temperature=2.0))
    with pytest.raises(ModelError, match=f"tureen export {other} --dtype int8"):
        load_model(other, dtype="int8")
