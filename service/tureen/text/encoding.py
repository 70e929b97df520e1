"""From a sample to token ids, windows and units.

A text is tokenised once, as a whole; windows are slices of its tokens. So the response has the
same tokens in every window, and a row whose context fits is exactly what transformers makes of it.
Characters and tokens are matched by the tokenizer's offsets, never by tokenising a part again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tureen.contracts import Granularity, Sample, Truncate
from tureen.errors import InputTooLong, InvalidRequest
from tureen.text import evidence, template
from tureen.text.context import ContextReader
from tureen.text.layout import Layout, Tokens, private_backend, tokenize
from tureen.text.segments import Pieces, Span
from tureen.text.template import Rendered, TextSpec
from tureen.text.unit_features import Texts, unit_features
from tureen.text.units import Unit, tiles, units_of
from tureen.text.validation import validate
from tureen.text.windows import TooLong, WindowPlan, plan_windows, refusal
from tureen.text.written import TokenIds, Transcript, Written

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """One row for the model: prompt, a part of the context, and the whole response.

    input_ids, token_type_ids: (T,) int32; the type ids are zeros where the model has none.
    spans: (N, 2) int32, half-open token ranges to pool the mean of, one a unit, never empty.
    response_start: where the tokens of the response begin; the units of a granularity tile them.
    unit_features: (N, F) float32, of a template that describes its units.
    """

    input_ids: np.ndarray
    token_type_ids: np.ndarray
    spans: np.ndarray
    response_start: int
    unit_features: np.ndarray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class EncodedResponse:
    """units: aligned with the spans of every window; the RESPONSE unit is the first.

    response_ids: (R,) int32, its tokens and nothing else.
    tokens: of all windows, special tokens included.
    truncated_tokens: of prompt and context, dropped on request.
    doubled_bos: the text came with more than one beginning of sequence; one was left.
    """

    windows: tuple[Window, ...]
    units: tuple[Unit, ...]
    response_ids: np.ndarray
    tokens: int
    truncated_tokens: int
    doubled_bos: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """A response with its prompt and all of its context, before windows are cut from it.

    prompt, context, response: token ranges of the row.
    context_keys (C,), response_keys (R,): the character, of the context or of the response, that
    each of their tokens ends with; not descending.
    unread: tokens of the context that were cut before it was compared.
    texts: what units are described by.
    """

    input_ids: np.ndarray  # (T,)
    token_type_ids: np.ndarray  # (T,)
    prompt: Span
    context: Span
    response: Span
    context_keys: np.ndarray
    response_keys: np.ndarray
    doubled_bos: bool = False
    unread: int = 0
    texts: Texts | None = None


class TextEncoder:
    """Encodes samples for one model; any number of threads may share it.

    It works on a private copy of the tokenizer's backend, in which the truncation and padding that
    a tokenizer.json can carry are off.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, spec: TextSpec) -> None:
        """
        Raises:
            ValueError: a slow tokenizer; the chat template is asked for and there is none; or
                the tokenizer lays texts out in a way that is not understood.
        """
        if not tokenizer.is_fast:
            raise ValueError(
                f"{type(tokenizer).__name__} gives no offsets to match tokens to characters by; "
                "a fast tokenizer (tokenizer.json) is needed; convert it."
            )
        if spec.template == "chat" and not tokenizer.chat_template:
            raise ValueError(
                "text.template is 'chat' but the tokenizer has no chat template; known are pair, "
                "evidence, evidence-2, chat, plain; use 'plain', or give the tokenizer a template."
            )
        self.tokenizer = tokenizer
        self.spec = spec
        self._backend = private_backend(tokenizer)
        self._contexts = ContextReader(self._backend)
        self._layout = (
            Layout.bare()
            if spec.template == "chat"
            else Layout.of(tokenizer, self._backend, pair=spec.of_two_texts)
        )
        self._written = Written(tokenizer, self._backend, spec)

    @classmethod
    def from_directory(cls, directory: Path, spec: TextSpec) -> TextEncoder:
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(directory, local_files_only=True), spec)

    def encode(
        self,
        sample: Sample,
        granularities: Collection[Granularity],
        truncate: Truncate = Truncate.NEVER,
    ) -> list[EncodedResponse]:
        """One for each response, in their order.

        A response has one window; where its context is longer than the room left, as many as it
        takes to read the context in whole sentences, each with the whole prompt and response. Units
        that own no token are merged into the one before (the first: with the one after), so that
        units tile the response and all have tokens.

        truncate: PROMPT drops the oldest turns of a chat (never a system message at its start),
        then tokens from the start of the last turn; elsewhere tokens from the start of the prompt.

        Raises:
            InvalidRequest: see `validate`; or the tokenizer makes no token of a response.
            InputTooLong: more than max_windows windows are needed, or prompt and response leave too
                little room for context, and `truncate` does not permit to cut what is in the way.
        """
        if isinstance(sample, Transcript | TokenIds):
            sample = self._written.read(sample, granularities)
        else:
            validate(sample)
        attempts = self._attempts(sample, truncate)
        pieces = [Pieces(response) for response in sample.responses]
        rows = cache(lambda attempt: self._rows(attempts[attempt].sample(), pieces, truncate))
        sentences = cache(lambda: template.context_sentences(sample, self.spec.template))

        def planned(attempt: int, index: int) -> WindowPlan | TooLong:
            return self._plan(rows(attempt)[index], sentences, attempts[attempt].truncate)

        encoded = []
        for index, response in enumerate(pieces):
            whole = rows(0)[index]
            if not len(whole.response_keys):
                raise _without_token(index)
            attempt = _first_that_fits(len(attempts), partial(planned, index=index))
            outcome = planned(attempt, index)
            if isinstance(outcome, TooLong):
                raise refusal(index, outcome, self.spec.max_input_tokens, truncate)
            row = rows(attempt)[index]
            dropped = len(whole.input_ids) - len(row.input_ids)
            encoded.append(_encoded(row, response, granularities, outcome, dropped, self.spec))
        return encoded

    def _attempts(self, sample: Sample, truncate: Truncate) -> list[_Attempt]:
        """What may be sent in the place of `sample`, the whole sample first, the least last."""
        if truncate is Truncate.CONTEXT and sample.context:
            # Tokenised anew without context: the prompt's last token may have held the separator.
            bare = replace(sample, context=())
            return [_Attempt(lambda: sample, truncate), _Attempt(lambda: bare, Truncate.NEVER)]
        if truncate is Truncate.PROMPT and self.spec.template == "chat" and sample.messages:
            # The last turn is not cut while older ones are there to drop.
            tails = [partial(template.from_turn, sample, i) for i in template.turn_starts(sample)]
            return [_Attempt(tail, Truncate.NEVER) for tail in tails[:-1]] + [
                _Attempt(tails[-1], truncate)
            ]
        return [_Attempt(lambda: sample, truncate)]

    def _rows(self, sample: Sample, pieces: Sequence[Pieces], truncate: Truncate) -> list[_Row]:
        if self.spec.compares:
            return self._evidence_rows(sample, pieces, truncate)
        if isinstance(sample, Transcript | TokenIds):
            text, tokens, layout = self._written.parts(sample)
            return [self._row(text, tokens, layout=layout)]
        if self.spec.template == "pair":
            first = template.render_first(sample)
            tokens = tokenize(self._backend, first.text)
            return [
                self._row(first, tokens, tokenize(self._backend, response))
                for response in sample.responses
            ]
        if self.spec.template == "chat":
            texts = template.render_chat(sample, self.tokenizer)
        else:
            texts = template.render_plain(sample)
        return [self._row(text, tokenize(self._backend, text.text)) for text in texts]

    def _row(
        self,
        text: Rendered,
        tokens: Tokens,
        second: Tokens | None = None,
        layout: Layout | None = None,
    ) -> _Row:
        joined = (layout or self._layout).join(tokens, second)
        prompt, context = tokens.within(text.prompt), tokens.within(text.context)
        if second is None:
            response = tokens.overlapping(text.response)
            keys = tokens.keys[response.start : response.end] - text.response.start + text.stripped
            response = response.shifted(joined.first)
        else:
            response, keys = Span(0, len(second.ids)).shifted(joined.second), second.keys
        return _Row(
            joined.input_ids,
            joined.token_type_ids,
            prompt=prompt.shifted(joined.first),
            context=context.shifted(joined.first),
            response=response,
            context_keys=tokens.keys[context.start : context.end] - text.context.start,
            response_keys=keys,
            doubled_bos=text.doubled_bos,
        )

    def _evidence_rows(
        self, sample: Sample, pieces: Sequence[Pieces], truncate: Truncate
    ) -> list[_Row]:
        """Rows of response and prompt, typed by what the context says of the response.

        Raises:
            InputTooLong: more context than max_windows windows hold, unless it may be cut.
        """
        prompt_text, _ = template.render_evidence(sample)
        prompt = tokenize(self._backend, prompt_text)
        context = self._contexts.read(tuple(sample.context))
        limit = self.spec.max_windows * self.spec.max_input_tokens
        unread = max(len(context) - limit, 0)
        if unread and truncate is not Truncate.CONTEXT:
            raise InputTooLong(
                f"context is {len(context)} tokens; this model compares {limit} (max_windows * "
                'max_input_tokens). Send less context, or truncate="context" to drop its end.',
                field="context",
                got=len(context),
                limit=limit,
            )
        responses = [tokenize(self._backend, response) for response in sample.responses]
        sentences = [
            [tokens for _, tokens in tiles(response, encoded.keys, Granularity.SENTENCE)]
            for response, encoded in zip(pieces, responses, strict=True)
        ]
        types = evidence.token_types(
            context.until(limit),
            [tokens.ids for tokens in responses],
            sentences,
        )
        rows = []
        for tokens, kinds, ranges in zip(responses, types, sentences, strict=True):
            joined = self._layout.join(tokens, prompt)
            response = Span(0, len(tokens.ids)).shifted(joined.first)
            type_ids = np.zeros_like(joined.token_type_ids)
            type_ids[response.start : response.end] = kinds
            rows.append(
                _Row(
                    joined.input_ids,
                    type_ids,
                    prompt=Span(0, len(prompt.ids)).shifted(joined.second),
                    context=Span(response.end, response.end),
                    response=response,
                    context_keys=np.empty(0, np.int32),
                    response_keys=tokens.keys,
                    unread=unread,
                    texts=Texts(prompt, tokens, ranges) if self.spec.describes_units else None,
                )
            )
        return rows

    def _plan(
        self, row: _Row, sentences: Callable[[], list[int]], truncate: Truncate
    ) -> WindowPlan | TooLong:
        return plan_windows(
            fixed_tokens=len(row.input_ids) - len(row.context_keys),
            prompt_tokens=row.prompt.end - row.prompt.start,
            context_tokens=len(row.context_keys),
            sentence_starts=lambda: np.searchsorted(row.context_keys, sentences()).tolist(),
            max_input_tokens=self.spec.max_input_tokens,
            max_windows=self.spec.max_windows,
            truncate=truncate,
        )


