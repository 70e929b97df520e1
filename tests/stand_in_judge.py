"""A stand-in for a judge's endpoint: a real HTTP server that misbehaves on request.

It is no language model. `answer` gives its text from the messages; before that, each entry of `script` answers one
request: a text, or something that goes wrong.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Answer = Callable[[Sequence[Mapping[str, str]]], str]


@dataclass(frozen=True)
class Status:
    """An HTTP error."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = '{"error": {"message": "no"}}'


@dataclass(frozen=True)
class Choice:
    """A chat completion with fields of its choice and message changed."""

    message: Mapping[str, Any]
    finish_reason: str = "stop"


@dataclass(frozen=True)
class Body:
    """HTTP 200 with anything; `missing` bytes are announced and never sent."""

    content: bytes
    missing: int = 0


class Hang:
    """No answer until the server closes."""


Step = str | Status | Choice | Body | Hang


class StandInJudge:
    def __init__(self, *script: Step, answer: Answer = lambda _: "Fine.\nRating: 4") -> None:
        self.script = list(script)
        self.answer = answer
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.at_once = self.most_at_once = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                stand_in._respond(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def _respond(self, handler: BaseHTTPRequestHandler) -> None:
        request = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        with self.lock:
            self.requests.append({"path": handler.path, **request})
            self.headers.append({k.lower(): v for k, v in handler.headers.items()})
            step = self.script.pop(0) if self.script else None
        if step is None:
            step = self._counted(request["messages"])
        self._perform(handler, step, request["model"])

    def _counted(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The answer; how many are being thought of at once is noted."""
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return self.answer(messages)
        finally:
            with self.lock:
                self.at_once -= 1

    def _perform(self, handler: BaseHTTPRequestHandler, step: Step, model: str) -> None:
        if isinstance(step, Hang):
            self.closing.wait()
            handler.close_connection = True
        elif isinstance(step, Status):
            _send(handler, step.status, step.body.encode(), step.headers)
        elif isinstance(step, Body):
            _send(handler, 200, step.content, {}, step.missing)
        else:
            choice = step if isinstance(step, Choice) else Choice({"content": step})
            message = {"role": "assistant", **choice.message}
            document = {
                "object": "chat.completion",
                "model": model,
                "choices": [
                    {"index": 0, "message": message, "finish_reason": choice.finish_reason}
                ],
                "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
            }
            _send(handler, 200, json.dumps(document).encode(), {})


def _send(
    handler: BaseHTTPRequestHandler,
    status: int,
    content: bytes,
    headers: Mapping[str, str],
    missing: int = 0,
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("content-length", str(len(content) + missing))
    handler.end_headers()
    handler.wfile.write(content)
    handler.close_connection = missing > 0
