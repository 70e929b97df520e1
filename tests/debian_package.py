"""Files of a Debian package for tests, unpacked under build/, which git ignores.

Unpacking needs neither root nor a service, and changes nothing else of the machine.
"""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

BUILD = Path(__file__).resolve().parents[1] / "build"
PATIENCE_S = 120


@cache
def unpacked(package: str) -> Path:
    """Where the package's files lie, as under /; skips the test where it cannot be had."""
    build = BUILD / package
    root = build / "root"
    if root.is_dir():
        return root
    missing = [name for name in ("apt-get", "dpkg-deb") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"there is no {package} here, and no {missing[0]} to get Debian's; install it")
    for folder in ("lists/partial", "cache/archives/partial", "package"):
        (build / folder).mkdir(parents=True, exist_ok=True)
    apt = ["apt-get", "-qq", "-o", f"Dir::State::lists={build / 'lists'}"]
    apt += ["-o", f"Dir::Cache={build / 'cache'}", "-o", "APT::Sandbox::User="]
    try:
        run([*apt, "update"])
        run([*apt, "download", package], build / "package")
        archive = next((build / "package").glob(f"{package}_*.deb"))
        run(["dpkg-deb", "--extract", str(archive), str(build / "unfinished")])
    except (subprocess.SubprocessError, OSError, StopIteration) as error:
        reason = getattr(error, "stderr", None) or str(error)
        pytest.skip(f"there is no {package} here, and Debian's cannot be had: {reason.strip()}")
    (build / "unfinished").rename(root)
    for folder in ("lists", "cache", "package"):
        shutil.rmtree(build / folder)
    return root


def run(command: list[str], folder: Path | None = None, patience_s: float = PATIENCE_S) -> None:
    """Raises subprocess.SubprocessError, with what the command wrote to stderr."""
    subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, timeout=patience_s
    )
