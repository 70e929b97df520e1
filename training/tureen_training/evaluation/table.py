"""Figures for people, on stderr: stdout belongs to the JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from tureen_training.metrics import Figure

WIDTH = 120  # where stderr is no terminal and so has no width of its own


def print_table(title: str, figures: Mapping[str, Figure], notes: Sequence[str]) -> None:
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=True, highlight=False, width=WIDTH)
    table = Table(title=title, title_justify="left", caption_justify="left", box=None)
    table.add_column("figure", no_wrap=True)
    for name in ("value", "95 % interval", "n", "prompts"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("what reads nothing gets")
    for name, figure in figures.items():
        table.add_row(
            name,
            f"{figure.value:.3f}",
            # resampling one prompt gives the same again, which says nothing
            f"{figure.low:.3f} – {figure.high:.3f}" if figure.prompts > 1 else "",
            str(figure.n),
            str(figure.prompts),
            " · ".join(f"{who} {value:.3f}" for who, value in figure.baselines.items()),
        )
    console.print(table)
    for note in notes:
        console.print(f"note: {note}", style="dim", markup=False)
