"""What all clients share: how they are made, and how their arguments become contracts.

`sync_surface` and `async_surface` add the methods, once for callers that wait and once for callers
that await. A transport adds `_open`, `_call` (one question, one answer), `_probe` (health),
`_multiplexed` (many questions at once) and `_close`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, TypeVar

from tureen.bearer import usable
from tureen.client.flow import Flow, Retry
from tureen.contracts import (
    Aggregation,
    Message,
    Priority,
    Sample,
    SampleResult,
    ScoreResponse,
    Truncate,
)
from tureen.errors import (
    Forbidden,
    InvalidRequest,
    ServiceUnreachable,
    TureenError,
    Unauthenticated,
    nearest,
)

E = TypeVar("E", bound=StrEnum)

PARALLEL_CALLS = 8
"""Calls of one split request that are under way at once."""

IN_FLIGHT = 32
"""Samples of a stream that are under way at once."""

PROBE_TIMEOUT_S = 5.0

_FATAL = (ServiceUnreachable, Unauthenticated, Forbidden)  # no sample of a stream would fare better


class Options(TypedDict, total=False):
    """`ScoreOptions` and the model as keywords; what is left out has the contract's default."""

    model: str | None
    heads: Sequence[str] | None
    weights: Mapping[str, float] | None
    aggregation: Aggregation | str
    penalty: float
    uncertainty: bool
    segments: bool
    members: bool
    truncate: Truncate | str


class Trust(NamedTuple):
    """Of TLS; empty: the system's certificates are trusted and none is shown."""

    root_certificates: str | Path | None
    client_certificate: tuple[str | Path, str | Path] | None

    def check(self, tls: bool, address: str, wanted: str) -> None:
        """Raises InvalidRequest: certificates are given where no TLS is spoken, or a file is missing."""
        for name, value in self._asdict().items():
            if value is not None and not tls:
                raise InvalidRequest(
                    f"{name} is given; certificates need {wanted} address, got {address!r}."
                )
            for path in value if isinstance(value, tuple) else () if value is None else (value,):
                if not Path(path).is_file():
                    raise InvalidRequest(
                        f"{name} names {str(path)!r}, and there is no such file; give PEM files."
                    )


Prompt = str | Sequence[Message | Mapping[str, str]]
Offsets = Sequence[Sequence[tuple[int, int]] | None]
Indexed = tuple[int, SampleResult]
IndexedAnswer = tuple[int, ScoreResponse]


def one_sample(
    prompt: Prompt,
    responses: Sequence[str],
    context: Sequence[str] = (),
    offsets: Offsets | None = None,
) -> dict[str, Any]:
    """The fields of a `Sample` from what callers have at hand."""
    is_text = isinstance(prompt, str)
    return {
        "prompt": prompt if is_text else None,
        "messages": None if is_text else _messages(prompt),
        "responses": _texts("responses", responses),
        "context": _texts("context", context),
        "offsets": None
        if offsets is None
        else tuple(
            None if spans is None else tuple((start, end) for start, end in spans)
            for spans in offsets
        ),
    }


def _texts(field: str, given: object) -> tuple[str, ...]:
    if isinstance(given, str):
        raise InvalidRequest(f"{field} is one string; give a list of strings.", field=field)
    if not isinstance(given, Iterable):
        raise InvalidRequest(f"{field} is {given!r}; give a list of strings.", field=field)
    texts = tuple(given)
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidRequest(
                f"{field}[{place}] is of type {type(text).__name__}; it must be a string.",
                field=f"{field}[{place}]",
            )
    return texts


def _messages(given: object) -> tuple[Message, ...]:
    try:
        return tuple(
            one if isinstance(one, Message) else Message(**one)
            for one in given  # pyright: ignore[reportGeneralTypeIssues] whatever a caller gave
        )
    except TypeError:
        raise InvalidRequest(
            "prompt is neither one text nor the messages {role, content} of one conversation; give "
            "either. Several prompts are several samples: score_samples([Sample(prompt=…, "
            "responses=…), …]).",
            field="prompt",
        ) from None


def checked(options: Options) -> dict[str, Any]:
    """Options in the contract's types.

    Raises:
        InvalidRequest: a value is no member of its enumeration, or is one that only one door could
            carry: protobuf cannot tell an empty list from none, JSON has no NaN.
    """
    known: dict[str, Any] = dict(options)
    for field, kind in (("aggregation", Aggregation), ("truncate", Truncate)):
        if field in known:
            known[field] = _member(kind, known[field], field)
    if known.get("heads") is not None:
        known["heads"] = _texts("heads", known["heads"])
    if known.get("weights") is not None:
        known["weights"] = dict(known["weights"])
    for field in ("heads", "weights"):
        if known.get(field) is not None and not known[field]:
            raise InvalidRequest(f"{field} is empty; leave it out for all heads.", field=field)
    weights = (known.get("weights") or {}).values()
    for field, figures in (("penalty", [known.get("penalty", 0.0)]), ("weights", weights)):
        if not all(map(math.isfinite, figures)):
            raise InvalidRequest(f"{field} holds a number that is not finite.", field=field)
    return known


def _member(kind: type[E], value: str, field: str) -> E:
    try:
        return kind(value)
    except ValueError:
        raise InvalidRequest(
            f"{field} is {value!r}{nearest(str(value), (member.value for member in kind))}",
            field=field,
        ) from None


def stream_options(in_flight: int, options: Options) -> dict[str, Any]:
    if in_flight < 1:
        raise InvalidRequest(f"in_flight is {in_flight}; give at least 1.", field="in_flight")
    return checked(options)


def failed_answer(sample: Sample, error: TureenError) -> ScoreResponse:
    if isinstance(error, _FATAL):
        raise error
    result = SampleResult(id=sample.id, error=error.info())
    return ScoreResponse(model="", fingerprint="", soup="", results=(result,))


class Surface:
    """What all clients are made from.

    Args:
        address: of the service. "http://localhost:8080", "https://…", where a "/v1" at the end, as
            clients of OpenAI have it, may stand; over gRPC "localhost:8081", "grpcs://…" (TLS).
        api_key: sent as `Authorization: Bearer`.
        timeout_s: budget of a call, retries included; the server drops work that can no longer be
            in time.
        retry: when to try again.
        priority: lane of the server's queue, "interactive" or "bulk".
        max_client_batch_size: responses in one request; None asks the server.
        root_certificates: PEM file to trust instead of the system's certificates.
        client_certificate: PEM files of a certificate and its private key, for mutual TLS.
        transport: in place of the network: a transport of httpx2, a channel of grpc. Closed with
            the client.
    """

    def __init__(
        self,
        address: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        retry: Retry | None = None,
        priority: Priority | str = Priority.INTERACTIVE,
        max_client_batch_size: int | None = None,
        root_certificates: str | Path | None = None,
        client_certificate: tuple[str | Path, str | Path] | None = None,
        transport: Any = None,
    ) -> None:
        self._flow = Flow(
            address, timeout_s=timeout_s, retry=retry, max_client_batch_size=max_client_batch_size
        )
        self._headers = {"x-priority": _member(Priority, priority, "priority").value}
        if api_key is not None:
            try:
                self._headers["authorization"] = f"Bearer {usable(api_key)}"
            except ValueError as error:
                raise InvalidRequest(f"api_key is {error}.", field="api_key") from None
        self._open(address, Trust(root_certificates, client_certificate), transport)

    def _open(self, address: str, trust: Trust, transport: Any) -> None:
        raise NotImplementedError
