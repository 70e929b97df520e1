"""Rows that begin alike pay for it once: keys and values of a prompt, computed for all its responses.

In a causal trunk nothing before the response depends on it. So each distinct prefix of a batch, which
is whatever stands before the tokens of the response, runs alone and once; then the rest of every row
runs, looking back at the keys and values of its own prefix. Prefixes that come again, in whatever
request, are kept up to a number of bytes, the least recently used dropped first.

Of R responses of T tokens to a prompt of P the trunk then sees P + R·T tokens, not R·(P + T); the same
idea as the prefix sharing of SGLang (arXiv:2312.07104) and Hydragen (arXiv:2402.05099).
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from tureen.model.prefix_cache import PrefixCache
from tureen.model.transfer import upload
from tureen.text.batch import Batch

log = logging.getLogger(__name__)

WORTH: Final = 0.75
"""Of the tokens of the plain pass: with more of them left, a second pass through the layers costs more."""

_REMEMBERED: Final = 4096  # prefixes that are known by their digest, without keys and values
_TOLERANCE: Final = 1e-4  # of hidden states in fp32, relative to their largest
_HALF_TOLERANCE: Final = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Prefixes:
    """What the rest of each row looks back at.

    keys_values: (2, L, B, A, P, D): of L layers and A key heads, padded on the right.
    lengths: (B,) int64, of each row's prefix, at most P.
    """

    keys_values: Tensor
    lengths: Tensor


def looking_back(attention_mask: Tensor, prefixes: Prefixes | None) -> dict[str, Any]:
    """With what, beside their ids, a trunk of transformers is called on rows, or on the rests of rows.

    Args:
        attention_mask: (B, T), 1 where the token counts.
    """
    if prefixes is None:
        return {"attention_mask": attention_mask}
    cache = DynamicCache()
    keys, values = prefixes.keys_values
    for layer, pair in enumerate(zip(keys, values, strict=True)):
        cache.update(*pair, layer)
    past = torch.arange(keys.shape[3], device=keys.device) < prefixes.lengths[:, None]  # (B, P)
    steps = torch.arange(attention_mask.shape[1], device=keys.device)
    return {
        "attention_mask": torch.cat([past.to(attention_mask.dtype), attention_mask], dim=1),
        "position_ids": prefixes.lengths[:, None] + steps,
        "past_key_values": cache,
        "use_cache": True,
    }


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A batch taken apart.

    keys: the distinct prefixes, as bytes of their ids. group: (B,) which of them each row has.
    rest: the rows without their prefixes.
    """

    keys: tuple[bytes, ...]
    group: np.ndarray
    rest: Batch

    @property
    def lengths(self) -> np.ndarray:
        """(B,) int64: tokens of each row's prefix."""
        return np.array([_length(key) for key in self.keys])[self.group]


def plan(batch: Batch) -> Plan:
    """Splits every row behind its prefix."""
    starts = batch.prefix_lengths
    keys = [row[:start].tobytes() for row, start in zip(batch.input_ids, starts, strict=True)]
    order = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    left = int((batch.attention_mask.sum(axis=1) - starts).max())
    columns = starts[:, None] + np.arange(left)  # (B, S) of the batch
    inside = columns < batch.input_ids.shape[1]
    columns = np.where(inside, columns, 0)

    def rest(values: np.ndarray) -> np.ndarray:
        return np.where(inside, np.take_along_axis(values, columns, axis=1), 0).astype(values.dtype)

    weights = np.take_along_axis(batch.span_weights, columns[:, None, :], axis=2)
    return Plan(
        keys=tuple(order),
        group=np.array([order[key] for key in keys]),
        rest=Batch(
            input_ids=rest(batch.input_ids),
            attention_mask=rest(batch.attention_mask),
            token_type_ids=rest(batch.token_type_ids),
            span_weights=np.where(inside[:, None, :], weights, 0).astype(np.float32),
            prefix_lengths=np.zeros_like(starts),
            unit_features=batch.unit_features,
        ),
    )


class SharedPrefixes:
    """Prefixes of one trunk, for any number of threads.

    Args:
        trunk: causal, see `can_share`.
        cache: of keys and values that outlive their batch; other trunks may share it.
        packs: whether the plain pass has no padding to pay for.
    """

    def __init__(self, trunk: PreTrainedModel, cache: PrefixCache, *, packs: bool = False) -> None:
        self._trunk = trunk
        self._packs = packs
        self._cache = cache  # (2, L, A, P, D) each, no padding
        self._lock = threading.Lock()
        self._seen: OrderedDict[bytes, None] = OrderedDict()  # once, without having been kept

    def close(self) -> None:
        """Leaves nothing in the cache."""
        self._cache.drop(self)

    def split(self, batch: Batch) -> tuple[Batch, Prefixes] | None:
        """The rests of a batch's rows and what they look back at; None where the plain pass is as good."""
        taken = plan(batch)
        if min(_length(key) for key in taken.keys) == 0:
            return None
        known, again = self._look_up(taken.keys)
        missing = [key for key in taken.keys if key not in known]
        tokens = taken.rest.padded_tokens + sum(map(_length, missing))
        # A prefix that comes again will come once more: it may cost as much as the plain pass now.
        plain = batch.tokens if self._packs else batch.padded_tokens
        if tokens > (1.0 if again else WORTH) * plain:
            return None
        if missing:
            known |= states_of(self._trunk, missing)
            self._keep({key: known[key] for key in missing})
        return taken.rest, joined(taken, known)

    def _look_up(self, keys: tuple[bytes, ...]) -> tuple[dict[bytes, Tensor], bool]:
        """What is kept of them, and whether another one was seen before."""
        known = self._cache.get(self, keys)
        with self._lock:
            digests = {_digest(key): key for key in keys}
            again = self._cache.max_bytes > 0 and any(one in self._seen for one in digests)
            for digest, key in digests.items():
                if key not in known:
                    self._seen[digest] = None
                    self._seen.move_to_end(digest)
            while len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
        return known, again

    def _keep(self, computed: dict[bytes, Tensor]) -> None:
        for key, states in computed.items():
            if self._cache.put(self, key, states):
                with self._lock:
                    self._seen.pop(_digest(key), None)


