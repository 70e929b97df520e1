"""Stage `report`: one page of any set of evaluated runs, `report.html`, and the same as `report.json`.

Reads every report.json below the directories that `evaluate --out` wrote. One table a suite: a row a figure, a column a
run with value, 95 % interval and n, and what reads nothing beside it; then plots, disagreements and critiques, notes,
and what the figures do not mean. Last the circumstances of each run: what was judged, fingerprint, split, seed,
versions.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import tureen
from tureen.model.files import write_atomically
from tureen_training import pages
from tureen_training.evaluation.caveats import CAVEATS
from tureen_training.evaluation.radar import draw_radar

PACKAGES = ("torch", "transformers", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Make one page of evaluated runs.

    runs: directories that `evaluate --out` wrote, or that hold such. out: directory for report.html and report.json.
    """

    runs: tuple[str, ...]
    out: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One report.json. name: unique in its suite."""

    name: str
    directory: Path
    sha256: str
    report: Mapping[str, Any]

    @property
    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        return self.report["figures"]


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
    write_atomically(out / "report.html", html(suites, record, out))
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
    """Of what made this page; each run says its own."""
    found = {"tureen": tureen.__version__, "python": platform.python_version()}
    return found | {name: importlib.metadata.version(name) for name in PACKAGES}


def html(suites: Mapping[str, Sequence[Run]], record: Mapping[str, Any], out: Path) -> str:
    parts = [
        "<h1>Evaluation</h1>",
        "<p>Each cell: value, 95 % interval (bootstrap over prompts), number of observations. “Reads nothing” is what "
        "predictors get that look at no meaning: a figure near them says little.</p>",
    ]
    for suite, runs in suites.items():
        parts += [
            f"<h2>{escape(suite)}</h2>",
            pages.table(["figure", *(run.name for run in runs), "reads nothing"], rows(runs)),
            *_pictures(suite, runs, out),
            *(part for run in runs for part in _material(run)),
            f"<p><b>What this does not mean.</b> {escape(CAVEATS.get(suite, ''))}</p>",
            pages.bullets(
                f"{run.name}: {note}" for run in runs for note in run.report.get("notes", ())
            ),
        ]
    parts += ["<h2>Circumstances</h2>", pages.table(_CIRCUMSTANCES, _circumstances(suites))]
    parts.append(
        pages.table(["made with", ""], [[name, v] for name, v in record["versions"].items()])
    )
    return pages.page("Tureen: evaluation", parts)


def rows(runs: Sequence[Run]) -> Iterator[list[str]]:
    """A row a figure that any run has, in the order of the first that has it."""
    for name in dict.fromkeys(name for run in runs for name in run.figures):
        own = [run.figures.get(name) for run in runs]
        trivial: dict[str, list[float]] = {}
        for figure in own:
            for who, value in (figure or {}).get("baselines", {}).items():
                trivial.setdefault(who, []).append(value)
        yield [name, *map(cell, own), " · ".join(f"{who} {_span(v)}" for who, v in trivial.items())]


def cell(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "–"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}] n {figure['n']}"


def _span(values: Sequence[float]) -> str:
    """One number, or from … to where runs saw different prompts."""
    low, high = f"{min(values):.3f}", f"{max(values):.3f}"
    return low if low == high else f"{low} … {high}"


def _pictures(suite: str, runs: Sequence[Run], out: Path) -> Iterator[str]:
    """One radar of all runs that have one; their own other plots."""
    for key, scale in (("radar", (1.0, 5.0)), ("heads/radar", None)):
        systems = {
            system if len(runs) == 1 else f"{system}, {run.name}": skills
            for run in runs
            for system, skills in run.report.get(key, {}).items()
        }
        path = out / f"{suite}-{key.replace('/', '-')}.png"
        draw_radar(systems, path, scale)
        if systems and path.is_file():
            yield pages.picture(path)
    for run in runs:
        for path in sorted(run.directory.glob("*.png")):
            if "radar" not in path.stem:
                yield f"<h3>{escape(run.name)}: {escape(path.stem)}</h3>{pages.picture(path)}"


def _material(run: Run) -> Iterator[str]:
    """What a person should look at: disagreements and critiques."""
    if found := run.report.get("disagreements"):
        yield (
            f"<h3>{escape(run.name)}: {found['found']} of {found['items']} pairs on which the reward "
            "contradicts people or judge, the surest first</h3>"
        )
        yield from map(_disagreement, found["first"])
    if critiques := run.report.get("critiques"):
        yield f"<h3>{escape(run.name)}: critiques by segment</h3>"
        yield from map(_critique, critiques)


def _disagreement(one: Mapping[str, Any]) -> str:
    votes = ", ".join(f"{voice}: {vote}" for voice, vote in one["votes"].items())
    return (
        f"<p class=context>{escape(one['prompt'])}</p><p class=text><b>first</b> {escape(one['first'])}</p>"
        f"<p class=text><b>second</b> {escape(one['second'])}</p>"
        f"<p>{escape(votes)}; rewards {one['standard_deviations']:.2f} standard deviations apart</p>"
    )


def _critique(one: Mapping[str, Any]) -> str:
    """Coloured by what the heads say; below it what the judge found."""
    text = "".join(segment["text"] for segment in one["segments"])
    marks, place = [], 0
    for segment in one["segments"]:
        end = place + len(segment["text"])
        marks += [
            (name, place, end, head["calibrated"] / 2)
            for name, head in segment.get("heads", {}).items()
        ]
        place = end
    findings = [
        f"“{segment['text'].strip()}”: {segment['judge']['fault']} {segment['judge']['reason']}".strip()
        for segment in one["segments"]
        if segment.get("judge", {}).get("fault", "ok") != "ok"
    ]
    return (
        f"<p class=context>{escape(one['prompt'])}</p><p class=text>{pages.coloured(text, marks)}</p>"
        f"{pages.bullets(findings)}"
    )


_CIRCUMSTANCES = ["run", "judged", "fingerprint", "split", "limit", "seed", "tureen"]


def _circumstances(suites: Mapping[str, Sequence[Run]]) -> Iterator[list[str]]:
    for suite, runs in suites.items():
        for run in runs:
            for judged in run.report["judged"]:
                yield [
                    f"{suite}: {run.name}",
                    f"{judged['what']} {judged['name']}",
                    str(judged["fingerprint"]),
                    *(
                        str(run.report.get(key, "–"))
                        for key in ("split", "limit", "seed", "version")
                    ),
                ]
