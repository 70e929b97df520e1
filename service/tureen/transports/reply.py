"""Answers of the HTTP door as bytes and headers."""

from __future__ import annotations

import math
from collections.abc import Mapping

from starlette.responses import Response

from tureen.contracts import Timings
from tureen.errors import TureenError
from tureen.transports.json_body import dumps

JSON = "application/json"


def json_reply(
    content: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """content: None is an answer without a body."""
    if content is None:
        return Response(status_code=status, headers=headers)
    return Response(dumps(content), status, headers=headers, media_type=JSON)


def error_headers(
    error: TureenError, status: int, headers: Mapping[str, str] | None = None
) -> dict[str, str]:
    """`headers`, and what clients and proxies look for beside the body of an error."""
    made = dict(headers or {})
    if error.retry_after_s is not None:
        made["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if status == 401:
        made["WWW-Authenticate"] = "Bearer"
    return made


def timing_headers(timings: Timings) -> dict[str, str]:
    """In whole milliseconds, under the names of text-embeddings-inference."""
    named = {
        "x-compute-time": timings.total_ns,
        "x-total-time": timings.total_ns,
        "x-tokenization-time": timings.tokenize_ns,
        "x-queue-time": timings.queue_ns,
        "x-inference-time": timings.forward_ns,
    }
    return {name: str(time_ns // 1_000_000) for name, time_ns in named.items()}
