"""The page of stage `report`: an overview, then each suite with all its figures, then the circumstances of each run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

from tureen_training import pages
from tureen_training.evaluation.caveats import CAVEATS
from tureen_training.evaluation.headlines import HEADLINES, Headline
from tureen_training.evaluation.radar import draw_radar

Figures = Mapping[str, Mapping[str, Any]]
SHOWN = 12
"""Characters of a fingerprint; all of it stands in report.json and where the pointer rests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One report.json. judged: names of all that was judged. name: that, told apart from others of its suite."""

    name: str
    judged: str
    directory: Path
    sha256: str
    report: Mapping[str, Any]

    @property
    def figures(self) -> Figures:
        return self.report["figures"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: a run, or one system of it."""

    name: str
    figures: Figures


Suites = Mapping[str, Sequence[Run]]


def html(suites: Suites, versions: Mapping[str, str], out: Path) -> str:
    """The page. out: where its radar plots are kept as well."""
    links = {"overview": "Overview", **{suite: suite for suite in suites}}
    parts = [
        "<h1>Evaluation</h1>",
        f"<p>{sum(map(len, suites.values()))} runs of {len(suites)} suites. A cell has the value, below it the 95 % "
        "interval (bootstrap over prompts) and the number of observations; beside it all intervals of its row on one "
        "scale, with what predictors get that <b>read nothing</b> as dashed lines: a figure near them says little. "
        "An interval without width says that the prompts agreed, not that others would. Interval against interval is a "
        "cautious comparison.</p>",
        pages.contents({**links, "circumstances": "Circumstances"}),
        "<h2 id=overview>Overview</h2>",
        *_overview(suites),
    ]
    for suite, runs in suites.items():
        parts += _section(suite, runs, out)
    parts += [
        "<h2 id=circumstances>Circumstances</h2>",
        pages.html_table(
            _CIRCUMSTANCES, _circumstances(suites), words=(1, len(_CIRCUMSTANCES) - 1)
        ),
        f"<p class=about>This page was made with {_listed(versions)}.</p>",
    ]
    return pages.page("Tureen: evaluation", parts)


# --- overview ---


def _overview(suites: Suites) -> Iterator[str]:
    """One table for each kind of thing that was judged: a row a headline, a column a model."""
    kinds: dict[str, dict[str, dict[str, Run]]] = {}
    for suite, runs in suites.items():
        for run in runs:
            kind = " with ".join(judged["what"] for judged in run.report["judged"])
            kinds.setdefault(kind, {}).setdefault(run.judged, {}).setdefault(suite, run)
    for kind, models in kinds.items():
        rows = list(_headline_rows(models))
        if rows:
            header = ["", "", *_names(models), "read nothing"]
            table = pages.html_table(header, rows, words=(len(header) - 1,))
            yield f"<h3>{escape(kind[:1].upper() + kind[1:])}</h3>{table}"


def _headline_rows(models: Mapping[str, Mapping[str, Run]]) -> Iterator[list[str] | str]:
    for part, headlines in HEADLINES.items():
        rows = [
            [
                f"<a href='#{escape(headline.suite)}'>{escape(headline.name)}</a>",
                *_cells(list(models), own),
            ]
            for headline in headlines
            if any(own := _of(headline, models))
        ]
        if rows:
            yield escape(part)
            yield from rows


def _of(
    headline: Headline, models: Mapping[str, Mapping[str, Run]]
) -> list[Mapping[str, Any] | None]:
    runs = [own.get(headline.suite) for own in models.values()]
    return [run and run.figures.get(headline.figure) for run in runs]


# --- a suite ---


def _section(suite: str, runs: Sequence[Run], out: Path) -> Iterator[str]:
    reports = [run.report for run in runs]
    about = next((r["about"] for r in reports if "about" in r), "")
    definitions = next((r["definitions"] for r in reports if "definitions" in r), "")
    columns = [column for run in runs for column in columns_of(run, alone=len(runs) == 1)]
    header = ["figure", "", *_names([c.name for c in columns]), "read nothing"]
    yield f"<h2 id='{escape(suite)}'>{escape(suite)} <span class=about>{escape(about)}</span></h2>"
    yield pages.folded("What the figures are", definitions)
    yield pages.html_table(header, rows(columns), words=(len(header) - 1,))
    yield f"<p><b>What this does not mean.</b> {escape(CAVEATS.get(suite, ''))}</p>"
    yield pages.bullets(_notes(runs))
    yield pages.gallery(_pictures(suite, runs, out))
    for run in runs:
        yield from _material(run)


_SYSTEM: Final = re.compile(
    r"(heads/)?(.+?)/((?:skill|ability|difficulty|domain|hard)/.+|na_rate|no_verdict)"
)
"""A figure of the suite flask, which judges several systems in one run."""


