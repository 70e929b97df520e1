"""An fp32 export with the matrix products of its trunk in int8.

    A · W  ≈  s_A (A_q − z_A) · W_q s_W        A_q uint8, W_q int8

s_W has one scale a column of W, in absolute maximum. s_A and z_A are one scale and zero point a
matrix product, from the least and the largest activation over the calibration texts ("static").
Computed anew for every batch ("dynamic") they would be no more exact, and make a score depend on
its neighbours: by 0.15 of a raw value in grounded-qa, where 1e-5 is promised.

Embeddings, normalisation, attention's own products, pooling and heads stay fp32. Jacob et al. 2018,
arXiv:1712.05877; the settings are those of onnxruntime.ai/docs/performance/model-optimizations.
"""

from __future__ import annotations

import ast
import contextlib
import logging
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from tureen.errors import MissingExtra
from tureen.model.manifest import ModelError
from tureen.text.batch import Batch

_SCOPES: Final = "pkg.torch.onnx.name_scopes"
_TRUNK: Final = ("backbone", "classifier.")
"""Where a trunk stands in a `RewardModel`, and trunk and heads in a `SequenceClassifier`, whose heads
are no MatMul: they read one vector a row."""
_CPU_INFO: Final = Path("/proc/cpuinfo")


def quantise(source: Path, target: Path, batches: Sequence[Batch], *, reduce_range: bool) -> int:
    """Write `target`, the int8 form of the export `source`.

    Args:
        batches: calibration texts; without padding, or its activations count too.
        reduce_range: weights of 7 bits; see `needs_reduced_range`.
    Returns:
        How many matrices are int8.
    Raises:
        MissingExtra: onnx or onnxruntime is not installed.
        ModelError: no matrix of it can be quantised.
    """
    try:
        import onnx
        from onnxruntime import quantization
    except ImportError as error:
        raise MissingExtra("Export to int8", "export") from error
    graph = onnx.load(source).graph
    constants = {constant.name for constant in graph.initializer}
    names = [
        node.name
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in constants and _of_trunk(node)
    ]
    if not names:
        raise ModelError(
            f"{source} has no matrix product of a trunk with weights, so nothing would be int8; "
            "serve it in float32 or bfloat16."
        )

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._rest = iter(batches)

        def get_next(self) -> dict[str, np.ndarray] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            batch = next(self._rest, None)
            return None if batch is None else batch.arrays()

    with _quiet():
        quantization.quantize_static(
            source,
            target,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=names,
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
        )
    return len(names)


def needs_reduced_range() -> bool:
    """Whether sums of int8 products saturate in this CPU.

    An x86 without VNNI adds two products in 16 bits: 2 · 255 · 127 > 32,767. With weights of 7 bits
    they fit. Other architectures add in 32 bits.
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686"):
        return False
    try:
        flags = _CPU_INFO.read_text(encoding="utf-8")
    except OSError:  # not Linux: who cannot say that it has VNNI is taken to lack it
        return True
    return not ("avx512_vnni" in flags or "avx_vnni" in flags)


def _of_trunk(node: object) -> bool:
    for entry in node.metadata_props:  # pyright: ignore[reportAttributeAccessIssue]
        if entry.key == _SCOPES:
            return any(scope.startswith(_TRUNK) for scope in ast.literal_eval(entry.value))
    return False


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """onnxruntime says through the root logger, and past Python, what is no news to anybody."""
    import onnxruntime

    level, root = logging.root.level, logging.root
    root.setLevel(logging.ERROR)
    onnxruntime.set_default_logger_severity(3)  # errors
    try:
        yield
    finally:
        root.setLevel(level)
        onnxruntime.set_default_logger_severity(2)  # warnings, its default
