"""Both doors put a `Caller` in place for every request, and answer with its id."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tureen.engine.caller import CALLER, Caller

REQUEST_ID = "x-request-id"
CARRIER = ("traceparent", "tracestate")
"""Headers of the W3C trace context."""

_draw = random.Random()
_USABLE_ID = re.compile(r"[!-~]{1,128}")
_NAMES = {name.encode(): name for name in (REQUEST_ID, *CARRIER)}


def enter(headers: Mapping[str, str]) -> Caller:
    """The caller of a request with these headers (or metadata), in place for the running task.

    An id that is missing, longer than 128 characters or not printable ASCII is replaced: it
    will stand in logs.
    """
    given = headers.get(REQUEST_ID, "")
    caller = Caller(
        given if _USABLE_ID.fullmatch(given) else f"{_draw.getrandbits(128):032x}",
        carrier={name: headers[name] for name in CARRIER if name in headers},
    )
    CALLER.set(caller)
    return caller


class NameCallers:
    """ASGI middleware: a `Caller` for each HTTP request, its id in the answer as X-Request-Id."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {
            _NAMES[name]: value.decode("latin-1")
            for name, value in scope["headers"]
            if name in _NAMES
        }
        echoed = (REQUEST_ID.encode(), enter(headers).request_id.encode())

        async def naming(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], echoed]
            await send(message)

        await self.app(scope, receive, naming)
