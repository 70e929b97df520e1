"""What demo `warm` makes of its figures: criteria and verdicts, tables, plots."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from tureen_training import connectivity, plots
from tureen_training.connectivity import Line

ALIKE: Final = 0.01
"""Without noise soup and ensemble are alike: the interval of their difference lies within one point."""
CRITERIA: Final = {
    "corrupt": "25 % swapped: soup − ensemble on swapped training pairs, interval below 0",
    "clean": "25 % swapped: soup − ensemble on clean training pairs, interval at or below 0",
    "held-out": "25 % swapped: soup − ensemble on held-out pairs, interval at or above 0",
    "shifted": "25 % swapped: soup − ensemble on shifted pairs, interval at or above 0",
    "no noise, held-out": "0 % swapped: soup − ensemble within ±1 point",
    "no noise, shifted": "0 % swapped: soup − ensemble within ±1 point",
    "chord, held-out": "accuracy − chord between two members, at its lowest λ: interval at or above 0",
    "chord, shifted": "accuracy − chord between two members, at its lowest λ: interval at or above 0",
    "connected": "the check refuses no soup of one pretraining",
    "control": "the check refuses every soup of different pretrainings",
}
"""When a claim counts as reproduced. Intervals: 95 %, bootstrap over seeds and pairs."""

CLAIMED: Final = 0.25
"""Share of swapped labels of the claim."""
PARTS: Final = ("corrupt", "clean", "held-out", "shifted")


@dataclass(frozen=True, slots=True)
class Interval:
    value: float
    low: float
    high: float


def judged(
    sweep: dict[tuple[float, str], Interval],
    chords: dict[str, list[Interval]],
    refusals: dict[str, list[str | None]],
) -> list[dict[str, Any]]:
    """The criteria above, one by one."""
    figures = {part: sweep[CLAIMED, part] for part in PARTS}
    figures |= {f"no noise, {part}": sweep[0.0, part] for part in PARTS[2:]}
    figures |= {
        f"chord, {part}": min(along, key=lambda interval: interval.low)
        for part, along in chords.items()
    }
    passed = {
        "corrupt": figures["corrupt"].high < 0,
        "clean": figures["clean"].high <= 0,
        **{part: figures[part].low >= 0 for part in PARTS[2:]},
        **{
            name: max(abs(figure.low), abs(figure.high)) <= ALIKE
            for name, figure in figures.items()
            if name.startswith("no noise")
        },
        **{name: figures[name].low >= 0 for name in figures if name.startswith("chord")},
        "connected": not any(refusals["connected"]),
        "control": all(refusals["control"]),
    }
    counts = {
        name: f"{sum(r is not None for r in said)} of {len(said)} refused"
        for name, said in refusals.items()
    }
    return [
        {
            "claim": name,
            "criterion": criterion,
            "figure": dataclasses.asdict(figures[name]) if name in figures else counts[name],
            "reproduced": bool(passed[name]),
        }
        for name, criterion in CRITERIA.items()
    ]


def show(report: dict[str, Any], console: Console, out: Path) -> None:
    figures = Table("swapped", "pairs", "soup", "ensemble", "members", "soup − ensemble, 95 %")
    for row in report["sweep"]:
        figures.add_row(
            f"{row['noise']:.0%}",
            row["part"],
            *(f"{row[name]:.3f}" for name in ("soup", "ensemble", "member")),
            shown(row["soup_minus_ensemble"]),
        )
    console.print(figures)
    claims = Table("claim", "counts as reproduced if", "figure", "")
    for claim in report["claims"]:
        claims.add_row(
            claim["claim"],
            claim["criterion"],
            claim["figure"] if isinstance(claim["figure"], str) else shown(claim["figure"]),
            "reproduced" if claim["reproduced"] else "[bold]not reproduced[/]",
        )
    console.print(claims)
    control, spent = report["control"]["accuracy"]["shifted"], report["cost"]
    console.print(
        f"different pretrainings, shifted pairs: members {control['members']:.3f}, their average {control['soup']:.3f}"
    )
    console.print(
        f"cost of {report['config']['held_out']} rewards: soup {spent['forwards_soup']} forward a response, "
        f"{1e3 * spent['seconds_soup']:.1f} ms; ensemble {spent['forwards_ensemble']}, "
        f"{1e3 * spent['seconds_ensemble']:.1f} ms"
    )
    console.print(
        f"{report['seconds']} s, {report['cpu_seconds']} s of processor time; "
        f"{out}/warm.json, warm.png, warm-lines.png"
    )


def shown(interval: dict[str, float]) -> str:
    return f"{interval['value']:+.4f} [{interval['low']:+.4f}, {interval['high']:+.4f}]"


def draw(
    rows: Sequence[dict[str, Any]], shared: Sequence[Line], strange: Sequence[Line], out: Path
) -> None:
    """rows: of the sweep. shared, strange: lines of one seed, with one pretraining and with several."""
    made, (bars, sweep) = plots.panels(2)
    claimed = [row for row in rows if row["noise"] == CLAIMED]
    for offset, name in enumerate(("soup", "ensemble", "member")):
        places = np.arange(len(claimed)) + 0.27 * (offset - 1)
        bars.bar(places, [row[name] for row in claimed], width=0.25, label=name)
    bars.set_xticks(range(len(claimed)), [row["part"] for row in claimed])
    bars.set(ylabel="accuracy", ylim=(0.3, 1.0), title=f"{CLAIMED:.0%} of the labels swapped")
    for part in PARTS:
        known = [row for row in rows if row["part"] == part]
        values = np.array([list(row["soup_minus_ensemble"].values()) for row in known]) * 100
        spans = np.abs(values[:, 1:] - values[:, :1]).T
        noises = [100 * row["noise"] for row in known]
        sweep.errorbar(noises, values[:, 0], yerr=spans, marker="o", capsize=3, label=part)
    sweep.axhline(0, color="black", linewidth=0.8)
    sweep.set(xlabel="labels swapped, %", ylabel="soup − ensemble, points", title="95 % intervals")
    plots.save(made, out / "warm.png")

    made, panels = plots.panels(2)
    members_to_soup = [line for line in shared if line.b == "soup"]
    titles = "one pretraining", "different pretrainings"
    for axes, lines, title in zip(panels, (members_to_soup, strange), titles, strict=True):
        connectivity.draw(axes, [line for line in lines if line.head == "shifted"])
        axes.set_title(f"{title}, shifted pairs, first seed")
    plots.save(made, out / "warm-lines.png")
