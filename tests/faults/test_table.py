"""The table of faults in service/README.md: it has every fault, and each row names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
FAULTS = (
    "the backend raises",
    "NaN or infinite",
    "out of memory",
    "thread dies",
    "device is gone",
    "disk is full",
    "clock jumps",
    "sends slowly",
    "does not read its answer",
    "half open",
    "SIGTERM under load",
    "kill -9",
)


def rows() -> list[list[str]]:
    """Fault, what the caller sees, metrics, health, tests."""
    page = (TESTS.parent / "service/README.md").read_text(encoding="utf-8")
    section = page.split("## What happens when…")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" |")] for line in table[1:]]
    assert all(len(row) == 5 for row in cells)
    return cells


def test_every_fault_has_a_row():
    faults = " / ".join(row[0] for row in rows())
    assert [fault for fault in FAULTS if fault not in faults] == []


def test_every_row_names_tests_that_exist():
    for fault, *_, tests in rows():
        file, named = "", 0
        for path, function in re.findall(r"`([\w/.…]+)::(\w+)`", tests):
            file = file if path == "…" else path
            text = (TESTS / file).read_text(encoding="utf-8")
            assert re.search(rf"^def {function}\(", text, re.MULTILINE), (fault, file, function)
            named += 1
        assert named, fault
