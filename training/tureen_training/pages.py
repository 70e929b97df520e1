"""Pages for people: one style, tables, plots inside the page, text in the colours of what its segments are worth.

What is called plain text is escaped here; HTML is left as it is.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

COLOURS: Final = 8
"""Series that a page can tell apart; a ninth has the colour of the first."""
_STYLE: Final = """
:root { color-scheme: light dark; --paper: light-dark(#fdfdfc, #16181b); --ink: light-dark(#1c1e21, #e4e6e8);
  --faint: light-dark(#62666d, #9ba1a8); --line: light-dark(#dfe1e4, #34383d); --raised: light-dark(#f4f5f6, #1e2125);
  --accent: light-dark(#1f5fa8, #7db4f0);
  --c0: light-dark(#1f5fa8, #7db4f0); --c1: light-dark(#c2500a, #f5a25d); --c2: light-dark(#1a7f4b, #63c08f);
  --c3: light-dark(#a3268f, #e08bd2); --c4: light-dark(#7a6a00, #cdbb3f); --c5: light-dark(#b3202c, #f0868e);
  --c6: light-dark(#5b4bb5, #a99cf0); --c7: light-dark(#27788a, #6cc3d5); }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76em; margin: 0 auto; padding: 1.5em 1.25em 4em;
  background: var(--paper); color: var(--ink); }
h1 { font-size: 1.9em; margin: .4em 0 .3em; letter-spacing: -.01em; }
h2 { margin: 2.2em 0 .3em; padding-top: .5em; border-top: 2px solid var(--line); }
h3 { margin: 1.4em 0 .3em; font-size: 1.05em; }
a { color: var(--accent); } td a { text-decoration: none; } td a:hover { text-decoration: underline; }
p, li { max-width: 60em; }
nav ul { display: flex; flex-wrap: wrap; gap: .3em 1.1em; list-style: none; margin: .6em 0; padding: 0; }
.scroll { overflow-x: auto; margin: .6em 0 1em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .3em .8em; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { vertical-align: bottom; border-bottom: 2px solid var(--line); background: var(--raised); }
td:first-child, th:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
thead th:first-child { background: var(--raised); } th { max-width: 14em; overflow-wrap: anywhere; }
td:first-child { min-width: 11em; }
tbody tr:hover > * { background: var(--raised); }
tr.part > th { padding-top: 1em; text-align: left; font-size: 1.05em; }
td.words, th.words { text-align: left; min-width: 14em; color: var(--faint); font-size: .9em; }
.value { font-weight: 600; } .interval { display: block; white-space: nowrap; font-size: .82em; }
.context, .interval, .about, figcaption { color: var(--faint); } .about { font-weight: normal; }
code { font-size: .9em; } .text { white-space: pre-wrap; } .text span { padding: .1em 0; }
img { max-width: 100%; } .gallery { display: grid; gap: 1em; margin: 1em 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21em), 1fr)); }
figure { margin: 0; } figure img { background: #fff; border: 1px solid var(--line); border-radius: 4px; }
details { margin: .6em 0; } summary { cursor: pointer; color: var(--accent); }
details pre { white-space: pre-wrap; background: var(--raised); padding: .8em 1em; border-radius: 4px; }
.swatch { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .4em; }
.ranges { display: block; } .ranges .mark { stroke: var(--faint); stroke-dasharray: 2 2; }
@media print { .scroll { overflow: visible; } nav { display: none; } }
""" + "\n".join(
    f".s{n} {{ background: var(--c{n}); }} .ranges .s{n} {{ stroke: var(--c{n}); fill: var(--c{n}); }}"
    for n in range(COLOURS)
)


def page(title: str, parts: Iterable[str]) -> str:
    """A whole document of parts that are HTML already. title: plain text."""
    head = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
    )
    return "\n".join([head, f"<style>{_STYLE}</style>", "<main>", *parts, "</main></html>\n"])


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """header, rows: plain text."""
    return html_table(map(escape, header), (map(escape, row) for row in rows))


def html_table(
    header: Iterable[str], rows: Iterable[Iterable[str] | str], words: Sequence[int] = ()
) -> str:
    """header, cells: HTML. A row that is one text is a heading over the rows below it. words: columns of prose."""
    names = list(header)

    def cells(kind: str, row: Iterable[str]) -> str:
        return "".join(
            f"<{kind}{' class=words' if n in words else ''}>{cell}</{kind}>"
            for n, cell in enumerate(row)
        )

    body = "".join(
        f"<tr class=part><th colspan={len(names)}>{row}</th></tr>"
        if isinstance(row, str)
        else f"<tr>{cells('td', row)}</tr>"
        for row in rows
    )
    head = f"<thead><tr>{cells('th', names)}</tr></thead>"
    return f"<div class=scroll><table>{head}<tbody>{body}</tbody></table></div>"


def bullets(items: Iterable[str]) -> str:
    """items: plain text; nothing of none."""
    lines = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<ul>{lines}</ul>" if lines else ""


def contents(sections: Mapping[str, str]) -> str:
    """Links to what stands below. sections: id -> its name, plain text."""
    links = "".join(f"<li><a href='#{escape(i)}'>{escape(n)}</a></li>" for i, n in sections.items())
    return f"<nav aria-label=Contents><ul>{links}</ul></nav>"


def folded(summary: str, text: str) -> str:
    """Plain text behind its summary, a click away; nothing of nothing."""
    if not text.strip():
        return ""
    return (
        f"<details><summary>{escape(summary)}</summary><pre>{escape(text.strip())}</pre></details>"
    )


def picture(path: Path, caption: str = "") -> str:
    """A PNG inside the page, so that the page is one file. caption: plain text."""
    data = base64.b64encode(path.read_bytes()).decode()
    image = f'<img src="data:image/png;base64,{data}" alt="{escape(caption or path.stem)}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def gallery(pictures: Iterable[str]) -> str:
    """Pictures side by side; nothing of none."""
    found = "".join(pictures)
    return f"<div class=gallery>{found}</div>" if found else ""


def swatch(place: int) -> str:
    """A dot in the colour of a series. place: from 0."""
    return f"<span class='swatch s{place % COLOURS}'></span>"


class Range(NamedTuple):
    """A value with its interval. place: of the series that it belongs to, from 0. name: plain text."""

    place: int
    name: str
    value: float
    low: float
    high: float


def ranges(drawn: Sequence[Range], marks: Mapping[str, float]) -> str:
    """Intervals below each other on one scale, marks as dashed lines; nothing where all numbers are the same.

    Args:
        marks: name, plain text -> its value.
    """
    numbers = [n for one in drawn for n in (one.low, one.high)] + list(marks.values())
    if not drawn or max(numbers) == min(numbers):
        return ""
    first, width, margin, row = min(numbers), 160, 5, 8
    scale = (width - 2 * margin) / (max(numbers) - first)
    height = row * len(drawn) + 4

    def x(value: float) -> str:
        return f"{margin + (value - first) * scale:.1f}"

    shapes = [
        f"<line class=mark x1={x(v)} x2={x(v)} y1=0 y2={height}><title>{escape(name)} {v:.3f}</title></line>"
        for name, v in marks.items()
    ]
    for n, one in enumerate(drawn):
        y = row * n + row / 2 + 2
        about = f"{one.name} {one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
        shapes.append(
            f"<g class=s{one.place % COLOURS}><title>{escape(about)}</title>"
            f"<line x1={x(one.low)} x2={x(one.high)} y1={y} y2={y} stroke-width=2 />"
            f"<circle cx={x(one.value)} cy={y} r=3 /></g>"
        )
    return (
        f"<svg class=ranges width={width} height={height} role=img aria-label='intervals and baselines'>"
        f"{''.join(shapes)}</svg>"
    )


def coloured(text: str, segments: Sequence[Sequence[Any]]) -> str:
    """The text as HTML, each piece between two ends of segments in the colour of what its segments are worth.

    Segments of the whole response are left out: they would colour every piece alike.

    Args:
        segments: (name, start, end, worth) each.
    """
    pieces = [s for s in segments if (s[1], s[2]) != (0, len(text))]
    edges = sorted({0, len(text), *(edge for s in pieces for edge in s[1:3])})
    html = []
    for start, end in pairwise(edges):
        over = [s for s in pieces if s[1] <= start and end <= s[2]]
        worth = sum(s[3] for s in over)
        hue, depth = (0 if worth < 0 else 120), min(1.0, abs(worth)) * 0.5
        title = ", ".join(f"{s[0]} {s[3]:+.2f}" for s in over)
        html.append(
            f'<span title="{escape(title)}" style="background:hsla({hue},70%,50%,{depth:.2f})">'
            f"{escape(text[start:end])}</span>"
        )
    return "".join(html)
