"""Samples that come written out: a conversation as one string, or as the token ids of one.

Clients of other systems apply a chat template themselves and send what comes out. A decoder reads
that verbatim. A model that reads pairs has a layout of its own: for it the markup of templates is
taken off, and prompt and response are told apart again.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from tokenizers import Tokenizer

from tureen.contracts import Granularity, Sample
from tureen.errors import InvalidRequest
from tureen.text.layout import Layout, Tokens, tokenize
from tureen.text.segments import Span
from tureen.text.template import Rendered, TextSpec
from tureen.text.validation import validate, validate_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SpecialTokens = Literal["none", "bos", "all"]
"""What the tokenizer adds around a transcript: nothing, the beginning of sequence, its whole frame.
Never what the text opens or ends with itself."""

Split = Literal["given", "found", "whole"]
"""How prompt and response of one string were told apart; `whole`: not at all, it is all response."""

_OF_ROLE: Final = (
    r"<\|im_start\|>{role}\n|<\|start_header_id\|>{role}<\|end_header_id\|>\n\n|"
    r"<\|start_of_role\|>{role}<\|end_of_role\|>|<start_of_turn>{role}\n|"
    r"<\|{role}\|>\n?|<\uff5c{role}\uff5c>"
)
_HEADER: Final = re.compile(_OF_ROLE.format(role="[A-Za-z]{1,20}") + r"|\[INST\] ?| ?\[/INST\] ?")
_ASSISTANT: Final = re.compile(_OF_ROLE.format(role="(?:[Aa]ssistant|model)") + r"|\[/INST\] ?")
_ASSISTANT_LINE: Final = re.compile(r"^(?:assistant|Assistant|ASSISTANT): ?", re.MULTILINE)
_USER_LINE: Final = re.compile(r"(?:user|User|USER|human|Human): ?")
_MARK: Final = r"(?:<\|[A-Za-z_]{1,30}\|>|<\uff5c[A-Za-z▁_]{1,30}\uff5c>|</?s>|<[be]os>|<pad>|<end_of_turn>|\[/?INST\])"
_MARKUP: Final = re.compile(rf"{_MARK}\n?")
_ENDING: Final = re.compile(rf"(?:{_MARK}\s*)+\Z")
_ENDING_CHARACTERS: Final = 1024  # at most; looked for in so many only, so that it takes no time
_OPENING_CHARACTERS: Final = 64  # a beginning of sequence may stand before a prompt
_TAIL_CHARACTERS: Final = 32  # of a prompt, that are looked for in a text cut from the left
_TRIES: Final = 64


@dataclass(frozen=True, kw_only=True)
class Transcript(Sample):
    """One string: prompt + responses[0], with whatever special tokens it was written with.

    prompt: what comes before the response, "" where that is not known.
    """

    special_tokens: SpecialTokens


@dataclass(frozen=True, kw_only=True)
class TokenIds(Sample):
    """One row as ids of the model's own tokenizer. responses is ("",): there is no text."""

    ids: tuple[int, ...]


