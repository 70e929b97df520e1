"""From a sample to token ids, windows and units.

A text is tokenised once, as a whole; windows are slices of its tokens. So the response has the same tokens in
every window, and a row whose context fits is exactly what transformers makes of the two texts.
Characters and tokens are matched by the tokenizer's offsets: a token belongs to the text where its last
character stands, since byte-level tokens carry the space before a word.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from tureen.contracts import Granularity, Sample, Truncate
from tureen.errors import InputTooLong, InvalidRequest
from tureen.text import template
from tureen.text.layout import Layout, Tokens, private_backend, tokenize
from tureen.text.segments import Span, segment
from tureen.text.template import Rendered, TextSpec
from tureen.text.validation import validate
from tureen.text.windows import Plan, TooLong, plan

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Unit(NamedTuple):
    """A piece of the response that heads of one granularity speak about; characters."""

    granularity: Granularity
    start: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """One row for the model: prompt, a part of the context, and the whole response.

    input_ids, token_type_ids: (T,) int32; type ids are zeros where the model has none.
    spans: (N, 2) int32, half-open token ranges, one a unit, never empty; the model pools their mean.
    """

    input_ids: np.ndarray
    token_type_ids: np.ndarray
    spans: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class EncodedResponse:
    """units: aligned with the spans of every window; the RESPONSE unit is the first.

    tokens: of all windows, special tokens included. truncated_tokens: of prompt and context, dropped
    on request.
    """

    windows: tuple[Window, ...]
    units: tuple[Unit, ...]
    tokens: int
    truncated_tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """A response with its prompt and all of its context, before windows are cut from it.

    prompt, context, response: token ranges of it, the response last. context_keys: (C,) characters of
    the context. response_keys: (R,) characters of the response, not descending.
    """

    input_ids: np.ndarray  # (T,)
    token_type_ids: np.ndarray  # (T,)
    prompt: Span
    context: Span
    response: Span
    context_keys: np.ndarray
    response_keys: np.ndarray


_FINER: Final = (Granularity.SENTENCE, Granularity.SUB_SENTENCE)


class TextEncoder:
    """Encodes samples for one model. Stateless after construction, so any number of threads may share it.

    It works on a private copy of the tokenizer's backend: truncation and padding that a tokenizer.json
    sets are off here and stay as they are there.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, spec: TextSpec) -> None:
        """
        Raises:
            ValueError: a slow tokenizer, or the chat template is asked for and there is none.
        """
        if not tokenizer.is_fast:
            raise ValueError(
                f"{type(tokenizer).__name__} gives no offsets; a tokenizer.json (fast tokenizer) is "
                "needed to map tokens to characters; convert it."
            )
        if spec.template == "chat" and not tokenizer.chat_template:
            raise ValueError(
                "text.template is 'chat' but the tokenizer has no chat template; known are pair, chat, "
                "plain; use 'plain', or add the template to the tokenizer."
            )
        self.tokenizer = tokenizer
        self.spec = spec
        self._backend = private_backend(tokenizer)
        self._layout = (
            Layout.bare()
            if spec.template == "chat"
            else Layout.of(tokenizer, self._backend, pair=spec.template == "pair")
        )

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

        A response has one window, or, where its context is longer than the room left, as many as whole
        sentences of it need. Units that own no token are merged into the one before (the first: into
        the one after), so units tile the response and have tokens.

        Raises:
            InvalidRequest: see `validate`; or a response without any token for this model.
            InputTooLong: more than max_windows windows, or no room for the context beside prompt and
                response, and `truncate` does not permit to cut what is in the way.
        """
        validate(sample)
        rows = self._rows(sample, with_context=True)
        # Without context the prompt is tokenised again: its last token may have held the separator.
        bare_rows = cache(lambda: self._rows(sample, with_context=False))
        starts = cache(lambda: template.context_sentences(sample, self.spec.template))
        encoded = []
        for index, (row, response) in enumerate(zip(rows, sample.responses, strict=True)):
            if not len(row.response_keys):
                raise InvalidRequest(
                    f"responses[{index}] has no token for this model's tokenizer; it needs at least 1; "
                    "send readable text.",
                    field=f"responses[{index}]",
                    got=0,
                    limit=1,
                )
            planned, dropped = self._plan(row, starts, truncate), 0
            if planned is None:
                dropped = len(row.context_keys)
                row = bare_rows()[index]
                planned = self._plan(row, starts, truncate)
            if not isinstance(planned, Plan):
                raise self._too_long(index, planned, truncate)
            encoded.append(self._encoded(row, response, granularities, planned, dropped))
        return encoded

    def _rows(self, sample: Sample, *, with_context: bool) -> list[_Row]:
        if self.spec.template == "pair":
            first = template.render_first(sample, with_context=with_context)
            tokens = tokenize(self._backend, first.text)
            return [
                self._row(first, tokens, tokenize(self._backend, response))
                for response in sample.responses
            ]
        if self.spec.template == "chat":
            texts = template.render_chat(sample, self.tokenizer, with_context=with_context)
        else:
            texts = template.render_plain(sample, with_context=with_context)
        return [self._row(text, tokenize(self._backend, text.text)) for text in texts]

    def _row(self, text: Rendered, tokens: Tokens, second: Tokens | None = None) -> _Row:
        row = self._layout.join(tokens, second)
        prompt, context = tokens.within(text.prompt), tokens.within(text.context)
        context_keys = tokens.keys[context.start : context.end] - text.context.start
        if second is None:
            response = tokens.overlapping(text.response)
            response_keys = tokens.keys[response.start : response.end] - text.response.start
            response = response.shifted(row.first)
        else:
            response = Span(row.second, row.second + len(second.ids))
            response_keys = second.keys
        return _Row(
            row.input_ids,
            row.token_type_ids,
            prompt=prompt.shifted(row.first),
            context=context.shifted(row.first),
            response=response,
            context_keys=context_keys,
            response_keys=response_keys + text.stripped,
        )

    def _plan(
        self, row: _Row, starts: Callable[[], list[int]], truncate: Truncate
    ) -> Plan | TooLong | None:
        context_tokens = len(row.context_keys)
        return plan(
            fixed_tokens=len(row.input_ids) - context_tokens,
            prompt_tokens=row.prompt.end - row.prompt.start,
            context_tokens=context_tokens,
            sentence_starts=lambda: np.searchsorted(row.context_keys, starts()).tolist(),
            max_input_tokens=self.spec.max_input_tokens,
            max_windows=self.spec.max_windows,
            truncate=truncate,
        )

    def _encoded(
        self,
        row: _Row,
        response: str,
        granularities: Collection[Granularity],
        planned: Plan,
        dropped: int,
    ) -> EncodedResponse:
        units, ranges = _units(response, row.response_keys, granularities)
        windows = tuple(
            self._window(row, planned.prompt_cut, part, units, ranges) for part in planned.slices
        )
        return EncodedResponse(
            windows=windows,
            units=units,
            tokens=sum(len(window.input_ids) for window in windows),
            truncated_tokens=dropped
            + planned.prompt_cut
            + len(row.context_keys)
            - planned.slices[-1][1],
        )

    def _window(
        self,
        row: _Row,
        prompt_cut: int,
        part: tuple[int, int],
        units: Sequence[Unit],
        ranges: np.ndarray,
    ) -> Window:
        context = row.context
        removed = sorted(
            [
                (row.prompt.start, row.prompt.start + prompt_cut),
                (context.start, context.start + part[0]),
                (context.start + part[1], context.end),
            ]
        )
        input_ids = _without(row.input_ids, removed)
        response_start = row.response.start - sum(end - start for start, end in removed)
        spans = ranges + response_start
        if self.spec.unit_pooling == "last":
            spans[:, 0] = spans[:, 1] - 1
        spans[0] = {
            "first": (0, 1),
            "mean": ranges[0] + response_start,
            "last": (len(input_ids) - 1, len(input_ids)),
        }[self.spec.response_pooling]
        return Window(input_ids, _without(row.token_type_ids, removed), spans)

    def _too_long(self, index: int, why: TooLong | None, truncate: Truncate) -> InputTooLong:
        assert why is not None  # a row without context is planned or too long
        limit = self.spec.max_input_tokens
        if why.over_windows:
            return InputTooLong(
                f"responses[{index}] needs {why.needed} windows of {limit} tokens (max_input_tokens) to "
                f"read its context; this model takes {why.allowed} (max_windows). Send fewer or shorter "
                'passages, or send truncate="context" to drop the end of the context.',
                field="context",
                got=why.needed,
                limit=why.allowed,
            )
        remedy = (
            "" if truncate is Truncate.PROMPT else ', or send truncate="prompt" to keep its end'
        )
        return InputTooLong(
            f"responses[{index}] is {why.needed} tokens with its prompt, special tokens and the least "
            f"room for context; this model takes {why.allowed} (max_input_tokens). The response is "
            f"never cut: shorten it, or shorten the prompt{remedy}.",
            field=f"responses[{index}]",
            got=why.needed,
            limit=why.allowed,
        )


def _units(
    response: str, keys: np.ndarray, granularities: Collection[Granularity]
) -> tuple[tuple[Unit, ...], np.ndarray]:
    """The units of a response that own tokens, and the tokens (of the response) that they own.

    Args:
        keys: (R,) character of each token, not descending; may lie outside of the response where a
            token reaches over its edge.
    Returns:
        N units and their token ranges (N, 2) int32; the ranges of one granularity tile the R tokens.
    """
    tokens = len(keys)
    units = [Unit(Granularity.RESPONSE, 0, len(response))]
    ranges = [(0, tokens)]
    for granularity in (g for g in _FINER if g in granularities):
        starts = [span.start for span in segment(response, granularity)]
        first_tokens = np.searchsorted(keys, starts[1:]).tolist()
        char_edges, token_edges = [0], [0]
        for char, token in zip(starts[1:], first_tokens, strict=True):
            if token_edges[-1] < token < tokens:
                char_edges.append(char)
                token_edges.append(token)
        char_edges.append(len(response))
        token_edges.append(tokens)
        for i in range(len(char_edges) - 1):
            units.append(Unit(granularity, char_edges[i], char_edges[i + 1]))
            ranges.append((token_edges[i], token_edges[i + 1]))
    return tuple(units), np.array(ranges, dtype=np.int32)


def _without(array: np.ndarray, removed: Sequence[tuple[int, int]]) -> np.ndarray:
    """`array` without the ranges `removed`, which are ascending and disjoint."""
    kept, position = [], 0
    for start, end in removed:
        kept.append(array[position:start])
        position = end
    kept.append(array[position:])
    return np.concatenate(kept)
