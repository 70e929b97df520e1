"""Tokens of one text, and where a tokenizer puts its special tokens around texts.

The layout is learnt by encoding a probe, so it is the tokenizer's own whatever its post-processor
is, and a text can be tokenised once and joined to many others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import numpy as np
from tokenizers import Tokenizer

from tureen.text.segments import Span

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """One text without special tokens of the layout.

    ids: (T,) int32. starts, keys: (T,) int32, not descending: the first and the last character of
    each token. By its last character a token belongs to a part of the text: byte-level tokens carry
    the space before their word.
    """

    ids: np.ndarray
    starts: np.ndarray
    keys: np.ndarray

    @property
    def characters(self) -> np.ndarray:
        """(T,) how many each token has, at least 1."""
        return self.keys - self.starts + 1

    def after(self, count: int) -> Tokens:
        """All but the first `count`."""
        return Tokens(self.ids[count:], self.starts[count:], self.keys[count:])

    def within(self, span: Span) -> Span:
        """The tokens whose last character is in `span`."""
        first, last = np.searchsorted(self.keys, span).tolist()
        return Span(first, last)

    def overlapping(self, span: Span) -> Span:
        """The tokens that have a character in `span`."""
        return Span(
            int(np.searchsorted(self.keys, span.start)), int(np.searchsorted(self.starts, span.end))
        )


def private_backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """A copy of the tokenizer's backend that neither truncates nor pads."""
    shared = cast(Tokenizer, tokenizer.backend_tokenizer)
    backend = Tokenizer.from_str(shared.to_str())
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = shared.encode_special_tokens
    forget = getattr(backend.model, "_resize_cache", None)
    if forget is not None and not _cuts_words(backend):
        forget(0)  # it would remember 10,000 texts of up to 256 bytes, 8 KB each, to no use
    return backend


def _cuts_words(backend: Tokenizer) -> bool:
    """Whether the model is given words; else whole texts."""
    before = backend.pre_tokenizer
    return before is not None and len(before.pre_tokenize_str("a b")) > 1


def tokenize(backend: Tokenizer, text: str) -> Tokens:
    # As a batch of one, because `encode` holds the interpreter lock: all else would stand still.
    (encoding,) = backend.encode_batch([text], add_special_tokens=False)
    ids = np.array(encoding.ids, dtype=np.int32)
    flat = chain.from_iterable(encoding.offsets)
    offsets = np.fromiter(flat, np.int32, 2 * len(ids)).reshape(-1, 2)
    starts = np.maximum.accumulate(offsets[:, 0])
    keys = np.maximum.accumulate(np.maximum(offsets[:, 1] - 1, offsets[:, 0]))
    return Tokens(ids, starts, keys)


class Row(NamedTuple):
    """The texts between their special tokens, and where the tokens of each text start."""

    input_ids: np.ndarray  # (T,) int32
    token_type_ids: np.ndarray  # (T,) int32
    first: int
    second: int


class _Part(NamedTuple):
    """Special tokens between texts."""

    ids: np.ndarray  # (T,) int32
    type_ids: np.ndarray  # (T,) int32


_NOTHING: Final = _Part(np.empty(0, np.int32), np.empty(0, np.int32))


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """prefix, first text, middle, second text, suffix; where there is no second text, no middle.

    type_ids: of the two texts. bos: the id that opens a row, if the tokenizer has one.
    """

    prefix: _Part
    middle: _Part
    suffix: _Part
    type_ids: tuple[int, int]
    bos: int | None

    @classmethod
    def bare(cls) -> Layout:
        """For texts that carry their special tokens themselves, as a chat template writes them."""
        return cls(_NOTHING, _NOTHING, _NOTHING, type_ids=(0, 0), bos=None)

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, backend: Tokenizer, *, pair: bool) -> Layout:
        """What `tokenizer` puts around a text, or around the two texts of a pair.

        Raises:
            ValueError: the tokenizer does not lay texts out one after the other.
        """
        probe = backend.encode("a", "b") if pair else backend.encode("a")
        ids = np.array(probe.ids, np.int32)
        type_ids = np.array(probe.type_ids, np.int32)
        if "token_type_ids" not in tokenizer.model_input_names:
            type_ids[:] = 0
        first = _range(probe.sequence_ids, 0)
        second = _range(probe.sequence_ids, 1) if pair else Span(first.end, first.end)
        layout = cls(
            prefix=_Part(ids[: first.start], type_ids[: first.start]),
            middle=_Part(ids[first.end : second.start], type_ids[first.end : second.start]),
            suffix=_Part(ids[second.end :], type_ids[second.end :]),
            type_ids=(int(type_ids[first.start]), int(type_ids[second.start]) if pair else 0),
            bos=cast("int | None", tokenizer.bos_token_id),
        )
        first_text, second_text = "b a", "a b b" if pair else None
        second_tokens = tokenize(backend, second_text) if second_text else None
        joined = layout.join(tokenize(backend, first_text), second_tokens)
        if joined.input_ids.tolist() != backend.encode(first_text, second_text).ids:
            raise ValueError(
                f"{type(tokenizer).__name__} does not put texts one after the other between fixed "
                "special tokens; tureen reads no other layout; choose another tokenizer."
            )
        return layout

    def opening(self) -> Layout:
        """Only what opens a row."""
        return replace(self, suffix=_NOTHING)

    def around(self, tokens: Tokens) -> Layout:
        """Without what ends a row, where the tokens end with it themselves."""
        closing = self.suffix.ids.tolist()
        closed = bool(closing) and tokens.ids[-len(closing) :].tolist() == closing
        return self.opening() if closed else self

    def join(self, first: Tokens, second: Tokens | None = None) -> Row:
        """One row. A single text that opens with the beginning-of-sequence itself gets no other."""
        prefix = self.prefix
        opens = first.ids[:1].tolist() == [self.bos]
        if second is None and opens and prefix.ids[-1:].tolist() == [self.bos]:
            prefix = _Part(prefix.ids[:-1], prefix.type_ids[:-1])
        parts = [prefix, _typed(first, self.type_ids[0])]
        if second is not None:
            parts += [self.middle, _typed(second, self.type_ids[1])]
        parts.append(self.suffix)
        return Row(
            input_ids=np.concatenate([part.ids for part in parts]),
            token_type_ids=np.concatenate([part.type_ids for part in parts]),
            first=len(prefix.ids),
            second=len(prefix.ids) + len(first.ids) + len(self.middle.ids),
        )


def _typed(tokens: Tokens, type_id: int) -> _Part:
    return _Part(tokens.ids, np.full(len(tokens.ids), type_id, np.int32))


def _range(sequence_ids: list[int | None], sequence: int) -> Span:
    """Where the tokens of one text stand; special tokens belong to none."""
    start = sequence_ids.index(sequence)
    return Span(start, start + sequence_ids.count(sequence))
