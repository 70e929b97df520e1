"""uvicorn's HTTP protocol with bounds: on the head of a request, in bytes and seconds, and on connections."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tureen.config import Config
from tureen.errors import Overloaded
from tureen.transports.json_body import dumps

MAX_HEAD_BYTES = 64 * 1024  # of an HTTP request: its first line and its headers
_FULL_WAIT_S = 1.0


def protocol_of(config: Config) -> type[HttpToolsProtocol]:
    """The protocol of a server with these settings."""

    class Bounded(_Bounded):
        max_connections = config.max_connections
        receive_timeout_s = config.receive_timeout_s

    return Bounded


class _Bounded(HttpToolsProtocol):
    """uvicorn would collect a head without end, wait for one for ever, and take any number."""

    max_connections: int
    receive_timeout_s: float
    _in_head, _heads, _head_bytes = True, 0, 0
    _impatience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._refuse()
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._be_patient()
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        self._heads += 1
        self._be_patient()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        in_head, heads = self._in_head, self._heads
        super().data_received(data)
        only_head = in_head and self._in_head and self._heads == heads
        if only_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response(f"The head of a request has {MAX_HEAD_BYTES} bytes at most.")
            elif self._impatience is None:  # the first bytes of another request
                self._expect_head()

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
