"""Prometheus for tests: the one that is installed, or Debian's package unpacked under build/."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cache

from debian_package import unpacked


@dataclass(frozen=True)
class Programs:
    prometheus: str
    promtool: str


@cache
def programs() -> Programs:
    """Skips the test where there is no Prometheus and none can be had."""
    prometheus, promtool = shutil.which("prometheus"), shutil.which("promtool")
    if prometheus and promtool:
        return Programs(prometheus, promtool)
    bin_ = unpacked("prometheus") / "usr/bin"
    return Programs(str(bin_ / "prometheus"), str(bin_ / "promtool"))
