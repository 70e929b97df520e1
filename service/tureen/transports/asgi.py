"""What stands between uvicorn and a handler: one layer, the table of errors, the routes.

FastAPI describes the routes (OpenAPI, documentation). Handlers take a request and give a response,
read and validate bodies themselves, and depend on nothing; what FastAPI does for other handlers
would cost as much as the rest of the door.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import signature
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tureen.transports.admission import Admission
from tureen.transports.callers import CARRIER, REQUEST_ID, enter

UNREAD = "tureen.unread"  # in the scope of a request whose body is no longer waited for

_ECHOED = REQUEST_ID.encode()
_CLOSE = (b"connection", b"close")
_NAMES = {name.encode(): name for name in (REQUEST_ID, *CARRIER)}

OnError = Callable[[Request, Exception], Awaitable[Response]]


def build(app: FastAPI, admission: Admission) -> None:
    """Gives the app its layers, in the place of FastAPI's own, when the first request comes."""

    def stack() -> ASGIApp:
        for route in app.routes:
            if isinstance(route, APIRoute):
                route.app = _handling(route.endpoint)
        handlers: dict[Any, Any] = dict(app.exception_handlers)
        surprise = handlers.pop(Exception)
        return Entrance(ExceptionMiddleware(app.router, handlers), surprise, admission)

    app.build_middleware_stack = stack


def _handling(endpoint: Callable[..., Awaitable[Response]]) -> ASGIApp:
    """Of a handler that takes the request, parameters of the path, both or nothing."""
    names = tuple(signature(endpoint).parameters)

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        given = {"request": Request(scope, receive, send), **scope["path_params"]}
        response = await endpoint(**{name: given[name] for name in names})
        await response(scope, receive, send)

    return handle


class Entrance:
    """A `Caller` for each request, whose id goes back as X-Request-Id; the last resort of errors.

    Ends connections with an answer: of a server that leaves, and where a body is still to come.
    Else the first would have to close them under the next request, and the second would go on
    receiving what nobody reads.

    Args:
        surprise: answers what nothing else did; the exception goes on to uvicorn, which logs it.
    """

    def __init__(self, app: ASGIApp, surprise: OnError, admission: Admission) -> None:
        self.app, self.surprise, self.admission = app, surprise, admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {
            _NAMES[name]: value.decode("latin-1")
            for name, value in reversed(scope["headers"])  # of a name that came twice the first
            if name in _NAMES
        }
        request_id = (_ECHOED, enter(headers).request_id.encode())
        started = False

        async def leave(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                closing = self.admission.leaving or UNREAD in scope
                more = (request_id, _CLOSE) if closing else (request_id,)
                message["headers"] = [*message["headers"], *more]
            await send(message)

        try:
            await self.app(scope, receive, leave)
        except Exception as error:
            if not started:
                response = await self.surprise(Request(scope), error)
                await response(scope, receive, leave)
            raise
