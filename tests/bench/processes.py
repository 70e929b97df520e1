"""Processes that are measured: the server, its controls, and the ceiling that takes orders by line."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
READY_S = 600


@contextmanager
def running(
    command: Sequence[str], port: int, *, ready: str = "/readyz", env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process, from when `ready` answers 200 at the port to the end of the block.

    Raises:
        RuntimeError: it ended, or was not ready after `READY_S`; with the end of what it wrote.
    """
    started_s = time.perf_counter()
    with tempfile.TemporaryFile() as log:  # a pipe that nobody reads would fill and stop it
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(TESTS), **(env or {})},
        )
        try:
            while not _answers(f"http://127.0.0.1:{port}{ready}"):
                waited_s = time.perf_counter() - started_s
                if process.poll() is not None or waited_s > READY_S:
                    log.seek(0)
                    said = log.read().decode(errors="replace")[-2000:]
                    raise RuntimeError(
                        f"{' '.join(command)}: not ready after {waited_s:.0f} s: {said}"
                    )
                time.sleep(0.05)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Ordered:
    """A process of ours that answers each line of JSON on stdin by one on stdout."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, order: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended; its stderr is above")
        return json.loads(line)


@contextmanager
def ordered(module: str, *arguments: str) -> Iterator[Ordered]:
    """`python -m module arguments`; it ends when its stdin does."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    try:
        yield Ordered(process)
    finally:
        process.communicate(timeout=60)


def module(name: str, *arguments: str) -> list[str]:
    """The command of a module of this folder."""
    return [sys.executable, "-m", f"bench.{name}", *arguments]


def get_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def peak_rss_mb(pid: int) -> float | None:
    """High-water mark of the resident memory, where the system keeps one."""
    return _memory_mb(pid, "VmHWM")


def rss_mb(pid: int) -> float | None:
    return _memory_mb(pid, "VmRSS")


def cpu_s(pid: int) -> float:
    """Processor time that a process has used, in user and in system mode; Linux alone says so."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine() -> dict[str, Any]:
    """What the figures depend on beside the code."""
    name, flags = platform.processor(), ""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            name = value.strip() if key.startswith("model name") else name
            flags = value if key.startswith("flags") else flags
    known = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    return {
        "cpu": name,
        "cpu_flags": [flag for flag in known if flag in flags.split()],
        "cores": os.cpu_count(),
        "threads": {
            key: os.environ[key]
            for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
            if key in os.environ
        },
        "load_before": round(os.getloadavg()[0], 2),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "changed_files": len(_git("status", "--porcelain").splitlines()),
    }


def _memory_mb(pid: int, key: str) -> float | None:
    status = Path(f"/proc/{pid}/status")
    if not status.is_file():
        return None
    lines = status.read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if line.startswith(key))
    return round(int(line.split()[1]) / 1024, 1)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5)
    except (urllib.error.URLError, OSError):
        return False
    return True


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=TESTS, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
