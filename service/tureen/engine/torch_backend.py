"""Values by torch, on a CPU or a CUDA device. The only file of the engine that imports torch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from tureen.engine.backend import BackendInfo, BatchTooLarge, streams_of
from tureen.model.checkpoint import load
from tureen.model.directory import ModelDirectory
from tureen.model.manifest import ModelError
from tureen.model.sequence_classifier import SequenceClassifier
from tureen.model.shared_prefixes import SharedPrefixes, can_share
from tureen.text.batch import Batch

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_CPU_CACHE_BYTES = 256 * 2**20
_GPU_CACHE_SHARE = 0.04
"""Of the device's memory, for the keys and values of prompts that come again."""
_CPU_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory")  # of torch's CPU allocator


class TorchBackend:
    """The soup as a torch module in inference mode, never under autocast.

    Args:
        path: of a model, for `tureen.model.checkpoint.load`.
        device: "cpu", "cuda", "cuda:1" or "auto", which takes CUDA where there is one.
        dtype: "float32", "bfloat16" or "float16".
        threads: of the CPU, in the whole process; None leaves it to torch. Forward passes that
            overlap share them.
        attention: units but the first get the attention paid to them as values; see
            `SequenceClassifier.give_attention`.
    Raises:
        ModelError: an unknown dtype or device, or a model that cannot be loaded, or not like this.
    """

    def __init__(
        self,
        path: Path | str | ModelDirectory,
        *,
        device: str,
        dtype: str,
        threads: int | None = None,
        attention: bool = False,
    ) -> None:
        if dtype not in _DTYPES:
            raise ModelError(f"dtype is {dtype!r}; the torch backend runs {', '.join(_DTYPES)}.")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ModelError(
                f"device is {device!r}, but torch finds no CUDA device; use --device cpu."
            )
        if threads is not None:
            torch.set_num_threads(threads)
        self._threads, self._passes, self._lock = torch.get_num_threads(), 0, threading.Lock()
        self._device = torch.device(device)
        loaded = load(path, device=self._device, dtype=_DTYPES[dtype])
        if attention:
            assert isinstance(loaded.model, SequenceClassifier)  # loading.py refuses all others
            loaded.model.give_attention()
        self._model: torch.nn.Module | None = loaded.model
        self._prefixes: SharedPrefixes | None = None
        trunk = loaded.model.trunk
        if trunk is not None and not attention and can_share(trunk):
            self._prefixes = SharedPrefixes(trunk, _cache_bytes(self._device))
        self.info = BackendInfo(
            name="torch",
            dtype=dtype,
            device=device,
            groups=loaded.manifest.groups,
            heads=tuple(head.name for head in loaded.manifest.heads),
            fingerprint=loaded.fingerprint,
            streams=streams_of(device),
        )

    @torch.inference_mode()
    def forward(self, batch: Batch) -> np.ndarray:
        assert self._model is not None, "closed"
        try:
            with self._share_of_threads():
                split = self._prefixes.split(batch) if self._prefixes is not None else None
                rows, prefixes = split if split is not None else (batch, None)
                tensors = {
                    name: torch.from_numpy(array).to(self._device)
                    for name, array in rows.arrays().items()
                }
                values = self._model(**tensors, prefixes=prefixes)
                return values.float().cpu().numpy()  # (B, N, G, H)
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise BatchTooLarge(str(error)) from error
        except MemoryError as error:
            raise BatchTooLarge(str(error)) from error
        except RuntimeError as error:
            if any(phrase in str(error) for phrase in _CPU_OUT_OF_MEMORY):
                raise BatchTooLarge(str(error)) from error
            raise

    @contextmanager
    def _share_of_threads(self) -> Iterator[None]:
        """For one forward pass; the number holds for the calling thread."""
        with self._lock:
            self._passes += 1
            torch.set_num_threads(max(1, self._threads // self._passes))
        try:
            yield
        finally:
            with self._lock:
                self._passes -= 1

    def close(self) -> None:
        self._model = self._prefixes = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _cache_bytes(device: torch.device) -> int:
    if device.type != "cuda":
        return _CPU_CACHE_BYTES
    return int(_GPU_CACHE_SHARE * torch.cuda.get_device_properties(device).total_memory)
