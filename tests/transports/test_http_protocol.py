"""What a stranger may send besides a request, and for how long."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from doors import OpenDoors, open_doors
from engine_fakes import PATIENCE_S

from tureen.transports.http_protocol import Joining

HEAD = b"POST /v1/score HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer wrong\r\n"


@pytest.fixture(scope="module")
def refusing() -> Iterator[OpenDoors]:
    with open_doors(api_key=("right",), receive_timeout_s=0.5) as doors:
        yield doors


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"T: x\r\n" * 1000),
        (b"Transfer-Encoding: chunked\r\n\r\n0\r\nT: ", b"x" * 6000),
        (b"Transfer-Encoding: chunked\r\n\r\n5;", b"x" * 6000),
        (b"Content-Length: 100000000000\r\n\r\n", b"x" * 6000),
        (b"Content-Length: 100000000000\r\n\r\n", b""),
    ],
    ids=["trailers", "a trailer", "an extension", "a body", "nothing"],
)
def test_nobody_goes_on_sending_after_the_answer(refusing: OpenDoors, head: bytes, piece: bytes):
    """A stranger is told 401 at once, and then neither kept in memory nor listened to for ever."""
    with socket.create_connection(("127.0.0.1", refusing.http_port), PATIENCE_S) as stranger:
        stranger.sendall(HEAD + head)
        assert stranger.recv(100).startswith(b"HTTP/1.1 401 ")
        while True:
            try:
                stranger.sendall(piece)
                if not piece:
                    while stranger.recv(65536):
                        pass
                    break
            except OSError:  # the connection is closed
                break


def test_a_body_in_chunks_of_one_byte_is_no_attack(refusing: OpenDoors):
    body = b'{"samples": [{"prompt": "a", "responses": ["' + b"b" * 3000 + b'"]}]}'
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\nTrailer: x\r\n\r\n"
    head = HEAD.replace(b"wrong", b"right") + b"Connection: close\r\n"
    with socket.create_connection(("127.0.0.1", refusing.http_port), PATIENCE_S) as sender:
        sender.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        assert sender.recv(100).startswith(b"HTTP/1.1 200 ")


class Sent:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.packets.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def test_what_is_written_in_one_turn_is_one_packet():
    async def run() -> None:
        sent, loop = Sent(), asyncio.get_running_loop()
        joining = Joining(sent, loop)  # type: ignore[arg-type]
        joining.write(b"head ")
        joining.write(b"body")
        await asyncio.sleep(0)
        joining.write(b"last")
        joining.close()
        assert sent.packets == [b"head body", b"last"]
        assert joining.closed
        joining.write(b"beyond the end")
        await asyncio.sleep(0)
        assert len(sent.packets) == 2

    asyncio.run(run())
