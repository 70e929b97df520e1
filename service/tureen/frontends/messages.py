"""What front ends and the device process say to each other, beside `engine.remote.Asked`."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter

from tureen.contracts import ModelList, RankResponse, ScoreResponse
from tureen.engine.remote import Answer
from tureen.errors import TureenError
from tureen.transports.json_body import dumps


@dataclass(frozen=True)
class News:
    """models: None before they are loaded. trouble: why no score can be expected."""

    models: ModelList | None
    trouble: str | None


@dataclass(frozen=True)
class Tokenizers:
    """pickled: a `SampleTokenizer` by model. To read it a process imports transformers, which takes
    seconds, so it is not read with the message."""

    pickled: bytes


@dataclass(frozen=True)
class Failed:
    """The model cannot be loaded."""

    error: Exception


@dataclass(frozen=True)
class Change:
    """A method of `SoupKeeping`, of which model, and its arguments."""

    model: str
    method: str
    arguments: tuple[object, ...] = ()


@dataclass(frozen=True)
class Exposition:
    """Asks for the metrics."""


@dataclass(frozen=True)
class Counts:
    """Methods of `Metrics` that a door called, and their arguments."""

    calls: list[tuple[str, tuple[object, ...]]]


@dataclass(frozen=True)
class Written:
    """An answer as JSON: pickled, the many small objects of it would take ten times as long."""

    kind: type[ScoreResponse] | type[RankResponse]
    text: bytes


_READERS = {kind: TypeAdapter(kind).validator for kind in (ScoreResponse, RankResponse)}


def written(answer: Answer) -> Written | TureenError:
    return answer if isinstance(answer, TureenError) else Written(type(answer), dumps(answer))


def read(answer: Written | TureenError) -> Answer:
    """The same answer: JSON holds every float to its last bit."""
    if isinstance(answer, TureenError):
        return answer
    return _READERS[answer.kind].validate_json(answer.text)
