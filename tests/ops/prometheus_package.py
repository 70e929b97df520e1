"""Debian's Prometheus for tests: the one that is installed, or its package unpacked under build/.

Unpacking needs neither root nor a service: the package's lists and the package itself go to
build/prometheus, which git ignores, and nothing else of the machine changes.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

BUILD = Path(__file__).resolve().parents[2] / "build/prometheus"
PATIENCE_S = 120


@dataclass(frozen=True)
class Programs:
    prometheus: str
    promtool: str


@cache
def programs() -> Programs:
    """Skips the test where there is no Prometheus and none can be had."""
    return _installed() or _unpacked() or _fetched()


def _installed() -> Programs | None:
    prometheus, promtool = shutil.which("prometheus"), shutil.which("promtool")
    return Programs(prometheus, promtool) if prometheus and promtool else None


def _unpacked() -> Programs | None:
    found = [BUILD / "root/usr/bin" / name for name in ("prometheus", "promtool")]
    return Programs(*map(str, found)) if all(path.is_file() for path in found) else None


def _fetched() -> Programs:
    missing = [name for name in ("apt-get", "dpkg-deb") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"there is no prometheus here, and no {missing[0]} to get Debian's; install it")
    for folder in ("lists/partial", "cache/archives/partial", "package"):
        (BUILD / folder).mkdir(parents=True, exist_ok=True)
    apt = ["apt-get", "-qq", "-o", f"Dir::State::lists={BUILD / 'lists'}"]
    apt += ["-o", f"Dir::Cache={BUILD / 'cache'}", "-o", "APT::Sandbox::User="]
    try:
        _run([*apt, "update"])
        _run([*apt, "download", "prometheus"], BUILD / "package")
        package = next((BUILD / "package").glob("prometheus_*.deb"))
        _run(["dpkg-deb", "--extract", str(package), str(BUILD / "root")])
    except (subprocess.SubprocessError, OSError, StopIteration) as error:
        reason = getattr(error, "stderr", None) or str(error)
        pytest.skip(f"there is no prometheus here, and Debian's cannot be had: {reason.strip()}")
    for folder in ("lists", "cache", "package"):
        shutil.rmtree(BUILD / folder)
    found = _unpacked()
    assert found is not None
    return found


def _run(command: list[str], folder: Path | None = None) -> None:
    subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, timeout=PATIENCE_S
    )