def columns_of(run: Run, *, alone: bool) -> list[Column]:
    """The run, or a column for each system that it judged. alone: whether no other run stands beside it."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, figure in run.figures.items():
        match = _SYSTEM.fullmatch(name) if run.report["suite"] == "flask" else None
        system, key = (
            (f"{match[2]}{' by heads' if match[1] else ''}", match[3]) if match else ("", name)
        )
        found.setdefault(system, {})[key] = figure
    return [
        Column(system if alone and system else ", ".join(filter(None, (system, run.name))), figures)
        for system, figures in found.items()
    ]


def rows(columns: Sequence[Column]) -> Iterator[list[str] | str]:
    """A row a figure that any column has, in the order of the first that has it; KIND/NAME stands below KIND."""
    part = ""
    for name in dict.fromkeys(name for column in columns for name in column.figures):
        kind, _, rest = name.rpartition("/")
        if kind and kind != part:
            yield escape(kind)
        part = kind
        own = [column.figures.get(name) for column in columns]
        yield [f"<code>{escape(rest)}</code>", *_cells([c.name for c in columns], own)]


def _cells(names: Sequence[str], figures: Sequence[Mapping[str, Any] | None]) -> list[str]:
    """The intervals on one scale, then a cell a figure, then what reads nothing."""
    trivial: dict[str, list[float]] = {}
    for figure in figures:
        for who, value in (figure or {}).get("baselines", {}).items():
            trivial.setdefault(who, []).append(value)
    drawn = [
        pages.Range(place, name, figure["value"], figure["low"], figure["high"])
        for place, (name, figure) in enumerate(zip(names, figures, strict=True))
        if figure is not None
    ]
    marks = {who: sum(values) / len(values) for who, values in trivial.items()}
    said = " · ".join(f"{who} {_span(values)}" for who, values in trivial.items())
    return [pages.ranges(drawn, marks), *map(cell, figures), escape(said)]


def cell(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "–"
    interval = f"[{figure['low']:.3f}, {figure['high']:.3f}]"
    if figure["prompts"] < 2:  # resampling one prompt gives the same again, which says nothing
        interval = "one prompt, no interval,"
    return (
        f"<span class=value>{figure['value']:.3f}</span> "
        f"<span class=interval>{interval} n {figure['n']}</span>"
    )


def _span(values: Sequence[float]) -> str:
    """One number, or from … to where runs saw different prompts."""
    low, high = f"{min(values):.3f}", f"{max(values):.3f}"
    return low if low == high else f"{low} … {high}"


def _names(names: Mapping[str, Any] | Sequence[str]) -> list[str]:
    return [f"{pages.swatch(place)}{escape(name)}" for place, name in enumerate(names)]


def _notes(runs: Sequence[Run]) -> Iterator[str]:
    """Each note once, with the runs that it is of."""
    of: dict[str, list[str]] = {}
    for run in runs:
        for note in run.report.get("notes", ()):
            of.setdefault(note, []).append(run.name)
    for note, names in of.items():
        everywhere = len(names) == len(runs) > 1
        yield f"{'all runs' if everywhere else ', '.join(names)}: {note}"


def _pictures(suite: str, runs: Sequence[Run], out: Path) -> Iterator[str]:
    """One radar of all runs that have one; their own other plots."""
    for key, scale in (("radar", (1.0, 5.0)), ("heads/radar", None)):
        having = [run for run in runs if key in run.report]
        systems = {
            system if len(having) == 1 else f"{system}, {run.name}": skills
            for run in having
            for system, skills in run.report[key].items()
        }
        path = out / f"{suite}-{key.replace('/', '-')}.png"
        draw_radar(systems, path, scale)
        if systems and path.is_file():
            yield pages.picture(path, "skills, by heads" if scale is None else "skills")
    for run in runs:
        for path in sorted(run.directory.glob("*.png")):
            if "radar" not in path.stem:
                yield pages.picture(path, f"{run.name}: {path.stem}")


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
    summary = (
        f"{votes}; rewards {one['standard_deviations']:.2f} standard deviations apart: "
        f"{_begun(one['prompt'])}"
    )
    return (
        f"<details><summary>{escape(summary)}</summary><p class='context text'>{escape(one['prompt'])}</p>"
        f"<p class=text><b>first</b> {escape(one['first'])}</p>"
        f"<p class=text><b>second</b> {escape(one['second'])}</p></details>"
    )


def _begun(text: str, most: int = 90) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most].rstrip()}…"


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


# --- circumstances ---

_CIRCUMSTANCES: Final = [
    "run",
    "judged",
    "fingerprint",
    "split",
    "limit",
    "seed",
    "versions, settings",
]
_SETTINGS: Final = (
    "form",
    "prompt",
    "request",
    "qa_instruction",
    "sampling",
    "responses_per_prompt",
    "rubric",
    "rubrics",
)
"""Facts of a report that say how it was asked."""


def _circumstances(suites: Suites) -> Iterator[list[str]]:
    for suite, runs in suites.items():
        for run in runs:
            report = run.report
            settings = {key: json.dumps(report[key]) for key in _SETTINGS if key in report}
            limit = report.get("limit")
            for judged in report["judged"]:
                yield [
                    escape(f"{suite}: {run.name}"),
                    escape(f"{judged['what']} {judged['name']}"),
                    _fingerprint(str(judged["fingerprint"])),
                    escape(str(report.get("split", "–"))),
                    "none" if limit is None else str(limit),
                    escape(str(report.get("seed", "–"))),
                    escape(_listed({**report.get("versions", {}), **settings})),
                ]


def _fingerprint(whole: str) -> str:
    """Shortened, where it is a hash; of two hashes each."""
    short = re.sub(rf"\b([0-9a-f]{{{SHOWN}}})[0-9a-f]+\b", r"\1", whole)
    return f"<code title='{escape(whole)}'>{escape(short)}</code>"


def _listed(named: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in named.items())