class Written:
    """Reads written-out samples for one model; like its encoder, for any number of threads."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, backend: Tokenizer, spec: TextSpec
    ) -> None:
        self._tokenizer = tokenizer
        self._backend = backend
        self._spec = spec
        self._bos = tokenizer.bos_token_id
        self._frame = cache(self._make_frame)

    def read(self, sample: Transcript | TokenIds, granularities: Collection[Granularity]) -> Sample:
        """The sample as this model takes it.

        Raises:
            InvalidRequest: it cannot be scored by this model.
        """
        if isinstance(sample, TokenIds):
            self._check_ids(sample.ids, granularities)
            return sample
        validate_texts(sample)
        if not self._spec.of_two_texts:
            return sample
        prompt = _bare_prompt(sample.prompt or "")
        response = without_ending(sample.responses[0])
        if prompt:
            pair = Sample(prompt=prompt, responses=(response,))
            validate(pair)
            return pair
        bare = Transcript(prompt="", responses=(response,), special_tokens="all")
        validate_texts(bare)
        return bare

    def _check_ids(self, ids: tuple[int, ...], granularities: Collection[Granularity]) -> None:
        if self._spec.of_two_texts or self._spec.response_pooling == "mean":
            raise InvalidRequest(
                "token ids were sent; this model reads prompt and response apart, which ids do not "
                "tell; send text."
            )
        finer = sorted(one for one in granularities if one is not Granularity.RESPONSE)
        if finer:
            raise InvalidRequest(
                f"token ids were sent; heads of this model speak per {', '.join(finer)}, which only "
                "text has; send text."
            )
        if not ids:
            raise InvalidRequest("there is no token id; a reward needs at least 1; send some.")
        known = len(self._tokenizer)
        wrong = next((one for one in ids if not 0 <= one < known), None)
        if wrong is not None:
            raise InvalidRequest(
                f"token id {wrong} was sent; ids are those of this model's tokenizer, 0 to "
                f"{known - 1}; send those, or text.",
                got=wrong,
                limit=known - 1,
            )

    def parts(self, sample: Transcript | TokenIds) -> tuple[Rendered, Tokens, Layout]:
        """The text and where its parts stand, its tokens, and what goes around them.

        A doubled beginning of sequence is single afterwards. The opening token is not the prompt's
        to lose, and special tokens that end the response are no part of it.
        """
        if isinstance(sample, TokenIds):
            places = np.arange(len(sample.ids), dtype=np.int32)
            tokens, doubled = self._single_bos(
                Tokens(np.array(sample.ids, np.int32), places, places)
            )
            text = Rendered(
                "",
                prompt=Span(0, 0),
                context=Span(0, 0),
                response=Span(0, len(places)),
                doubled_bos=doubled,
            )
            return text, tokens, Layout.bare()
        prompt, response = sample.prompt or "", sample.responses[0]
        tokens, doubled = self._single_bos(tokenize(self._backend, prompt + response))
        opens = tokens.ids[:1].tolist() == [self._bos]
        start = min(int(tokens.keys[0]) + 1, len(prompt)) if opens else 0
        at = len(prompt)
        text = Rendered(
            prompt + response,
            prompt=Span(start, at),
            context=Span(at, at),
            response=Span(at, at + (_ending(response) or len(response))),
            doubled_bos=doubled,
        )
        return text, tokens, self._frame(sample.special_tokens).around(tokens)

    def _make_frame(self, special_tokens: SpecialTokens) -> Layout:
        if special_tokens == "none":
            return Layout.bare()
        whole = Layout.of(self._tokenizer, self._backend, pair=False)
        return whole if special_tokens == "all" else whole.opening()

    def _single_bos(self, tokens: Tokens) -> tuple[Tokens, bool]:
        extra = 0
        while extra + 1 < len(tokens.ids) and tokens.ids[extra + 1] == tokens.ids[0] == self._bos:
            extra += 1
        left = Tokens(tokens.ids[extra:], tokens.starts[extra:], tokens.keys[extra:])
        return left, extra > 0


def split(text: str, prompt: str | None = None) -> tuple[str, str, Split]:
    """Prompt and response of a conversation in one string; together they are `text`.

    prompt: what the client says it is. The text holds it at its start, perhaps after a beginning
    of sequence, or only the end of it where it was cut from the left. Else the response is what
    follows the last header of an assistant's turn; without one there is no prompt.
    """
    at, how = _after_prompt(text, prompt) if prompt else None, "given"
    if at is None or not text[at:].strip():
        at, how = _after_header(text), "found"
    if at is None or not text[at:].strip():
        return "", text, "whole"
    return text[:at], text[at:], how


def _after_prompt(text: str, prompt: str) -> int | None:
    found = text.find(prompt, 0, len(prompt) + _OPENING_CHARACTERS)
    if found >= 0:
        return found + len(prompt)
    tail = prompt[-_TAIL_CHARACTERS:]
    cut = len(text) - len(text.lstrip("\ufffd"))  # a character of which the cut left a part
    end = min(len(text), cut + len(prompt))
    for _ in range(_TRIES):
        found = text.rfind(tail, cut, end)
        if found < 0:
            return None
        end = found + len(tail)
        if prompt.endswith(text[cut:end]):
            return end
        end -= 1
    return None


def _after_header(text: str) -> int | None:
    for header in (_ASSISTANT, _ASSISTANT_LINE):
        ends = [match.end() for match in header.finditer(text)]
        if ends:
            return ends[-1]
    return None


def _bare_prompt(prompt: str) -> str:
    """Without the markup of a template; unchanged where there is none."""
    bare = _MARKUP.sub("\n", _HEADER.sub("", prompt))
    body, newline, last = bare.rstrip().rpartition("\n")
    if newline and _ASSISTANT_LINE.fullmatch(last):
        bare = body
        if opening := _USER_LINE.match(bare.lstrip()):
            bare = bare.lstrip()[opening.end() :]
    return prompt if bare == prompt else bare.strip()


def without_ending(response: str) -> str:
    """Without the special tokens that end it."""
    return response[: _ending(response)]


def _ending(response: str) -> int:
    """Where the special tokens begin that end a response."""
    start = max(0, len(response) - _ENDING_CHARACTERS)
    found = _ENDING.search(response[start:])
    return len(response) if found is None else start + found.start()
