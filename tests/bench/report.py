"""Card and tables of a run, for reading; the JSON line is the same for machines."""

from __future__ import annotations

from typing import Any

from bench.plan import Part
from bench.ratios import TARGETS
from rich.console import Console
from rich.table import Table

_INLINE = 100  # characters of a detail that stand in the text; longer ones are in the JSON alone


def show(card: dict[str, Any], parts: dict[str, Part], ratios: dict[str, float | None]) -> None:
    console = Console(width=120, highlight=False)
    for key, value in card.items():
        console.print(f"{key:>20}  {value}")
    for name, part in parts.items():
        if part.rows:
            console.print(_table(name, part.rows))
        for key, value in part.details.items():
            if len(str(value)) <= _INLINE:
                console.print(f"{key:>20}  {value}")
    table = Table("ratio", "measured", "target", title="ratios", title_justify="left")
    for name, value in ratios.items():
        table.add_row(name, "not measured" if value is None else f"{value:.3f}", TARGETS[name])
    console.print(table)


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(title=title, title_justify="left")
    for column in columns:
        name = f"{column} ms" if column in ("p50", "p95", "p99") else column
        table.add_column(
            "" if column == "what" else name, justify="left" if column == "what" else "right"
        )
    for row in rows:
        table.add_row(*(str(row.get(column, "")) for column in columns))
    return table
