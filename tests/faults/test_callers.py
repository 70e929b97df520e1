"""Callers that are slow, or gone without a word: they get what is theirs, and hold up nobody else."""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import httpx2
import pytest
from doors import OpenDoors, RawGrpc, open_doors
from engine_fakes import wait_until
from fault_watch import WELL, health

from tureen.v1 import reward_pb2 as pb

LARGE = {"samples": [{"prompt": "a", "responses": ["A sentence. " * 300] * 50}]}


@pytest.fixture
def doors() -> Iterator[OpenDoors]:
    with open_doors() as opened:
        yield opened


def request(content: dict) -> bytes:
    body = json.dumps(content).encode()
    head = f"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def scored(doors: OpenDoors) -> bool:
    body = {"samples": [{"prompt": "a", "responses": ["b"]}]}
    return httpx2.post(f"{doors.url}/v1/score", json=body, timeout=60).status_code == 200


def test_who_does_not_take_the_answer_holds_up_nobody(doors: OpenDoors):
    """The answer is megabytes, the caller's window a few kilobytes, and it never reads."""
    with closing(socket.socket()) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", doors.http_port))
        slow.sendall(request(LARGE))
        answered = ("http", "score", "ok")
        wait_until(lambda: doors.counts().requests.get(answered) == 1, "the answer to be made")
        assert doors.in_flight() == 0
        assert scored(doors)
        assert health(doors) == WELL
        doors.call(doors.admission.drained())


def test_who_closes_after_asking_is_still_counted_out(doors: OpenDoors):
    """Half closed: no more will be sent. It is taken for a caller that left, and frees its work."""
    doors.gate.hold()
    with socket.create_connection(("127.0.0.1", doors.http_port), 20) as half:
        half.sendall(request({"samples": [{"prompt": "a", "responses": ["b"]}]}))
        doors.gate.wait_until_entered()
        half.shutdown(socket.SHUT_WR)
        wait_until(lambda: doors.in_flight() == 0, "its work to be freed")
        doors.gate.open()
        assert half.recv(1000) == b"", "closed without half an answer"
    assert scored(doors)
    assert doors.counts().errors == {}


@contextmanager
def line(port: int) -> Iterator[Line]:
    made = Line(port)
    try:
        yield made
    finally:
        made.close()


class Line:
    """Carries bytes to a port and back until it is cut: then neither end hears anything again."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._to = port
        self._cut, self._wake = socket.socketpair()
        self._ends: list[socket.socket] = []
        self.dead = threading.Event()
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()

    def cut(self) -> None:
        self._wake.send(b"x")
        assert self.dead.wait(20)

    def close(self) -> None:
        self._wake.send(b"x")
        self._thread.join(20)
        for one in (self._listener, self._cut, self._wake, *self._ends):
            one.close()

    def _carry(self) -> None:
        other: dict[socket.socket, socket.socket] = {}
        while True:
            readable, _, _ = select.select([self._listener, self._cut, *other], [], [])
            if self._cut in readable:
                self.dead.set()
                return
            for one in readable:
                if one is self._listener:
                    near, far = one.accept()[0], socket.create_connection(("127.0.0.1", self._to))
                    other |= {near: far, far: near}
                    self._ends += [near, far]
                elif piece := one.recv(65536):
                    other[one].sendall(piece)
                else:
                    del other[one]


def test_half_open_http(doors: OpenDoors):
    """The caller's machine is gone in the middle of its request; no packet says so."""
    doors.gate.hold()
    with line(doors.http_port) as wire, socket.create_connection(("127.0.0.1", wire.port)) as gone:
        gone.sendall(request(LARGE))
        doors.gate.wait_until_entered()
        wire.cut()
        doors.gate.open()
        wait_until(lambda: doors.in_flight() == 0, "the answer into the void")
        assert scored(doors)
        assert health(doors) == WELL
        doors.call(doors.admission.drained())


def test_half_open_grpc(doors: OpenDoors):
    doors.gate.hold()
    message = pb.ScoreRequest(samples=[pb.Sample(prompt="a", responses=["b"])]).SerializeToString()
    with line(doors.grpc_port) as wire:
        raw = RawGrpc(f"127.0.0.1:{wire.port}")
        call = raw.method("Score").future(message, timeout=60)
        doors.gate.wait_until_entered()
        wire.cut()
        doors.gate.open()
        wait_until(lambda: doors.in_flight() == 0, "the answer into the void")
        assert scored(doors)
        assert health(doors) == WELL
        doors.call(doors.admission.drained())
        call.cancel()
        raw.channel.close()
