"""uvicorn's HTTP protocol with bounds: on what is not the body of a request, on time, and on connections.

The body itself is bounded by who reads it, as long as somebody does.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tureen.config import Config
from tureen.errors import Overloaded
from tureen.transports.json_body import dumps

MAX_HEAD_BYTES = 64 * 1024  # of an HTTP request: its first line and its headers
_FRAMING_PER_BYTE = 8  # of a chunked body: a byte alone in its chunk takes five more
_FULL_WAIT_S = 1.0


def protocol_of(config: Config) -> type[HttpToolsProtocol]:
    """The protocol of a server with these settings."""

    class Bounded(_Bounded):
        max_connections = config.max_connections
        receive_timeout_s = config.receive_timeout_s

    return Bounded


class _Bounded(HttpToolsProtocol):
    """uvicorn would collect heads and trailers without end, wait for them for ever, go on receiving
    the body of a request that is answered, and take any number of connections."""

    max_connections: int
    receive_timeout_s: float
    _in_head, _heads, _head_bytes = True, 0, 0
    _body_bytes, _framing_bytes = 0, 0  # of the latest data; of what goes around a body
    _impatience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Joining(transport, self.loop))  # type: ignore[arg-type]
        if len(self.connections) > self.max_connections:
            self._refuse()
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._be_patient()
        super().connection_lost(exc)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers are nobody's to read
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes, self._framing_bytes = False, 0, 0
        self._heads += 1
        self._be_patient()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._be_patient()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        unread = not self._in_head and self.cycle.response_complete
        if unread and self._impatience is None and not self.transport.is_closing():
            self._impatience = self.loop.call_later(self.receive_timeout_s, self.transport.close)

    def data_received(self, data: bytes) -> None:
        in_head, heads, self._body_bytes = self._in_head, self._heads, 0
        super().data_received(data)
        if self._heads != heads or self.transport.is_closing():
            return
        if in_head and self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response(f"The head of a request has {MAX_HEAD_BYTES} bytes at most.")
            elif self._impatience is None:  # the first bytes of another request
                self._expect_head()
        elif not self._in_head:
            allowed = (1 + _FRAMING_PER_BYTE) * self._body_bytes
            self._framing_bytes = max(0, self._framing_bytes + len(data) - allowed)
            if self._framing_bytes > MAX_HEAD_BYTES:  # extensions of chunks, or trailers
                self._end("What goes around a body is longer than the body.")

    def _expect_head(self) -> None:
        self._impatience = self.loop.call_later(self.receive_timeout_s, self._too_slow)

    def _be_patient(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self.send_400_response(
                f"The head of a request must come within {self.receive_timeout_s:g} s."
            )

    def _end(self, reason: str) -> None:
        """Ends the connection; says why where no answer has begun, into which it would fall."""
        if self.cycle.response_started:
            self.transport.close()
        else:
            self.send_400_response(reason)

    def _refuse(self) -> None:
        """Whatever is asked: 503, before anything is read."""
        error = Overloaded(
            f"{self.max_connections} connections are open, which is what this server takes "
            f"(max_connections). Try again in {_FULL_WAIT_S:g} s, and keep connections for reuse.",
            limit=self.max_connections,
            retry_after_s=_FULL_WAIT_S,
        )
        body = dumps({"error": error.info()})
        head = (
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nretry-after: {_FULL_WAIT_S:.0f}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


class Joining:
    """A transport that sends what is written in one turn of the loop at once: uvicorn writes the head
    of an answer and its body apart, and each would be a packet."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        held, self._held = self._held, []
        if held and not self._transport.is_closing():
            self._transport.write(b"".join(held))
