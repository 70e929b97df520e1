"""Values by torch, on a CPU or a CUDA device. The only file of the engine that imports torch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from tureen.engine.backend import (
    ON_ACCELERATOR,
    ON_CPU,
    STREAMS,
    BackendInfo,
    BatchTooLarge,
)
from tureen.model.checkpoint import load
from tureen.model.directory import ModelDirectory
from tureen.model.manifest import ModelError
from tureen.model.packing import Packer, packer_of
from tureen.model.prefix_cache import PrefixCache
from tureen.model.sequence_classifier import SequenceClassifier
from tureen.model.shared_prefixes import SharedPrefixes, can_share
from tureen.model.transfer import download, upload
from tureen.text.batch import Batch

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_CPU_CACHE_BYTES = 256 * 2**20
_GPU_CACHE_SHARE = 0.04
"""Of the device's memory, for the keys and values of prompts that come again, of all models on it."""
_caches: WeakValueDictionary[str, PrefixCache] = WeakValueDictionary()
"""By device: models that share one share the bound."""
_CPU_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory")  # of torch's CPU allocator


class _Passes:
    """The forward passes that are under way, of all models of this process."""

    def __init__(self) -> None:
        self._count, self._lock = 0, threading.Lock()

    @contextmanager
    def sharing(self, threads: int) -> Iterator[None]:
        """For one of them; its number of threads holds for the calling thread."""
        with self._lock:
            self._count += 1
            torch.set_num_threads(max(1, threads // self._count))
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1


_passes = _Passes()


class TorchBackend:
    """The soup as a torch module in inference mode, never under autocast.

    A batch runs behind the prompts that its rows share, where that is less work, else without
    padding, where the trunk can and packing is on.

    Args:
        path: of a model, for `tureen.model.checkpoint.load`.
        device: "cpu", "cuda", "cuda:1" or "auto", which takes CUDA where there is one.
        dtype: "float32", "bfloat16" or "float16".
        threads: of the CPU, in the whole process; None leaves it to torch. Forward passes that
            overlap share them, whichever model they are of.
        attention: units but the first get the attention paid to them as values; see
            `SequenceClassifier.give_attention`.
        packing: whether a trunk that can (`packer_of`) runs without padding; None: on CUDA, where a
            batch is large and so takes rows of any length.
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
        packing: bool | None = None,
    ) -> None:
        if dtype not in _DTYPES:
            raise ModelError(f"dtype is {dtype!r}; the torch backend runs {', '.join(_DTYPES)}.")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device.partition(":")[0] not in ("cpu", "cuda"):
            raise ModelError(f"device is {device!r}; the torch backend knows auto, cpu and cuda.")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ModelError(
                f"device is {device!r}, but torch finds no CUDA device; use --device cpu."
            )
        if threads is not None:
            torch.set_num_threads(threads)
        self._threads = torch.get_num_threads()
        self._device = torch.device(device)
        on_cuda = self._device.type == "cuda"
        # On CUDA a pass is only asked for, and its values waited for elsewhere; kernels of two passes
        # that are asked for at once would take turns, and both end late.
        self._asking: AbstractContextManager = threading.Lock() if on_cuda else nullcontext()
        loaded = load(path, device=self._device, dtype=_DTYPES[dtype])
        if attention:
            assert isinstance(loaded.model, SequenceClassifier)  # loading.py refuses all others
            loaded.model.give_attention()
        self._model: torch.nn.Module | None = loaded.model
        self._prefixes: SharedPrefixes | None = None
        self._packer: Packer | None = None
        trunk = loaded.model.trunk
        if trunk is not None and not attention:
            shares = can_share(trunk)
            if packing if packing is not None else on_cuda:
                self._packer = packer_of(trunk)
            if shares:
                self._prefixes = SharedPrefixes(
                    trunk, _cache_of(self._device), packs=self._packer is not None
                )
        self.info = BackendInfo(
            name="torch",
            dtype=dtype,
            device=device,
            groups=loaded.manifest.groups,
            heads=tuple(head.name for head in loaded.manifest.heads),
            fingerprint=loaded.fingerprint,
            streams=STREAMS,
            packs=self._packer is not None,
            batches=ON_CPU if device == "cpu" else ON_ACCELERATOR,
        )

    @torch.inference_mode()
    def forward(self, batch: Batch) -> np.ndarray:
        try:
            with self._share_of_threads():
                with self._asking:
                    values = download(self._values(batch))
                return values()
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise BatchTooLarge(str(error)) from error
        except MemoryError as error:
            raise BatchTooLarge(str(error)) from error
        except RuntimeError as error:
            if any(phrase in str(error) for phrase in _CPU_OUT_OF_MEMORY):
                raise BatchTooLarge(str(error)) from error
            raise

    def _values(self, batch: Batch) -> Tensor:
        """(B, N, G, H) float32."""
        assert self._model is not None, "closed"
        split = self._prefixes.split(batch) if self._prefixes is not None else None
        if split is not None:
            rows, prefixes = split
            return self._model(**upload(rows.arrays(), self._device), prefixes=prefixes).float()
        if self._packer is None:
            return self._model(**upload(batch.arrays(), self._device)).float()
        arrays = batch.arrays()
        laid_out = self._packer.arrays(batch.attention_mask)
        tensors = upload(arrays | laid_out, self._device)
        packing = self._packer.packing(batch.attention_mask, tensors)
        return self._model(**{name: tensors[name] for name in arrays}, packing=packing).float()

    def _share_of_threads(self) -> AbstractContextManager[None]:
        return _passes.sharing(self._threads)

    def close(self) -> None:
        if self._prefixes is not None:
            self._prefixes.close()
        self._model = self._prefixes = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _cache_of(device: torch.device) -> PrefixCache:
    size, name = _CPU_CACHE_BYTES, device.type
    if device.type == "cuda":
        described = torch.cuda.get_device_properties(device)
        size, name = int(_GPU_CACHE_SHARE * described.total_memory), f"cuda:{device.index or 0}"
    found = _caches.get(name)
    if found is None:
        found = _caches[name] = PrefixCache(size)
    return found
