"""The context that responses are compared with: read once, though it comes with many requests.

Policies are sampled again and again with the same prompts and passages, and half of what a sample
costs outside the device is to tokenise its passages.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from tureen.contracts import Sample
from tureen.text import template
from tureen.text.layout import tokenize

REMEMBERED: Final = 256
"""Contexts: about 2 MB of passages of 500 tokens, and 48 MB of whatever else."""

MOST_CHARACTERS: Final = 16_384
"""Of a context that is remembered."""


class ContextTokens(NamedTuple):
    """ids: (C,) int32. sentence_of: (C,) int32, number of the sentence a token belongs to, from 0,
    not descending. Both are read only: others have them too."""

    ids: np.ndarray
    sentence_of: np.ndarray


class ContextReader:
    """For any number of threads."""

    def __init__(self, backend: Tokenizer) -> None:
        self._backend = backend
        self._remembered = lru_cache(REMEMBERED)(self._read)

    def read(self, passages: tuple[str, ...]) -> ContextTokens:
        """What a context of these passages is."""
        short = sum(map(len, passages)) <= MOST_CHARACTERS
        return self._remembered(passages) if short else self._read(passages)

    def _read(self, passages: tuple[str, ...]) -> ContextTokens:
        alone = Sample(context=passages, responses=())
        _, text = template.render_evidence(alone)
        tokens = tokenize(self._backend, text)
        starts = template.context_sentences(alone, "evidence")
        sentence_of = np.searchsorted(starts, tokens.keys, side="right").astype(np.int32) - 1
        tokens.ids.flags.writeable = sentence_of.flags.writeable = False
        return ContextTokens(tokens.ids, sentence_of)
