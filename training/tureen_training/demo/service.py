"""A `tureen serve` process of a demo's own, on free ports, as a user would start it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

_READY = re.compile(r"ready after .* (grpc://\S+)")
STOP_S = 35.0  # the server answers what it admitted, for 30 s at most


@contextlib.contextmanager
def serving(model: Path, log: Path, *, timeout_s: float = 120.0) -> Iterator[str]:
    """Yields the address of its gRPC door; the server is stopped at the end.

    Args:
        log: file of what the server says.

    Raises:
        RuntimeError: it did not become ready.
    """
    command = [sys.executable, "-m", "tureen.cli", "serve", str(model), "--backend", "torch"]
    command += [
        "--http-port",
        "0",
        "--grpc-port",
        "0",
    ]
    # One thread: the other core is the trainer's.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    )
    address: list[str] = []
    known = threading.Event()

    def follow() -> None:
        assert process.stderr is not None
        with process.stderr as lines, log.open("w", encoding="utf-8") as file:
            for line in lines:
                file.write(line)
                file.flush()
                if not address and (found := _READY.search(line)):
                    address.append(found[1])
                    known.set()
        known.set()

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    try:
        known.wait(timeout_s)
        if not address:
            raise RuntimeError(f"the server did not become ready within {timeout_s:g} s; see {log}")
        yield address[0]
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(STOP_S)
