"""A real `tureen serve` process on free ports, for tests that go through the doors."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

ADMIN = "admin-key-0"  # of servers whose soups are changed


@dataclass
class Loopback:
    """Where both doors of a server stand on this machine."""

    http_port: int
    grpc_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"


@dataclass
class Server(Loopback):
    process: subprocess.Popen
    log: list[str]

    def children(self, role: str = "") -> list[int]:
        """Processes that it started, with `role` in their command line."""
        pid = self.process.pid
        with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as listed:
            return [child for child in map(int, listed.read().split()) if role in _command(child)]

    def stop(self, timeout_s: float = 30) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8") as command:
            return command.read()
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return ""


@contextmanager
def serving(
    model: str = "stub",
    *flags: str,
    command: str = "serve",
    env: dict[str, str] | None = None,
    timeout_s: float = 120,
) -> Iterator[Server]:
    """Starts the server, waits for the line that says it is ready, stops it at the end."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tureen.cli",
            command,
            model,
            "--http-port",
            "0",
            "--grpc-port",
            "0",
            *list(flags),
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200", **(env or {})},
    )
    log: list[str] = []
    ready = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            log.append(line)
            if "ready" in line and "http" in line:
                ready.set()
        ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        if not ready.wait(timeout_s) or process.poll() is not None:
            raise RuntimeError(f"the server did not become ready:\n{''.join(log)}")
        line = next(line for line in log if "ready" in line and "http" in line)
        http = re.search(r"http://[\w.\[\]:-]*?:(\d+)", line)
        grpc = re.search(r"grpc\D*?(?:[\d.]+|\[?[\w:]+\]?):(\d+)", line)
        assert http, line
        assert grpc, line
        yield Server(int(http.group(1)), int(grpc.group(1)), process, log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        reader.join(5)
        assert process.stderr is not None
        process.stderr.close()
