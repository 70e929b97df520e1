"""Clients over HTTP; the only file that knows httpx2, which is imported on construction."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tureen.client import codec
from tureen.client.async_surface import AsyncCaller, AsyncSurface
from tureen.client.flow import ANSWERS, Call
from tureen.client.surface import PROBE_TIMEOUT_S, Trust
from tureen.client.sync_surface import Caller, SyncSurface
from tureen.client.trace_context import trace_context
from tureen.contracts import (
    ErrorInfo,
)
from tureen.errors import (
    BackendFailure,
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    PayloadTooLarge,
    QuotaExceeded,
    ServiceUnreachable,
    TureenError,
    Unauthenticated,
    from_info,
)

if TYPE_CHECKING:
    import httpx2

CONNECT_TIMEOUT_S = 5.0  # a dead host must leave time for another attempt

_TIMEOUT = "X-Request-Timeout-Ms"
_PROBES = {False: "/healthz", True: "/readyz"}  # by readiness

# What a status means when something else than Tureen, a proxy say, gave it.
_FOREIGN: dict[int, type[TureenError]] = {
    401: Unauthenticated,
    403: Forbidden,
    413: PayloadTooLarge,
    429: QuotaExceeded,
    500: BackendFailure,
    502: ServiceUnreachable,
    503: ServiceUnreachable,
    504: DeadlineExceeded,
}


def _session(address: str, headers: dict[str, str], trust: Trust, transport: Any) -> dict[str, Any]:
    """The arguments of httpx2's client of either kind."""
    scheme = address.partition("://")[0]
    if scheme not in ("http", "https"):
        other = "; grpc:// is for GrpcRewardClient" if scheme in ("grpc", "grpcs") else ""
        raise InvalidRequest(
            f"{address!r} is no address of a service over HTTP{other}; give one such as "
            "'http://localhost:8080'."
        )
    root = address.rstrip("/").removesuffix("/v1")  # every path here begins with it
    session: dict[str, Any] = {"base_url": root, "headers": headers, "transport": transport}
    trust.check(scheme == "https", address, "an https://")
    if any(trust):
        session["verify"] = context = ssl.create_default_context(cafile=trust.root_certificates)
        if trust.client_certificate is not None:
            context.load_cert_chain(*trust.client_certificate)
    return session


def _question(call: Call) -> dict[str, Any]:
    """A call as the arguments of httpx2's `request`."""
    import httpx2

    timeout = httpx2.Timeout(call.timeout_s, connect=min(call.timeout_s, CONNECT_TIMEOUT_S))
    headers = {_TIMEOUT.lower(): str(max(1, int(call.timeout_s * 1000))), **trace_context()}
    asked: dict[str, Any] = {"headers": headers, "timeout": timeout}
    match call.operation:
        case "models":
            return {"method": "GET", "url": "/v1/models", **asked}
        case "soups":
            return {"method": "GET", "url": "/v1/soups", **_about(call.payload), **asked}
        case "model":
            return {"method": "GET", "url": f"/v1/models/{quote(call.payload)}", **asked}
        case "activate_soup" | "shadow_soup" | "rollback_soup":
            fingerprint, model = call.payload
            named = [] if fingerprint is None else [quote(fingerprint, safe="")]
            path = "/".join(["/v1/soups", *named, call.operation.removesuffix("_soup")])
            return {"method": "POST", "url": path, **_about(model), **asked}
    headers["content-type"] = "application/json"
    path = "/v1/soups" if call.operation == "create_soup" else f"/v1/{call.operation}"
    return {"method": "POST", "url": path, "content": codec.write(call.payload), **asked}


def _about(model: str | None) -> dict[str, Any]:
    return {} if model is None else {"params": {"model": model}}


def _answer(call: Call, response: httpx2.Response) -> Any:
    """The contract in a response; raises the error in it."""
    if not response.is_success:
        raise _error(response)
    try:
        return codec.read(ANSWERS[call.operation], response.content)
    except ValueError as error:
        raise BackendFailure(
            f"{response.url} answered something else than the contract ({error})."
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _ErrorBody:
    error: ErrorInfo


def _error(response: httpx2.Response) -> TureenError:
    try:
        info = codec.read(_ErrorBody, response.content).error
    except ValueError:
        pass  # not one of ours
    else:
        if info.code == DeadlineExceeded.code:  # the header is what became of timeout_s
            info = replace(info, message=info.message.replace(_TIMEOUT, "timeout_s"))
        return from_info(info)
    wait_s = response.headers.get("retry-after", "")
    kind = _FOREIGN.get(response.status_code, InvalidRequest)
    return kind(
        f"{response.url} answered HTTP {response.status_code} without an error of Tureen; "
        "is a proxy in between, or is this another service?",
        retry_after_s=float(wait_s) if wait_s.isdecimal() else None,
    )


def _lost(error: httpx2.TransportError) -> TureenError:
    """What a failure below HTTP means: out of time once the question was put, else no service."""
    import httpx2

    cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, httpx2.ReadTimeout | httpx2.WriteTimeout):
        return DeadlineExceeded(
            f"No answer in time ({cause}); raise timeout_s or send less at once."
        )
    return ServiceUnreachable(cause)


class RewardClient(SyncSurface):
    """Scores over HTTP.

    with RewardClient("http://localhost:8080") as client:
        [score] = client.score("Why is the sky blue?", ["Rayleigh scattering."])
    """

    def _open(self, address: str, trust: Trust, transport: Any) -> None:
        import httpx2

        self._http = httpx2.Client(**_session(address, self._headers, trust, transport))
        self._lost = httpx2.TransportError

    def _call(self, call: Call) -> Any:
        try:
            response = self._http.request(**_question(call))
        except self._lost as error:
            raise _lost(error) from error
        return _answer(call, response)

    def _probe(self, *, ready: bool) -> bool:
        try:
            return self._http.get(_PROBES[ready], timeout=PROBE_TIMEOUT_S).is_success
        except self._lost:
            return False

    @contextmanager
    def _multiplexed(self) -> Iterator[Caller]:
        yield self._call

    def _close(self) -> None:
        self._http.close()


class AsyncRewardClient(AsyncSurface):
    """`RewardClient` for asyncio."""

    def _open(self, address: str, trust: Trust, transport: Any) -> None:
        import httpx2

        self._http = httpx2.AsyncClient(**_session(address, self._headers, trust, transport))
        self._lost = httpx2.TransportError

    async def _call(self, call: Call) -> Any:
        try:
            response = await self._http.request(**_question(call))
        except self._lost as error:
            raise _lost(error) from error
        return _answer(call, response)

    async def _probe(self, *, ready: bool) -> bool:
        try:
            return (await self._http.get(_PROBES[ready], timeout=PROBE_TIMEOUT_S)).is_success
        except self._lost:
            return False

    @asynccontextmanager
    async def _multiplexed(self) -> AsyncIterator[AsyncCaller]:
        yield self._call

    async def _close(self) -> None:
        await self._http.aclose()
