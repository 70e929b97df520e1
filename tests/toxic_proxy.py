"""A stand-in for a bad network: a TCP proxy before a server, which breaks connections off when a test says so."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

ABRUPT = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: the other side gets a reset."""


class ToxicProxy:
    """Forwards to a port of this machine. cuts: bytes after which the answers of the next connections break off."""

    def __init__(self, port: int, cuts: list[int]) -> None:
        self.broken = 0
        self._upstream, self._cuts = port, cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            self._end(connection)

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._upstream))
                with self._lock:
                    self._open += [client, server]
                    most = self._cuts.pop(0) if self._cuts else None
                for source, target, limit in ((client, server, None), (server, client, most)):
                    pump = threading.Thread(
                        target=self._pump, args=(source, target, limit), daemon=True
                    )
                    pump.start()

    def _pump(self, source: socket.socket, target: socket.socket, most: int | None) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(4096):
                if most is not None and passed + len(data) > most:
                    target.sendall(data[: most - passed])
                    with self._lock:
                        self.broken += 1
                    target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPT)
                    break
                target.sendall(data)
                passed += len(data)
        self._end(source)
        self._end(target)

    def _end(self, connection: socket.socket) -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()


@contextmanager
def toxic(port: int, *cuts: int) -> Iterator[ToxicProxy]:
    proxy = ToxicProxy(port, list(cuts))
    try:
        yield proxy
    finally:
        proxy.close()
