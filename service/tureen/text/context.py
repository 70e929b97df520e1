"""The context that responses are compared with: read once, though it comes with many requests.

Policies are sampled again and again with the same prompts and passages, and half of what a sample
costs outside the device is to tokenise its passages.
"""

from __future__ import annotations

import hashlib
from threading import Lock
from typing import Final

import numpy as np
from cachetools import LRUCache, cached
from tokenizers import Tokenizer

from tureen.contracts import Sample
from tureen.text import template
from tureen.text.evidence import Context
from tureen.text.layout import tokenize

REMEMBERED_BYTES: Final = 32 * 2**20
"""Of contexts: about a thousand of 500 tokens."""

OVERHEAD_BYTES: Final = 1500  # of ten arrays, two objects and their place, about


class ContextReader:
    """For any number of threads."""

    def __init__(self, backend: Tokenizer, remembered_bytes: int = REMEMBERED_BYTES) -> None:
        self._backend = backend
        remembered = LRUCache[bytes, Context](
            remembered_bytes, getsizeof=lambda one: one.nbytes + OVERHEAD_BYTES
        )
        self.read = cached(remembered, key=_digest, lock=Lock())(self._read)

    def _read(self, passages: tuple[str, ...]) -> Context:
        """What a context of these passages is."""
        alone = Sample(context=passages, responses=())
        _, text = template.render_evidence(alone)
        tokens = tokenize(self._backend, text)
        starts = template.context_sentences(alone, "evidence")
        sentence_of = np.searchsorted(starts, tokens.keys, side="right").astype(np.int32) - 1
        return Context(tokens.ids, sentence_of)


def _digest(passages: tuple[str, ...]) -> bytes:
    """The texts themselves are not kept: they can be long and of few tokens."""
    digest = hashlib.blake2b(digest_size=16)
    for passage in passages:
        text = passage.encode()
        digest.update(len(text).to_bytes(8, "little"))
        digest.update(text)
    return digest.digest()
