"""Keys and values of prompts that come again, of all the trunks on a device: one bound for them together."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable

from torch import Tensor


class PrefixCache:
    """The least recently used is dropped first, whosever it is. For any number of threads.

    Args:
        max_bytes: 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[object, bytes], Tensor] = OrderedDict()

    def get(self, owner: object, keys: Iterable[bytes]) -> dict[bytes, Tensor]:
        """Those that are kept. owner: whose weights made them."""
        with self._lock:
            known = {key: self._kept[owner, key] for key in keys if (owner, key) in self._kept}
            for key in known:
                self._kept.move_to_end((owner, key))
        return known

    def put(self, owner: object, key: bytes, states: Tensor) -> bool:
        """Whether it is new and fits; a copy is kept: a view would keep a whole pass."""
        size = _bytes(states)
        with self._lock:
            if (owner, key) in self._kept or size > self.max_bytes:
                return False
            self._kept[owner, key] = states.clone()
            self.bytes += size
            while self.bytes > self.max_bytes:
                _, dropped = self._kept.popitem(last=False)
                self.bytes -= _bytes(dropped)
        return True

    def drop(self, owner: object) -> None:
        """All of an owner whose weights are gone."""
        with self._lock:
            for place in [place for place in self._kept if place[0] is owner]:
                self.bytes -= _bytes(self._kept.pop(place))


def _bytes(states: Tensor) -> int:
    return states.numel() * states.element_size()
