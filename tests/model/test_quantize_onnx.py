from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pico
import pytest
from onnx import numpy_helper

from tureen.engine.loading import load_model
from tureen.engine.selfcheck import windows_of
from tureen.model import quantize_onnx
from tureen.model.export_onnx import export
from tureen.model.manifest import ModelError
from tureen.model.quantize_onnx import needs_reduced_range, quantise
from tureen.text.batch import Batch, collate

LAYERS, MATRICES = 2, 6  # of a pico BERT: queries, keys, values, output, up, down


def values(path: Path, batch: Batch) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["values"], batch.arrays())[0])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(pico.bert_reward(tmp_path_factory.mktemp("quantise") / "m")).path


@pytest.mark.slow
@pytest.mark.parametrize(("reduce_range", "largest"), [(False, 127), (True, 64)])
def test_the_trunk_is_int8_a_scale_a_column_and_the_heads_are_not(
    source: Path, tmp_path: Path, reduce_range: bool, largest: int
):
    target = tmp_path / "model.onnx"
    model = load_model(source.parents[1], backend="onnx", device="cpu")
    windows = windows_of(model)
    alone = [collate([window], model.pad_id) for window in windows]
    count = quantise(source, target, alone, reduce_range=reduce_range)
    assert count == LAYERS * MATRICES
    constants = {
        one.name: numpy_helper.to_array(one) for one in onnx.load(target).graph.initializer
    }
    quantised = {
        name: one for name, one in constants.items() if one.dtype == np.int8 and one.ndim == 2
    }
    assert len(quantised) == count
    for name, matrix in quantised.items():
        assert 0 < np.abs(matrix).max() <= largest
        assert constants[name.replace("_quantized", "_scale")].shape == (matrix.shape[1],)
    assert (
        len([one for one in constants.values() if one.shape == (pico.HIDDEN, len(pico.HEADS))]) == 1
    )

    everything = collate(windows, model.pad_id)
    crowd, exact = values(target, everything), values(source, everything)
    assert np.abs(crowd - exact).max() > 0
    np.testing.assert_allclose(crowd, exact, atol=0.1 * np.abs(exact).max())
    # Scales do not come from the batch: a row does not see that it has longer company.
    for row, batch in enumerate(alone):
        units = batch.span_weights.shape[1]
        np.testing.assert_allclose(values(target, batch)[0], crowd[row, :units], atol=1e-5)


def test_a_graph_without_a_trunk_is_refused(tmp_path: Path):
    empty = onnx.helper.make_graph([], "g", [], [])
    onnx.save(onnx.helper.make_model(empty), tmp_path / "g.onnx")
    with pytest.raises(ModelError, match="no matrix product of a trunk"):
        quantise(tmp_path / "g.onnx", tmp_path / "out.onnx", [], reduce_range=False)


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("x86_64", "flags : sse4_2 avx2", True),
        ("x86_64", "flags : avx2 avx512_vnni", False),
        ("AMD64", "flags : avx2 avx_vnni", False),
        ("x86_64", None, True),  # not Linux
        ("aarch64", None, False),
    ],
)
def test_seven_bits_where_sums_of_products_saturate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, machine: str, flags: str | None, expected: bool
):
    monkeypatch.setattr(quantize_onnx.platform, "machine", lambda: machine)
    monkeypatch.setattr(quantize_onnx, "_CPU_INFO", tmp_path / "cpuinfo")
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(flags)
    assert needs_reduced_range() is expected
