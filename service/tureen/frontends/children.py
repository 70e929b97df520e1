"""What the supervisor starts: `python -m tureen.frontends.children`, told by its stdin what to be."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from tureen.config import Config
from tureen.transports.server import Ports, in_loop

LENGTH = 8  # bytes of the number before what is to be done


@dataclass(frozen=True)
class DeviceWork:
    """listening: descriptor of the socket where front ends come."""

    config: Config
    listening: int

    @property
    def descriptors(self) -> tuple[int, ...]:
        return (self.listening,)

    async def serve(self, told_to_leave: asyncio.Event) -> int:
        from tureen.frontends import device

        meeting = socket.socket(fileno=self.listening)
        return await device.serve(self.config, meeting, told_to_leave)


@dataclass(frozen=True)
class FrontWork:
    """listening: descriptor of the socket of HTTP. device: the socket of the device process."""

    config: Config
    listening: int
    grpc_port: int
    device: Path

    @property
    def descriptors(self) -> tuple[int, ...]:
        return (self.listening,)

    async def serve(self, told_to_leave: asyncio.Event) -> int:
        from tureen.frontends import front

        listening = socket.socket(fileno=self.listening)
        ports = Ports(self.config, listening, self.grpc_port, shared=True)
        return await front.serve(self.config, ports, self.device, told_to_leave)


Work = DeviceWork | FrontWork


def main() -> int:
    stdin = sys.stdin.fileno()
    work: Work = pickle.loads(_read(stdin, int.from_bytes(_read(stdin, LENGTH), "big")))
    return in_loop(work.config, _serve(work))


def packed(work: Work) -> bytes:
    content = pickle.dumps(work)
    return len(content).to_bytes(LENGTH, "big") + content


def _read(descriptor: int, size: int) -> bytes:
    """All of it, and nothing beyond, which a buffered reader would take."""
    read = b""
    while len(read) < size:
        piece = os.read(descriptor, size - len(read))
        if not piece:
            raise SystemExit(1)  # the supervisor is gone
        read += piece
    return read


async def _serve(work: Work) -> int:
    """Until stdin ends."""
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), told.set)
    return await work.serve(told)


if __name__ == "__main__":
    sys.exit(main())
