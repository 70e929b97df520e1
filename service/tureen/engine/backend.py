"""The whole contract between the engine and whatever computes values. Read this first.

A backend is used by `BackendInfo.streams` threads at a time. It never sees text, requests, heads'
calibrations or deadlines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tureen.text.batch import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """Of one batch. overhead_tokens: what a forward pass costs beside its tokens, in tokens."""

    max_batch_tokens: int
    max_batch_requests: int
    overhead_tokens: int


ON_CPU = BatchLimits(max_batch_tokens=2048, max_batch_requests=32, overhead_tokens=32)
ON_ACCELERATOR = BatchLimits(max_batch_tokens=16384, max_batch_requests=512, overhead_tokens=4096)


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """What runs where.

    name: "torch", "onnx" or "stub". dtype: of the computation, such as "float32".
    device: such as "cpu", "cuda:0".
    groups: G of the values: the soup, then its M members; 1 when the soup is its only member.
    heads: names along the last axis of the values.
    streams: how many threads may, and to good effect do, run a batch each at once.
    packs: whether rows of different lengths cost their own tokens; else each costs the longest's.
    batches: what suits it, where nothing else is asked for.
    """

    name: str
    dtype: str
    device: str
    groups: int
    heads: tuple[str, ...]
    fingerprint: str
    streams: int = 1
    packs: bool = False
    batches: BatchLimits = ON_CPU

    @property
    def members(self) -> int:
        """M: how many models an ensemble's spread is taken over."""
        return max(1, self.groups - 1)


class Backend(Protocol):
    @property
    def info(self) -> BackendInfo: ...

    def forward(self, batch: Batch) -> np.ndarray:
        """Values, (B, N, G, H) float32; what stands in units a row does not have is ignored.

        Raises:
            BatchTooLarge: the device ran out of memory; a smaller batch may pass.
        """
        ...

    def close(self) -> None:
        """Gives the device's memory back."""
        ...


class BatchTooLarge(Exception):
    """The device has no memory for this batch; the worker halves it."""


STREAMS = 2
"""Batches at once, for a backend that can run two.

On a CPU a forward pass has parts that run on one core, and its threads wait for the slowest at the end of
every matrix product; the more so while tokenizers have a core. Another pass fills the gaps. On a GPU
one batch is copied and asked for while another is computed.
"""
