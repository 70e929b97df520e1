"""What demo `alarms` makes of its figures: table and verdicts, plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tureen_training import plots

LEAST_DETECTED: Final = 0.9
MOST_FALSE: Final = 0.1


def draw(report: dict[str, Any], path: Path) -> None:
    """Gold and reward over the run; a mark where the watch first speaks."""
    figure, panels = plots.panels(2)
    for axes, kind in zip(panels, ("collapsed", "healthy"), strict=True):
        axes.set(xlabel="step", ylabel="gold", title=f"{kind} runs")
        for curve in report["curves"]:
            if curve["kind"] != kind:
                continue
            axes.plot(curve["steps"], curve["gold"], color="tab:blue", alpha=0.4)
            if curve["alarm"] is not None:
                at = curve["steps"].index(curve["alarm"])
                axes.plot(curve["alarm"], curve["gold"][at], "o", color="tab:red")
    plots.save(figure, path)


def show(report: dict[str, Any], console: Console, out: Path) -> None:
    rates = "in_time", "detected", "false", "gold"
    table = Table()
    table.add_column("limits", overflow="fold")
    for name in ("in time", "at all", "false", "gold itself", "after the peak, gold then"):
        table.add_column(name)

    def told(rate: dict[str, float] | None) -> str:
        if rate is None:
            return "–"
        return f"{rate['value']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}] of {rate['runs']:.0f}"

    def add(name: str, row: dict[str, Any]) -> None:
        after, then = row["after_peak"], row["gold_by_then"]
        when = "–" if after is None else f"{after:+.0f} steps, {then:.0%}"
        table.add_row(name, *(told(row[n]) for n in rates), when)

    add("as fitted: the first below", report["fitted"])
    add("as shipped", report["shipped"])
    for row in report["figures"]:
        side = "above" if row["above"] is not None else "below"
        start = " × start" if row["of_start"] else ""
        add(f"{row['figure']} {side} {row[side]:.3g}{start}, AUROC {row['auroc'] or 0:.2f}", row)
    console.print(table)
    found = report["fitted"]
    for name, rate, met in (
        ("in time", found["in_time"], lambda x: x["value"] >= LEAST_DETECTED),
        ("false alarms", found["false"], lambda x: x["value"] <= MOST_FALSE),
    ):
        console.print(f"{name}: {'met' if rate and met(rate) else 'NOT MET'}")
    console.print(f"curves: {out / 'alarms.png'}, figures: {out / 'alarms.json'}")
