"""From samples to what a device is given of them: by the engine, or by a front end before it asks.

Nothing here depends on the weights, so what was tokenised for one soup of a model holds for all of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import traceback
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from tureen.contracts import Redistribution, Sample, ScoreOptions, Truncate
from tureen.engine.begin_tokens import BeginTokens
from tureen.engine.plan import Plan, make_plan
from tureen.engine.reward_watch import repetition
from tureen.errors import BackendFailure, TureenError
from tureen.model.manifest import HeadSpec
from tureen.model.redistribution import ablated_windows
from tureen.text.encoding import EncodedResponse, TextEncoder, Window
from tureen.text.template import TextSpec
from tureen.text.written import TokenIds

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

_CHUNK_RESPONSES = 16  # are tokenised at a time, so that a big request feeds the device early


class _Size(NamedTuple):
    responses: int
    length: int  # of `_length`


_SHORT = _Size(4, 1024)
"""Of a request that is tokenised in place: to hand it to a thread would take longer than that."""
_SHORT_ALONE = _Size(8, 16384)
"""The same where no other request is under way, that would have to wait for those milliseconds."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenizedSample:
    """
    windows: for each response, all that is run: its own windows, then those of each part taken out.
    digests: of each of them. repetition: of each response.
    doubled_bos, missing_bos: responses that begin with the begin token twice, or came so, and those
        without it.
    """

    responses: list[EncodedResponse]
    windows: list[list[Window]]
    digests: list[list[bytes]]
    repetition: list[float]
    doubled_bos: int
    missing_bos: int


Tokenized = tuple[list[TokenizedSample | TureenError], int]
"""One for each sample, with an error in the place of one that cannot be scored; nanoseconds it took."""


@dataclass(frozen=True, slots=True)
class SampleTokenizer:
    """Of one model. For any number of threads; can be sent to another process."""

    encoder: TextEncoder
    heads: tuple[HeadSpec, ...]
    redistribution: Redistribution | None
    begin_tokens: BeginTokens

    @classmethod
    def of(
        cls,
        encoder: TextEncoder,
        heads: tuple[HeadSpec, ...],
        redistribution: Redistribution | None,
    ) -> SampleTokenizer:
        return cls(encoder, heads, redistribution, BeginTokens.of(encoder.tokenizer))

    def __reduce__(self) -> tuple[object, ...]:
        """Of the encoder only what it is made of: what it remembers stays here."""
        parts = self.encoder.tokenizer, self.encoder.spec, self.heads, self.redistribution
        return _remade, parts

    def plan(self, options: ScoreOptions) -> Plan:
        """Of a request; raises as `make_plan` does."""
        return make_plan(options, self.heads, self.redistribution)

    async def in_chunks(
        self,
        samples: Sequence[Sample],
        plan: Plan,
        truncate: Truncate,
        threads: ThreadPoolExecutor,
        *,
        alone: bool,
    ) -> AsyncIterator[Tokenized]:
        """alone: no other request is under way in this event loop."""
        loop = asyncio.get_running_loop()
        short = _is_within(_SHORT_ALONE if alone else _SHORT, samples)
        for chunk in _chunks(samples):
            yield (
                self.tokenize(chunk, plan, truncate)
                if short
                else await loop.run_in_executor(threads, self.tokenize, chunk, plan, truncate)
            )

    def tokenize(self, samples: Sequence[Sample], plan: Plan, truncate: Truncate) -> Tokenized:
        started_ns = time.monotonic_ns()
        found: list[TokenizedSample | TureenError] = []
        for sample in samples:
            try:
                found.append(self._tokenized(sample, plan, truncate))
            except TureenError as error:
                found.append(error)
            except Exception as error:  # one sample's trouble must not become its neighbours'
                # Only where and what: the exception's own words may quote the sample.
                place = traceback.extract_tb(error.__traceback__)[-1]
                log.error(
                    "a sample could not be encoded: %s at %s:%d",
                    type(error).__name__,
                    place.filename,
                    place.lineno or 0,
                )
                found.append(
                    BackendFailure(
                        f"the sample could not be turned into tokens ({type(error).__name__}); "
                        "nothing of it was scored: report it."
                    )
                )
        return found, time.monotonic_ns() - started_ns

    def _tokenized(self, sample: Sample, plan: Plan, truncate: Truncate) -> TokenizedSample:
        responses = self.encoder.encode(sample, plan.granularities, truncate)
        windows = [_windows(one, plan) for one in responses]
        return TokenizedSample(
            responses,
            windows,
            [[digest_of(window) for window in some] for some in windows],
            [repetition(one.response_ids) for one in responses],
            *self.begin_tokens.count(responses),
        )


def _remade(
    tokenizer: PreTrainedTokenizerBase,
    spec: TextSpec,
    heads: tuple[HeadSpec, ...],
    redistribution: Redistribution | None,
) -> SampleTokenizer:
    return SampleTokenizer.of(TextEncoder(tokenizer, spec), heads, redistribution)


def _windows(response: EncodedResponse, plan: Plan) -> list[Window]:
    windows = list(response.windows)
    if plan.redistribution is Redistribution.ABLATION:
        windows += chain.from_iterable(ablated_windows(response))
    return windows


def digest_of(window: Window) -> bytes:
    """Of all that the device is given of a window."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(len(window.input_ids).to_bytes(4, "little"))  # where one array ends
    digest.update(window.input_ids.tobytes())
    digest.update(window.token_type_ids.tobytes())
    digest.update(window.spans.tobytes())
    if window.unit_features is not None:  # the same tokens can be of other sentences and characters
        digest.update(window.unit_features.tobytes())
    return digest.digest()


def _is_within(most: _Size, samples: Sequence[Sample]) -> bool:
    if sum(max(1, len(one.responses)) for one in samples) > most.responses:
        return False
    return sum(map(_length, samples)) <= most.length


def _length(sample: Sample) -> int:
    """In characters, token ids and the caller's token spans; whatever is empty counts as one."""
    pieces: Iterable[Sized] = (
        sample.prompt or "",
        *(message.content for message in sample.messages or ()),
        *sample.context,
        *sample.responses,
        *(spans or () for spans in sample.offsets or ()),
        *((sample.ids,) if isinstance(sample, TokenIds) else ()),
    )
    return sum(max(1, len(piece)) for piece in pieces)


def _chunks(samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    """Runs of samples with about `_CHUNK_RESPONSES` responses, at least one sample each."""
    start = responses = 0
    for end, sample in enumerate(samples, start=1):
        responses += len(sample.responses)
        if responses >= _CHUNK_RESPONSES or end == len(samples):
            yield samples[start:end]
            start, responses = end, 0