def states_of(trunk: PreTrainedModel, keys: Sequence[bytes]) -> dict[bytes, Tensor]:
    """(2, L, A, P, D) keys and values of each prefix, all of them in one pass."""
    rows = [np.frombuffer(key, np.int64) for key in keys]
    ids, mask = _padded(rows)
    cache = DynamicCache()
    tensors = upload({"input_ids": ids, "attention_mask": mask}, trunk.device)
    trunk(**tensors, past_key_values=cache, use_cache=True)
    pairs = [torch.stack(_full(layer)) for layer in cache.layers]
    whole = torch.stack(pairs, dim=1)  # (2, L, rows, A, P, D)
    return {
        key: whole[:, :, place, :, : len(row)]
        for place, (key, row) in enumerate(zip(keys, rows, strict=True))
    }


def _full(layer: object) -> list[Tensor]:
    """Keys and values of all tokens; `can_share` has made sure that the layer keeps them."""
    assert isinstance(layer, DynamicLayer)
    assert layer.keys is not None
    assert layer.values is not None
    return [layer.keys, layer.values]


def joined(taken: Plan, states: Mapping[bytes, Tensor]) -> Prefixes:
    """What the rests of a plan look back at."""
    own = [states[key] for key in taken.keys]
    longest = max(one.shape[3] for one in own)
    padded = [torch.nn.functional.pad(one, (0, 0, 0, longest - one.shape[3])) for one in own]
    whole = torch.stack(padded, dim=2)  # (2, L, prefixes, A, P, D)
    rows = upload({"group": taken.group, "lengths": taken.lengths}, whole.device)
    return Prefixes(keys_values=whole.index_select(2, rows["group"]), lengths=rows["lengths"])


def _digest(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=16).digest()


def _length(key: bytes) -> int:
    return len(key) // np.dtype(np.int64).itemsize


@torch.inference_mode()
def can_share(trunk: PreTrainedModel) -> bool:
    """Whether the trunk gives the same hidden states with prefixes shared; tried out on a few tokens.

    An encoder does not, nor a decoder whose layers keep anything but all keys and values (sliding
    windows, state spaces), or that counts positions its own way.
    """
    try:
        layers = DynamicCache(config=trunk.config).layers
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    if any(type(layer) is not DynamicLayer for layer in layers):
        return False
    batch = _probe(trunk.config.get_text_config().vocab_size)
    taken = plan(batch)

    def hidden(rows: Batch, prefixes: Prefixes | None) -> Tensor:
        ids, mask = (
            torch.from_numpy(array).to(trunk.device)
            for array in (rows.input_ids, rows.attention_mask)
        )
        called = trunk(input_ids=ids, **looking_back(mask, prefixes))
        return called.last_hidden_state.float()

    try:
        whole = hidden(batch, None)
        rest = hidden(taken.rest, joined(taken, states_of(trunk, taken.keys)))
        alone = hidden(taken.rest, None)
    except Exception as error:  # whatever an architecture cannot do, it is run as it was before
        log.info("prefixes are not shared: %s cannot (%r)", type(trunk).__name__, error)
        return False
    for row, start in enumerate(batch.prefix_lengths):
        length = int(taken.rest.attention_mask[row].sum())
        wanted = whole[row, start : start + length]
        allowed = allowance(trunk.dtype, wanted)
        if (alone[row, :length] - wanted).abs().max() < 3 * allowed:
            log.info("prefixes are not shared: %s hardly looks back", type(trunk).__name__)
            return False  # so the comparison below would say nothing
        if (rest[row, :length] - wanted).abs().max() > allowed:
            log.info("prefixes are not shared: %s gives other values then", type(trunk).__name__)
            return False
    return True


def allowance(dtype: torch.dtype, wanted: Tensor) -> Tensor:
    """How far hidden states may lie from these when they were computed another way."""
    bound = _TOLERANCE if dtype == torch.float32 else _HALF_TOLERANCE
    return bound * wanted.abs().max()


def _probe(vocabulary: int) -> Batch:
    """Three rows of two prefixes, of different lengths before and behind."""
    random = np.random.default_rng(0)
    first, second = (random.integers(0, vocabulary, size) for size in (9, 5))
    rows = [
        (len(start), np.concatenate([start, random.integers(0, vocabulary, size)]))
        for start, size in ((first, 3), (second, 7), (first, 4))
    ]
    ids, mask = _padded([row for _, row in rows])
    return Batch(
        input_ids=ids,
        attention_mask=mask,
        token_type_ids=np.zeros_like(ids),
        span_weights=np.zeros((len(rows), 1, ids.shape[1]), np.float32),
        prefix_lengths=np.array([start for start, _ in rows]),
    )


def _padded(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask, (rows, longest) int64."""
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return ids, mask
