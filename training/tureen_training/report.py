"""Stage `report`: one page of any set of evaluated runs, `report.html`, and the same as `report.json`.

Reads every report.json below the directories that `evaluate --out` wrote. First an overview by what the figures answer:
honest, helpful, harmless, hard to fool, and what alignment cost. Then one table a suite: a row a figure, a column a run
with value, 95 % interval and n, and what reads nothing beside it; what the figures are and do not mean, notes, plots,
disagreements and critiques. Last the circumstances of each run: what was judged, fingerprint, split, seed, versions.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tureen
from tureen.model.files import write_atomically
from tureen_training.evaluation.caveats import CAVEATS
from tureen_training.report_page import Run, html

PACKAGES = ("torch", "transformers", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Make one page of evaluated runs.

    runs: directories that `evaluate --out` wrote, or that hold such. out: directory for report.html and report.json.
    """

    runs: tuple[str, ...]
    out: str


def main(config: Config) -> dict[str, Any]:
    """Read, write, return what report.json holds.

    Raises:
        FileNotFoundError: a directory holds no report.json. ValueError: one is not of `evaluate`.
    """
    suites = collected([Path(run) for run in config.runs])
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    record = as_record(suites)
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(out / "report.json", text + "\n")
    write_atomically(out / "report.html", html(suites, record["versions"], out))
    counts = ", ".join(f"{name} ({len(runs)})" for name, runs in suites.items())
    print(f"{out / 'report.html'}: {counts}")  # noqa: T201 - the answer of the command
    return record


def collected(directories: Sequence[Path]) -> dict[str, list[Run]]:
    """Suite -> its runs, in the order given; each report once."""
    suites: dict[str, list[tuple[Path, bytes, Mapping[str, Any]]]] = {}
    seen: set[Path] = set()
    for directory in directories:
        found = sorted(directory.rglob("report.json"))
        if not found:
            raise FileNotFoundError(
                f"{directory} holds no report.json; give directories that `evaluate --out` wrote"
            )
        for path in found:
            raw = path.read_bytes()
            report = _parsed(path, raw)
            if report is not None and path.resolve() not in seen:
                seen.add(path.resolve())
                suites.setdefault(report["suite"], []).append((path.parent, raw, report))
    if not suites:
        raise ValueError(f"no report.json in {', '.join(map(str, directories))} is of `evaluate`")
    return {suite: _named(runs) for suite, runs in suites.items()}


def _parsed(path: Path, raw: bytes) -> Mapping[str, Any] | None:
    """None of a report that this stage made."""
    try:
        report = json.loads(raw)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); remove it or evaluate again") from None
    if isinstance(report, dict) and "suites" in report:
        return None
    if not isinstance(report, dict) or not {"suite", "judged", "figures"} <= set(report):
        raise ValueError(f"{path} is no report of `evaluate`; give directories that it wrote")
    return report


def _named(runs: Sequence[tuple[Path, bytes, Mapping[str, Any]]]) -> list[Run]:
    """By what was judged; where that is the same, by split and directory too."""
    names = [" · ".join(judged["name"] for judged in report["judged"]) for _, _, report in runs]
    return [
        Run(
            judged=name,
            name=name
            if names.count(name) == 1
            else f"{name} ({report['split']}, {directory.name})",
            directory=directory,
            sha256=hashlib.sha256(raw).hexdigest(),
            report=report,
        )
        for name, (directory, raw, report) in zip(names, runs, strict=True)
    ]


def as_record(suites: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    return {
        "versions": versions(),
        "suites": {
            suite: {
                "does_not_mean": CAVEATS.get(suite, ""),
                "runs": [
                    {"name": run.name, "report_sha256": run.sha256, **run.report} for run in runs
                ],
            }
            for suite, runs in suites.items()
        },
    }


def versions() -> dict[str, str]:
    """Of what runs now: of this page, and of a run in its own report.json."""
    found = {"tureen": tureen.__version__, "python": platform.python_version()}
    return found | {name: importlib.metadata.version(name) for name in PACKAGES}
