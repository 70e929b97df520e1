"""Every error of Tureen, in one table for all doors.

    TureenError
    ├── InvalidRequest (ValueError)   invalid_request      422  INVALID_ARGUMENT
    │   └── InputTooLong              input_too_long       422  INVALID_ARGUMENT
    ├── NotFound (LookupError)
    │   ├── UnknownModel              unknown_model        404  NOT_FOUND
    │   ├── UnknownHead               unknown_head         404  NOT_FOUND
    │   └── UnknownSoup               unknown_soup         404  NOT_FOUND
    ├── PayloadTooLarge               payload_too_large    413  RESOURCE_EXHAUSTED
    ├── Unauthenticated               unauthenticated      401  UNAUTHENTICATED
    ├── Forbidden                     forbidden            403  PERMISSION_DENIED
    ├── QuotaExceeded        (again)  quota_exceeded       429  RESOURCE_EXHAUSTED
    ├── Overloaded           (again)  overloaded           503  UNAVAILABLE
    ├── DeadlineExceeded     (again)  deadline_exceeded    504  DEADLINE_EXCEEDED   (TimeoutError)
    ├── IncompatibleSoup              incompatible_soup    409  FAILED_PRECONDITION
    ├── BackendFailure       (again)  backend_failure      500  INTERNAL
    ├── UnlistedError                 of a newer server; what it says of itself holds
    └── ServiceUnreachable            raised by the client alone             (ConnectionError)
    MissingExtra (ImportError)        a package of an extra is not installed

A message has three parts: what was given, what is allowed, what to do. An error is never turned
into a number.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any, ClassVar

from tureen.contracts import ErrorInfo, ScoreResponse

Figure = int | float | str | None
NAMED = 80  # characters of a name from outside that a message repeats
CARRIED = 200  # characters of `field` and of `got`: what was sent can be megabytes, and gRPC's
# metadata, where errors travel, has room for a few thousand bytes


class TureenError(Exception):
    """Base of all errors that have a code on the wire."""

    code: str
    http_status: ClassVar[int]
    grpc_status: ClassVar[str]  # name in grpc.StatusCode
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        got: Figure = None,
        limit: Figure = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field if field is None else field[:CARRIED]
        self.got = _carried(got)
        self.limit = limit
        self.retry_after_s = retry_after_s

    def info(self) -> ErrorInfo:
        return ErrorInfo(
            code=self.code,
            message=self.message,
            field=self.field,
            got=self.got,
            limit=self.limit,
            retryable=self.retryable,
            retry_after_s=self.retry_after_s,
        )

    def __reduce__(self) -> tuple[Any, ...]:  # keyword-only arguments are lost by the default
        return _rebuild, (
            type(self),
            self.message,
            self.field,
            self.got,
            self.limit,
            self.retry_after_s,
        )


def _carried(got: Figure) -> Figure:
    """What can travel: JSON has no infinity and no NaN, neither door integers above 64 bits."""
    if isinstance(got, bool):  # an int to Python, but to no client
        return str(got).lower()
    if isinstance(got, str):
        return got[:CARRIED]
    if isinstance(got, float):
        return got if math.isfinite(got) else str(got)
    if got is not None and not -(2**63) <= got < 2**63:
        return _carried(str(got))
    return got


def _rebuild(kind, message, field, got, limit, retry_after_s):
    return kind(message, field=field, got=got, limit=limit, retry_after_s=retry_after_s)


class InvalidRequest(TureenError, ValueError):
    code, http_status, grpc_status = "invalid_request", 422, "INVALID_ARGUMENT"


class InputTooLong(InvalidRequest):
    code = "input_too_long"


class NotFound(TureenError, LookupError):
    http_status, grpc_status = 404, "NOT_FOUND"


class UnknownModel(NotFound):
    code = "unknown_model"


class UnknownHead(NotFound):
    code = "unknown_head"


class UnknownSoup(NotFound):
    code = "unknown_soup"


class PayloadTooLarge(TureenError):
    code, http_status, grpc_status = "payload_too_large", 413, "RESOURCE_EXHAUSTED"


class Unauthenticated(TureenError):
    code, http_status, grpc_status = "unauthenticated", 401, "UNAUTHENTICATED"


class Forbidden(TureenError):
    code, http_status, grpc_status = "forbidden", 403, "PERMISSION_DENIED"


class QuotaExceeded(TureenError):
    code, http_status, grpc_status = "quota_exceeded", 429, "RESOURCE_EXHAUSTED"
    retryable = True


class Overloaded(TureenError):
    code, http_status, grpc_status = "overloaded", 503, "UNAVAILABLE"
    retryable = True


class DeadlineExceeded(TureenError, TimeoutError):
    code, http_status, grpc_status = "deadline_exceeded", 504, "DEADLINE_EXCEEDED"
    retryable = True


class IncompatibleSoup(TureenError):
    code, http_status, grpc_status = "incompatible_soup", 409, "FAILED_PRECONDITION"


class BackendFailure(TureenError):
    code, http_status, grpc_status = "backend_failure", 500, "INTERNAL"
    retryable = True


class ServiceUnreachable(TureenError, ConnectionError):
    """The client got no answer within its budget; no reward was substituted."""

    code, http_status, grpc_status = "service_unreachable", 503, "UNAVAILABLE"
    retryable = True


class UnlistedError(TureenError):
    """A code this version does not know. The server said whether to try again; that is kept."""

    http_status, grpc_status = 500, "INTERNAL"

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(
            info.message,
            field=info.field,
            got=info.got,
            limit=info.limit,
            retry_after_s=info.retry_after_s,
        )
        self.code, self.retryable = info.code, info.retryable

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.info(),)


class MissingExtra(ImportError):
    """A feature was used whose packages are not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs packages that are missing: pip install 'tureen[{extra}]'"
        )
        self.feature, self.extra = feature, extra

    def __reduce__(self):
        return type(self), (self.feature, self.extra)


ERRORS: dict[str, type[TureenError]] = {
    kind.code: kind
    for kind in (
        InvalidRequest,
        InputTooLong,
        UnknownModel,
        UnknownHead,
        UnknownSoup,
        PayloadTooLarge,
        Unauthenticated,
        Forbidden,
        QuotaExceeded,
        Overloaded,
        DeadlineExceeded,
        IncompatibleSoup,
        BackendFailure,
    )
}
"""The table: code -> class, for whatever can come over the wire."""


def from_info(info: ErrorInfo) -> TureenError:
    """The exception an `ErrorInfo` stands for; that of an unknown code is an `UnlistedError`."""
    kind = ERRORS.get(info.code)
    if kind is None:
        return UnlistedError(info)
    return kind(
        info.message,
        field=info.field,
        got=info.got,
        limit=info.limit,
        retry_after_s=info.retry_after_s,
    )


def failure_of(response: ScoreResponse) -> TureenError | None:
    """The error a door answers with: the first one when no sample could be scored, else None."""
    errors = [result.error for result in response.results]
    if errors and all(error is not None for error in errors):
        first = errors[0]
        assert first is not None
        return from_info(first)
    return None


def quoted(name: str) -> str:
    """A name from outside as a message repeats it: in quotes, and not all of a long one."""
    return repr(name if len(name) <= NAMED else name[:NAMED] + "…")


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'? Known: a, b, c" for the end of a message about an unknown name."""
    names = sorted(known)
    close = difflib.get_close_matches(name[:NAMED], names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"{hint} Known: {', '.join(names)}"
