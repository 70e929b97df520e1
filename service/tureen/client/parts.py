"""A request taken apart into calls a server accepts, and the answers put together in order."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from tureen.client import codec
from tureen.contracts import ErrorInfo, Sample, SampleResult, Score, ScoreResponse, Timings
from tureen.errors import BackendFailure, InvalidRequest, PayloadTooLarge, TureenError

_BYTES_PER_CHARACTER = 6  # of JSON, at most: an escaped control character
_BYTES_PER_ITEM = 64  # of punctuation, names and numbers around a text or a span, generously
_ENVELOPE_BYTES = 4096  # of a request without its samples, generously


class Piece(NamedTuple):
    """A sample, or as many of its responses as one call may carry.

    number: among the pieces of the request. size_bytes: of its JSON, or an upper bound when that
    is enough.
    """

    number: int
    sample_index: int
    first_response: int
    sample: Sample
    size_bytes: int


class Provenance(NamedTuple):
    model: str
    fingerprint: str
    soup: str


def split(samples: Sequence[Sample], max_responses: int | None, max_bytes: int) -> list[Piece]:
    """Pieces of at most `max_responses` responses and `max_bytes` bytes, in order.

    One response too large by itself stays a piece of its own: the server says what is wrong with
    it.
    """
    bounds = [_size_bound(sample) for sample in samples]
    room = max_bytes - _ENVELOPE_BYTES
    measure = sum(bounds) > room  # else no piece can be too large
    pieces: list[Piece] = []
    for sample_index, sample in enumerate(samples):
        for first, part, size in _slices(sample, max_responses, room, measure):
            size = size if measure else bounds[sample_index]
            pieces.append(Piece(len(pieces), sample_index, first, part, size))
    return pieces


def pack(
    pieces: Sequence[Piece], max_responses: int | None, max_bytes: int, alone: Collection[int] = ()
) -> list[list[Piece]]:
    """Consecutive pieces together while they fit into one call; those in `alone` by themselves."""
    parts: list[list[Piece]] = []
    responses = size = 0
    shut = True
    for piece in pieces:
        more, more_bytes = len(piece.sample.responses), piece.size_bytes
        too_many = max_responses is not None and responses + more > max_responses
        too_large = _ENVELOPE_BYTES + size + more_bytes > max_bytes
        if shut or too_many or too_large or piece.number in alone:
            parts.append([])
            responses = size = 0
        parts[-1].append(piece)
        responses, size, shut = responses + more, size + more_bytes, piece.number in alone
    return parts


def _size_bound(sample: Sample) -> int:
    texts = [sample.prompt or "", *sample.context, *sample.responses, sample.id or ""]
    for message in sample.messages or ():
        texts += message.role, message.content
    spans = sum(len(spans or ()) for spans in sample.offsets or ())
    return _BYTES_PER_CHARACTER * sum(map(len, texts)) + _BYTES_PER_ITEM * (len(texts) + spans + 1)


def _slices(
    sample: Sample, max_responses: int | None, room: int, measure: bool
) -> Iterator[tuple[int, Sample, int]]:
    """(first response, sample of a run of responses, its bytes or 0 when not measured)."""
    count = len(sample.responses)
    most = max(1, count if max_responses is None else max_responses)
    costs = [0] * count
    base = 0
    if measure:
        base = len(codec.write(replace(sample, responses=(), offsets=None)))
        offsets = sample.offsets or (None,) * count
        costs = [
            len(codec.write([response, spans]))
            for response, spans in zip(sample.responses, offsets, strict=False)
        ]
        costs += [0] * (count - len(costs))  # offsets of the wrong length: the server will say so
    first, size = 0, base
    for end, cost in enumerate(costs):
        if end > first and (end - first == most or (measure and size + cost > room)):
            yield first, _part(sample, first, end), size
            first, size = end, base
        size += cost
    yield first, _part(sample, first, count), size


def _part(sample: Sample, first: int, end: int) -> Sample:
    if (first, end) == (0, len(sample.responses)):
        return sample
    offsets = None if sample.offsets is None else sample.offsets[first:end]
    return replace(sample, responses=sample.responses[first:end], offsets=offsets)


@dataclass(frozen=True, slots=True)
class _Answer:
    result: SampleResult
    provenance: Provenance | None = None  # None: the call itself failed


class Ledger:
    """What is known of each piece of a request, round after round."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = pieces
        self.alone: set[int] = set()
        self._answers: dict[int, _Answer] = {}
        self._refused_together: set[int] = set()
        self._current: Provenance | None = None
        self._timings: list[Timings] = []
        self._settled = 0

    def open(self) -> list[Piece]:
        """The pieces to ask, or to ask again.

        Those are unanswered, failed for a passing reason, refused in company (a call names only the
        first error), or scored by weights that have been replaced meanwhile.
        """
        return [piece for piece in self.pieces if self._is_open(piece.number)]

    def _is_open(self, number: int) -> bool:
        answer = self._answers.get(number)
        if answer is None:
            return True
        error = answer.result.error
        if error is None:
            return answer.provenance != self._current
        if number in self._refused_together:
            return self._current is not None or error.code == PayloadTooLarge.code
        return error.retryable

    def passing(self) -> list[ErrorInfo]:
        """The errors of the open pieces that time may heal."""
        return [error for error in self.failures() if error.retryable]

    def failures(self) -> list[ErrorInfo]:
        return [a.result.error for a in self._answers.values() if a.result.error is not None]

    def provenances(self) -> set[Provenance]:
        """Of all scores: more than one while a swap of soups is in between."""
        return {
            answer.provenance
            for answer in self._answers.values()
            if answer.provenance is not None and answer.result.error is None
        }

    def take(
        self, parts: Sequence[Sequence[Piece]], outcomes: Sequence[ScoreResponse | TureenError]
    ) -> bool:
        """Enters one outcome a part; True when more pieces are settled than ever before."""
        for part, outcome in zip(parts, outcomes, strict=True):
            if not isinstance(outcome, TureenError):
                outcome = _misfit(part, outcome) or outcome
            if isinstance(outcome, TureenError):
                self._take_failure(part, outcome)
            else:
                self._take_answer(part, outcome)
        settled = len(self.pieces) - len(self.open())
        self._settled, before = max(settled, self._settled), self._settled
        return settled > before

    def _take_failure(self, part: Sequence[Piece], failure: TureenError) -> None:
        info = _relocated(failure.info(), part)
        together = len(part) > 1 and isinstance(failure, InvalidRequest | PayloadTooLarge)
        for piece in part:
            self._answers[piece.number] = _Answer(SampleResult(error=info))
            if together:
                self._refused_together.add(piece.number)
                self.alone.add(piece.number)
            else:
                self._refused_together.discard(piece.number)

    def _take_answer(self, part: Sequence[Piece], response: ScoreResponse) -> None:
        provenance = Provenance(response.model, response.fingerprint, response.soup)
        self._timings.append(response.timings)
        for piece, result in zip(part, response.results, strict=True):
            self._refused_together.discard(piece.number)
            if result.error is None:
                self._current = provenance
            else:
                result = replace(result, error=_relocated(result.error, [piece]))
            self._answers[piece.number] = _Answer(result, provenance)

    def merged(self, samples: Sequence[Sample]) -> ScoreResponse:
        """One answer for all samples. A sample fails with the first error among its pieces.

        Timings: work (tokenising, forward) adds up; waiting and the total are the longest of any
        call, since calls run side by side.
        """
        scores: list[list[Score]] = [[] for _ in samples]
        errors: list[ErrorInfo | None] = [None] * len(samples)
        for piece in self.pieces:
            result = self._answers[piece.number].result
            scores[piece.sample_index] += result.scores or ()
            if errors[piece.sample_index] is None:
                errors[piece.sample_index] = result.error
        model, fingerprint, soup = self._current or Provenance("", "", "")
        timings = self._timings or [Timings()]
        return ScoreResponse(
            model=model,
            fingerprint=fingerprint,
            soup=soup,
            results=tuple(
                SampleResult(
                    id=sample.id, error=error, scores=tuple(own) if error is None else None
                )
                for sample, error, own in zip(samples, errors, scores, strict=True)
            ),
            timings=Timings(
                tokenize_ns=sum(t.tokenize_ns for t in timings),
                queue_ns=max(t.queue_ns for t in timings),
                forward_ns=sum(t.forward_ns for t in timings),
                total_ns=max(t.total_ns for t in timings),
            ),
        )


