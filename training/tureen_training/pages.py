"""Pages for people: one style, tables, plots inside the page, text in the colours of what its segments are worth."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; } td, th { padding: .2em .8em; text-align: right; border-bottom: 1px solid #ccc; }
td:first-child, th:first-child { text-align: left; } img { max-width: 100%; }
.context, .interval { color: #666; } .text span { padding: .1em 0; } h3 { margin-bottom: 0; }
.scroll { overflow-x: auto; } .text { white-space: pre-wrap; }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole document of parts that are HTML already. title: plain text."""
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
    return "\n".join([head, f"<style>{_STYLE}</style>", *parts, "</html>\n"])


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """header, rows: plain text."""
    first = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<div class=scroll><table><tr>{first}</tr>{body}</table></div>"


def bullets(items: Iterable[str]) -> str:
    """items: plain text; nothing of none."""
    lines = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<ul>{lines}</ul>" if lines else ""


def picture(path: Path) -> str:
    """A PNG inside the page, so that the page is one file."""
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<p><img src="data:image/png;base64,{data}" alt="{escape(path.stem)}"></p>'


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