class _Attempt(NamedTuple):
    sample: Callable[[], Sample]  # made when it is tried; there can be thousands
    truncate: Truncate


def _first_that_fits(attempts: int, planned: Callable[[int], WindowPlan | TooLong]) -> int:
    """The first attempt with a plan (the more is dropped, the better it fits), else the last."""
    if attempts == 1 or isinstance(planned(0), WindowPlan):
        return 0
    between = range(1, attempts - 1)
    return 1 + bisect_left(
        between, True, key=lambda attempt: isinstance(planned(attempt), WindowPlan)
    )


def _without_token(index: int) -> InvalidRequest:
    return InvalidRequest(
        f"responses[{index}] has no token for the tokenizer of this model; a reward needs at least "
        "1 to read; send readable text.",
        field=f"responses[{index}]",
        got=0,
        limit=1,
    )


def _encoded(
    row: _Row,
    response: Pieces,
    granularities: Collection[Granularity],
    planned: WindowPlan,
    dropped: int,
    spec: TextSpec,
) -> EncodedResponse:
    units, ranges = units_of(response, row.response_keys, granularities)
    features = None
    if row.texts is not None:
        features = unit_features(row.texts.without(planned.prompt_cut), units, ranges)
    windows = tuple(
        _window(row, planned.prompt_cut, part, ranges, features, spec) for part in planned.slices
    )
    unread = row.unread + len(row.context_keys) - planned.slices[-1][1]
    return EncodedResponse(
        windows=windows,
        units=units,
        response_ids=row.input_ids[row.response.start : row.response.end],
        tokens=sum(len(window.input_ids) for window in windows),
        truncated_tokens=dropped + planned.prompt_cut + unread,
        doubled_bos=row.doubled_bos,
    )


