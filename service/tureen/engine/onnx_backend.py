"""Values by ONNX Runtime, from an export. The only file that imports onnxruntime here."""

from __future__ import annotations

import os

import numpy as np
import onnxruntime

from tureen.engine.backend import STREAMS, BackendInfo, BatchTooLarge
from tureen.model.directory import Export
from tureen.model.manifest import Manifest, ModelError
from tureen.model.quantize_onnx import needs_reduced_range
from tureen.text.batch import Batch

_OUT_OF_MEMORY = ("Failed to allocate memory", "bad allocation", "std::bad_alloc")
_CUDA = "CUDAExecutionProvider"


class OnnxBackend:
    """An inference session over an export.

    Args:
        export: that is known to be of this model.
        dtype: of the export, "float32" or "int8"; the latter is for a CPU.
        device: "cpu", "cuda", "cuda:1" or "auto", which takes CUDA where this onnxruntime has it
            and the dtype allows it.
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
        providers: list = ["CPUExecutionProvider"]
        if device.startswith("cuda"):
            if _CUDA not in available:
                raise ModelError(
                    f"device is {device!r}, but this onnxruntime has {', '.join(available)}; "
                    "install tureen[onnx-gpu] instead of tureen[onnx], or use --device cpu."
                )
            index = int(device.partition(":")[2] or 0)
            providers.insert(0, (_CUDA, {"device_id": index}))
        elif device != "cpu":
            raise ModelError(f"device is {device!r}; the onnx backend knows auto, cpu and cuda.")
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
        if device != "cpu" and _CUDA not in self._session.get_providers():
            raise ModelError(
                f"device is {device!r}, but onnxruntime fell back to the CPU; "
                "its log says why, often a CUDA library that is missing."
            )
        self.info = BackendInfo(
            name="onnx",
            dtype=dtype,
            device=device,
            groups=manifest.groups,
            heads=tuple(head.name for head in manifest.heads),
            fingerprint=export.fingerprint,
            streams=STREAMS,
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
