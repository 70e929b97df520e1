"""The shapes of other systems' errors. Codes of ours, statuses and fields of theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from tureen.errors import (
    BackendFailure,
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    TureenError,
    Unauthenticated,
    UnknownModel,
)
from tureen.transports.openapi import ErrorBody


class NoClaimant(InvalidRequest):
    """A body that is of none, or of two, of the systems that share the path."""


class EmptyBatch(InvalidRequest):
    """An empty list where the system's own server refuses one."""


@dataclass(frozen=True, slots=True)
class OpenAiErrorDetail:
    message: str
    type: str
    param: str | None
    code: int


@dataclass(frozen=True, slots=True)
class OpenAiErrorBody:
    """As OpenAI, vLLM and their kin say what went wrong."""

    error: OpenAiErrorDetail


@dataclass(frozen=True, slots=True)
class TeiErrorBody:
    """As text-embeddings-inference says what went wrong."""

    error: str
    error_type: str


@dataclass(frozen=True, slots=True)
class KserveErrorBody:
    """As the open inference protocol says what went wrong."""

    error: str


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """status, content: of an error. body: the schema of `content`. also: errors of its own."""

    status: Callable[[TureenError], int]
    content: Callable[[TureenError, int], object]
    body: type
    also: tuple[type[TureenError], ...] = ()


def _openai_status(error: TureenError) -> int:
    invalid = isinstance(error, InvalidRequest) and not isinstance(error, NoClaimant)
    return 400 if invalid else error.http_status


def _openai_content(error: TureenError, status: int) -> OpenAiErrorBody:
    phrase = HTTPStatus(status).phrase.title().replace(" ", "").replace("-", "")
    kind = phrase if phrase.endswith("Error") else f"{phrase}Error"
    return OpenAiErrorBody(OpenAiErrorDetail(error.message, kind, error.field, status))


def _infinity_status(error: TureenError) -> int:
    return 400 if isinstance(error, UnknownModel) else error.http_status


def _kserve_status(error: TureenError) -> int:
    return 400 if isinstance(error, InvalidRequest) else error.http_status


def _tei_status(error: TureenError) -> int:
    if isinstance(error, EmptyBatch):
        return 400
    return 424 if isinstance(error, BackendFailure) else error.http_status


def _tei_content(error: TureenError, status: int) -> TeiErrorBody | None:
    match error:
        case Unauthenticated():
            return None
        case EmptyBatch():
            kind = "Empty"
        case Overloaded():
            kind = "Overloaded"
        case BackendFailure() | DeadlineExceeded():
            kind = "Backend"
        case _:
            kind = "Validation"
    return TeiErrorBody(error.message, kind)


NATIVE = ErrorShape(
    lambda error: error.http_status, lambda error, _: {"error": error.info()}, ErrorBody
)
OPENAI = ErrorShape(_openai_status, _openai_content, OpenAiErrorBody, also=(NoClaimant,))
INFINITY = ErrorShape(_infinity_status, _openai_content, OpenAiErrorBody)
KSERVE = ErrorShape(
    _kserve_status, lambda error, _: KserveErrorBody(error.message), KserveErrorBody
)
TEI = ErrorShape(_tei_status, _tei_content, TeiErrorBody, also=(EmptyBatch,))
