"""Values of windows that were scored before, bounded by bytes, least recently used first out."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

_OVERHEAD_BYTES = 300  # of a key, an array header and two dictionary slots, about


class ValueCache:
    """key -> values, (N, G, H). What it returns is what it stored, bit for bit: read only."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._values: OrderedDict[bytes, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: bytes) -> np.ndarray | None:
        values = self._values.get(key)
        if values is not None:
            self._values.move_to_end(key)
        return values

    def put(self, key: bytes, values: np.ndarray) -> None:
        """Remembers values unless they alone are above `max_bytes`."""
        size = values.nbytes + _OVERHEAD_BYTES
        if size > self.max_bytes or key in self._values:
            return
        self._values[key] = values
        self.bytes += size
        while self.bytes > self.max_bytes:
            _, oldest = self._values.popitem(last=False)
            self.bytes -= oldest.nbytes + _OVERHEAD_BYTES
