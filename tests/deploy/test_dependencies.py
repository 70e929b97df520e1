"""What is installed is what is pinned, to the last dependency; and it can be audited."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PIN = re.compile(r"([\w.-]+)==([\w.]+)")


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    stated = [line for line in lines if line.strip() and not line.startswith("#")]
    for line in stated:
        assert PIN.fullmatch(line.split(";")[0].strip()), f"{line!r} pins no version"
    found = [match.groups() for line in stated if (match := PIN.match(line))]
    counted = Counter(canonicalize_name(name) for name, _ in found)
    assert counted.most_common(1)[0][1] == 1, counted.most_common(1)
    return {canonicalize_name(name): version for name, version in found}


def installed() -> dict[str, str]:
    """Every distribution that `make install` brings, dependencies of dependencies among them."""
    extras = re.findall(r"^EXTRAS := (.*)", MAKEFILE, re.MULTILINE)[0].split(",")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    waiting = [Requirement(f"tureen[{','.join(extras)}]")]
    waiting += [Requirement(one) for one in project["dependency-groups"]["dev"]]
    seen: set[tuple[str, str]] = set()
    found: dict[str, str] = {}
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        for extra in ("", *asked.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                one = distribution(asked.name)
            except PackageNotFoundError:  # of another platform, or optional where it was asked for
                continue
            found[name] = one.version.split("+")[0]
            for text in one.requires or ():
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    waiting.append(needed)
    del found["tureen"]
    return found


def test_nothing_is_installed_that_is_not_pinned():
    stated, here = pins(), installed()
    assert len(here) > 100
    for name in ("setuptools", "pip", "wheel"):  # the environment's own
        here.pop(name, None)
    assert here == {name: stated.get(name) for name in here}


def test_the_audit_fails_where_it_cannot_look():
    """Without --strict pip-audit says of what it could not look up that no vulnerability is known."""
    recipe = MAKEFILE.split("\naudit:")[1].split("\n\n")[0]
    assert "pip-audit --strict" in recipe
    assert "--requirement constraints.txt" in recipe
    assert re.search(r"^\.PHONY:.* audit ", MAKEFILE, re.MULTILINE)
    assert re.search(r"'pip-audit==[\d.]+'", MAKEFILE)