def _misfit(part: Sequence[Piece], response: ScoreResponse) -> TureenError | None:
    """An answer that does not match its question is no answer."""
    if len(response.results) != len(part):
        return BackendFailure(
            f"{len(part)} samples were answered by {len(response.results)} results."
        )
    for position, (piece, result) in enumerate(zip(part, response.results, strict=True)):
        if result.error is not None:
            continue
        scores = result.scores or ()
        if len(scores) != len(piece.sample.responses):
            return BackendFailure(
                f"{len(piece.sample.responses)} responses were answered by {len(scores)} scores.",
                field=f"samples[{position}].responses",
            )
        if not all(math.isfinite(score.reward) for score in scores):
            return BackendFailure(
                "The server answered a reward that is not finite.", field=f"samples[{position}]"
            )
    return None


def _relocated(error: ErrorInfo, part: Sequence[Piece]) -> ErrorInfo:
    """The error with the places of its field as the caller counts them, not as the part does."""
    if error.field is None:
        return error
    field, message = error.field, error.message
    position = 0
    if named := re.match(r"samples\[(\d+)\]", field):
        position = min(int(named[1]), len(part) - 1)
        field = f"samples[{part[position].sample_index}]{field[named.end() :]}"
    if found := re.search(r"(responses|offsets)\[(\d+)\]", field):
        shifted = f"{found[1]}[{int(found[2]) + part[position].first_response}]"
        message = message.replace(found[0], shifted)
        field = field[: found.start()] + shifted + field[found.end() :]
    return replace(error, field=field, message=message.replace(error.field, field))