def _window(
    row: _Row,
    prompt_cut: int,
    part: tuple[int, int],
    ranges: np.ndarray,
    features: np.ndarray | None,
    spec: TextSpec,
) -> Window:
    """The row with one part of its context; `ranges` (N, 2) count tokens of the response."""
    cuts = (
        (row.prompt.start, row.prompt.start + prompt_cut),
        (row.context.start, row.context.start + part[0]),
        (row.context.start + part[1], row.context.end),
    )
    removed = sorted((start, end) for start, end in cuts if start < end)
    input_ids = _without(row.input_ids, removed)
    before = [(start, end) for start, end in removed if end <= row.response.start]
    response_start = row.response.start - sum(end - start for start, end in before)
    spans = ranges + response_start
    if spec.unit_pooling == "last":
        spans[1:, 0] = spans[1:, 1] - 1
    if spec.response_pooling == "first":
        spans[0] = 0, 1
    elif spec.response_pooling == "last":
        spans[0] = len(input_ids) - 1, len(input_ids)
    types = _without(row.token_type_ids, removed)
    return Window(input_ids, types, spans, response_start, features)


def _without(array: np.ndarray, removed: Sequence[tuple[int, int]]) -> np.ndarray:
    """`array` without the ranges `removed`, which are ascending and disjoint."""
    if not removed:
        return array
    edges = np.array([0, *chain.from_iterable(removed), len(array)])
    return np.concatenate([array[start:end] for start, end in edges.reshape(-1, 2)])
