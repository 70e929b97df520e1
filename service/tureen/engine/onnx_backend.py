"""Values by ONNX Runtime, from an export. The only file that imports onnxruntime here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from tureen.engine.backend import (
    ON_ACCELERATOR,
    ON_CPU,
    STREAMS,
    BackendInfo,
    BatchLimits,
    BatchTooLarge,
)
from tureen.model.directory import Export
from tureen.model.manifest import Manifest, ModelError
from tureen.model.quantize_onnx import needs_reduced_range
from tureen.text.batch import Batch

_OUT_OF_MEMORY = ("Failed to allocate memory", "bad allocation", "std::bad_alloc")
_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_TENSORRT = "TensorrtExecutionProvider"
_PROVIDERS = {"cuda": _CUDA, "tensorrt": _TENSORRT}


class OnnxBackend:
    """An inference session over an export.

    Args:
        export: that is known to be of this model.
        dtype: of the export, "float32" or "int8"; the latter is for a CPU.
        device: "cpu", "cuda", "cuda:1", "tensorrt", "tensorrt:1" or "auto", which takes CUDA where
            this onnxruntime has it and the dtype allows it.
        threads: of the CPU for one forward pass; None takes every core this process may use.
    Raises:
        ModelError: a device this onnxruntime has not, or that does not run the dtype.
    """

    def __init__(
        self,
        export: Export,
        manifest: Manifest,
        *,
        device: str,
        dtype: str = "float32",
        threads: int | None = None,
    ) -> None:
        available = onnxruntime.get_available_providers()
        if device == "auto":
            device = "cuda" if _CUDA in available and dtype != "int8" else "cpu"
        providers = _providers(device, available, export.path.parent)
        if dtype == "int8":
            _check_int8(export, device)
        self._session: onnxruntime.InferenceSession | None = onnxruntime.InferenceSession(
            str(export.path),
            _options(threads),
            providers=providers,
            # Its SkipLayerNormalization takes three times what Add and LayerNormalization take,
            # on a CPU: a twelfth of an fp32 pass and a fifth of an int8 one.
            disabled_optimizers=["SkipLayerNormFusion"] if device == "cpu" else None,
        )
        wanted = _PROVIDERS.get(device.partition(":")[0], _CPU)
        if wanted not in self._session.get_providers():
            raise ModelError(
                f"device is {device!r}, but onnxruntime fell back to the CPU; "
                "its log says why, often a CUDA or TensorRT library that is missing."
            )
        self.info = BackendInfo(
            name="onnx",
            dtype=dtype,
            device=device,
            groups=manifest.groups,
            heads=tuple(head.name for head in manifest.heads),
            fingerprint=export.fingerprint,
            streams=STREAMS,
            batches=_batches(device, dtype),
        )

    def forward(self, batch: Batch) -> np.ndarray:
        assert self._session is not None, "closed"
        try:
            (values,) = self._session.run(["values"], batch.arrays())
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            if any(phrase in str(error) for phrase in _OUT_OF_MEMORY):
                raise BatchTooLarge(str(error)) from error
            raise
        return np.asarray(values)  # (B, N, G, H)

    def close(self) -> None:
        self._session = None


def _providers(device: str, available: Sequence[str], folder: Path) -> list[Any]:
    """What onnxruntime is to run the export with; each takes what those before it cannot.

    Args:
        folder: of the export, where TensorRT keeps the engines that it builds for minutes. It builds
            another when a batch is larger than all before.
    Raises:
        ModelError: no such device here.
    """
    kind, _, index = device.partition(":")
    if device == "cpu":
        return [_CPU]
    if kind not in _PROVIDERS or (index and not index.isdecimal()):
        raise ModelError(
            f"device is {device!r}; the onnx backend knows auto, cpu, cuda, cuda:N, tensorrt and "
            "tensorrt:N."
        )
    if _PROVIDERS[kind] not in available:
        raise ModelError(
            f"device is {device!r}, but this onnxruntime has {', '.join(available)}; "
            "install tureen[onnx-gpu] instead of tureen[onnx], or use --device cpu."
        )
    place = {"device_id": int(index or 0)}
    if kind == "cuda":
        return [(_CUDA, place), _CPU]
    kept = {
        "trt_engine_cache_enable": True,
        "trt_timing_cache_enable": True,
        "trt_engine_cache_path": str(folder / "tensorrt"),
        "trt_timing_cache_path": str(folder / "tensorrt"),
    }
    return [(_TENSORRT, place | kept), (_CUDA, place), _CPU]


def _batches(device: str, dtype: str) -> BatchLimits:
    """On a CPU one row alone runs nearly as well as many: padding is all that there is to lose."""
    if device != "cpu":
        return ON_ACCELERATOR
    return replace(ON_CPU, overhead_tokens=12 if dtype == "int8" else 4)


def _options(threads: int | None) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    # A number of its own choice would be of the machine's cores, each thread tied to one.
    options.intra_op_num_threads = threads if threads is not None else _cores()
    # Threads that wait for work by turning in circles take the cores from the event loop,
    # tokenisation and the other batch on the device.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS, Windows


def _check_int8(export: Export, device: str) -> None:
    if device != "cpu":
        raise ModelError(
            f"device is {device!r} and dtype 'int8', which this export has for a CPU; use "
            "--device cpu, or --dtype bfloat16 --backend torch on a GPU."
        )
    if needs_reduced_range() and not export.record.get("reduce_range"):
        raise ModelError(
            f"{export.path} was made for a CPU whose int8 sums do not saturate (VNNI); on this one "
            "they do. Make it here: tureen export --dtype int8"
        )
