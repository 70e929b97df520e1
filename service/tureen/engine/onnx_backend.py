"""Values by ONNX Runtime, from an export. The only file that imports onnxruntime here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from tureen.engine.backend import BackendInfo, BatchTooLarge
from tureen.model.manifest import Manifest, ModelError
from tureen.text.batch import Batch

_OUT_OF_MEMORY = ("Failed to allocate memory", "bad allocation", "std::bad_alloc")
_CUDA = "CUDAExecutionProvider"


class OnnxBackend:
    """An inference session over an export that is known to be of `fingerprint`.

    Args:
        export: the model.onnx.
        device: "cpu", "cuda", "cuda:1" or "auto", which takes CUDA where this onnxruntime has it.
        threads: of the CPU for one forward pass; None takes the physical cores.
    Raises:
        ModelError: a device this onnxruntime has not.
    """

    def __init__(
        self,
        export: Path,
        manifest: Manifest,
        fingerprint: str,
        *,
        device: str,
        threads: int | None = None,
    ) -> None:
        available = onnxruntime.get_available_providers()
        if device == "auto":
            device = "cuda" if _CUDA in available else "cpu"
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
        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session: onnxruntime.InferenceSession | None = onnxruntime.InferenceSession(
            str(export), options, providers=providers
        )
        if device != "cpu" and _CUDA not in self._session.get_providers():
            raise ModelError(
                f"device is {device!r}, but onnxruntime fell back to the CPU; "
                "its log says why, often a CUDA library that is missing."
            )
        self.info = BackendInfo(
            name="onnx",
            dtype="float32",
            device=device,
            groups=manifest.groups,
            heads=tuple(head.name for head in manifest.heads),
            fingerprint=fingerprint,
        )

    def forward(self, batch: Batch) -> np.ndarray:
        assert self._session is not None, "closed"
        try:
            (values,) = self._session.run(
                ["values"],
                {
                    "input_ids": batch.input_ids,
                    "attention_mask": batch.attention_mask,
                    "token_type_ids": batch.token_type_ids,
                    "span_weights": batch.span_weights,
                },
            )
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            if any(phrase in str(error) for phrase in _OUT_OF_MEMORY):
                raise BatchTooLarge(str(error)) from error
            raise
        return np.asarray(values)  # (B, N, G, H)

    def close(self) -> None:
        self._session = None
