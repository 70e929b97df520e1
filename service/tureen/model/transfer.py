"""Arrays to a device and values back. On CUDA neither waits for what the device is computing.

All arrays of a batch travel in one copy, from pinned memory and on a stream of its own, while another
batch is computed; torch's host allocator keeps the pinned memory for the next one, and gives none away
that a copy still reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Final

import numpy as np
import torch
from torch import Tensor

_ALIGNMENT: Final = 64  # bytes; what kernels read at once begins nowhere else


def upload(arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    """The arrays as tensors, for the device's current stream. On the CPU they are the same memory."""
    if device.type != "cuda":
        return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    copies, current = _copies(device), torch.cuda.current_stream(device)
    with torch.cuda.stream(copies):
        whole = staged(arrays, pinned=True).to(device, non_blocking=True)
    current.wait_stream(copies)
    # Else its memory would be free for the next upload while this pass still reads it.
    whole.record_stream(current)
    return parts(whole, arrays)


def download(values: Tensor) -> Callable[[], np.ndarray]:
    """Asks for the values; what it returns waits for them, and for nothing asked later."""
    if not values.is_cuda:
        return values.cpu().numpy
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    done = torch.cuda.Event(blocking=True)  # a waiting thread leaves its core to others
    done.record(torch.cuda.current_stream(values.device))

    def fetch() -> np.ndarray:
        done.synchronize()
        return host.numpy().copy()  # the pinned memory is for the next batch

    return fetch


def staged(arrays: Mapping[str, np.ndarray], *, pinned: bool) -> Tensor:
    """All arrays in one block of bytes."""
    starts = _starts(arrays)
    whole = torch.empty(starts.pop(""), dtype=torch.uint8, pin_memory=pinned)
    memory = whole.numpy()
    for name, start in starts.items():
        array = np.ascontiguousarray(arrays[name])
        memory[start : start + array.nbytes] = array.reshape(-1).view(np.uint8)
    return whole


def parts(whole: Tensor, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The tensors in a block that is `staged` from these arrays."""
    tensors, starts = {}, _starts(arrays)
    for name, array in arrays.items():
        start = starts[name]
        dtype = torch.from_numpy(array[:0]).dtype
        tensors[name] = whole[start : start + array.nbytes].view(dtype).view(array.shape)
    return tensors


def _starts(arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Where each array begins, in bytes; under "" where all of them end."""
    starts, end = {}, 0
    for name, array in arrays.items():
        starts[name] = end
        end += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    return starts | {"": end}


@cache
def _copies(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
