"""What demo `overoptimisation` makes of its runs: criteria and verdicts, tables, plots."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from tureen_training import metrics, plots, scaling
from tureen_training.demo.overoptimisation_runs import FAMILIES, METHODS, Run, Trial
from tureen_training.demo.warm import bootstrap

MOST_LOST: Final = 0.5
"""Of what gold had gained: a run that loses more has collapsed."""
CHANCE: Final = 0.55
CRITERIA: Final = {
    "(i) the proxy rises": "single, β 0: proxy at the end − where gold peaks, interval above 0",
    "(i) gold rises": "single, β 0: gold at its peak − at the start, interval above 0",
    "(i) gold turns over": "single, β 0: gold at its peak − at the end, interval above 0",
    "(ii) the form": "single, β 0: R² on held-out looks of d (α − β log d) − of a line, interval above 0",
    "(iii) more data": "the form's β falls with every size; of the fewest pairs − of the most, interval above 0",
    "(iii) near chance": f"accuracy of the fewest pairs: interval ends at or below {CHANCE}",
    "(iv) growth, one": "single, β 0: disagreement at the end / start, interval above 1",
    "(iv) growth, several": "the same, several pretrainings",
    "(iv) UWO, one": "its growth where uncertainty λ 2 is climbed / where the mean is, interval below 1",
    "(iv) UWO, several": "the same, several pretrainings",
    "(v) herding": "gain of a single member that the others see too: one pretraining − several, interval above 0",
    "control: gold": "gold climbed itself loses at most a tenth of its peak: interval of the share at or below 0.1",
    "control: penalty": f"no single run with the KL penalty loses over {MOST_LOST:g} of its peak",
    "control: no collapse": "the same of every method with a KL penalty, the refused soups left out",
    "control: refusal": "the check refuses every soup of several pretrainings and none of one",
}
"""When a claim counts as reproduced; one pretraining unless it says several. Intervals: 95 %, bootstrap over seeds."""

Interval = dict[str, float]
Key = tuple[str, str, float]
"""Family, method, KL coefficient."""


def interval(values: np.ndarray) -> Interval:
    """Mean over seeds. values: (S,)"""
    return dataclasses.asdict(bootstrap(metrics.singly(values)))


def ratio(logs: np.ndarray) -> Interval:
    """The geometric mean over seeds of factors whose logarithms are given. (S,)"""
    return {name: float(np.exp(value)) for name, value in interval(logs).items()}


def by_seed(groups: Iterable[Sequence[Run]]) -> dict[str, np.ndarray]:
    """Each figure, the runs of a seed averaged: they are not independent. (S,) each."""
    rows = [[run.figures() for run in runs] for runs in groups]
    return {
        name: np.array([np.mean([r[name] for r in own]) for own in rows]) for name in rows[0][0]
    }


def runs_of(trial: Trial, key: Key) -> list[Run]:
    return [r for r in trial.runs if (r.family, r.method, r.kl_coefficient) == key]


def keys(trials: Sequence[Trial]) -> list[Key]:
    return list(
        dict.fromkeys((r.family, r.method, r.kl_coefficient) for t in trials for r in t.runs)
    )


def summary(trials: Sequence[Trial]) -> dict[str, Any]:
    """Everything that the report says but its circumstances."""
    found = {key: by_seed(runs_of(trial, key) for trial in trials) for key in keys(trials)}
    sized = {size: by_seed(trial.sized[size] for trial in trials) for size in trials[0].sized}
    methods = [row(key, values, found) for key, values in found.items()]
    return {
        "criteria": judged(trials, found, sized),
        "methods": methods,
        "gold_itself": {n: interval(v) for n, v in by_seed([t.gold] for t in trials).items()},
        "sizes": [
            {"pairs": size, "accuracy": interval(np.array([t.accuracy[size] for t in trials]))}
            | {name: interval(own) for name, own in values.items()}
            for size, values in sized.items()
        ],
        "does_not_help": unhelpful(methods),
        "refusals": [trial.refusals for trial in trials],
        "curves": [
            {"seed": trial.seed} | curve(run)
            for trial in trials
            for run in (*trial.runs, trial.gold, *(r for own in trial.sized.values() for r in own))
        ],
    }


def row(
    key: Key, values: dict[str, np.ndarray], found: dict[Key, dict[str, np.ndarray]]
) -> dict[str, Any]:
    """Of one method; minus_single: against single reward models under the same penalty, seed by seed."""
    family, method, beta = key
    single = found[family, "single", beta]
    return {
        "family": family,
        "method": method,
        "kl_coefficient": beta,
        **{name: interval(own) for name, own in values.items() if name != "log_growth"},
        "growth": ratio(values["log_growth"]),
        "minus_single": {n: interval(values[n] - single[n]) for n in ("peak", "end")},
    }


def curve(run: Run) -> dict[str, Any]:
    named = dataclasses.asdict(run)
    return {
        name: [round(float(x), 4) for x in value] if isinstance(value, np.ndarray) else value
        for name, value in named.items()
        if value is not None
    }


def judged(
    trials: Sequence[Trial],
    found: dict[Key, dict[str, np.ndarray]],
    sized: dict[int, dict[str, np.ndarray]],
) -> list[dict[str, Any]]:
    """The criteria above, one by one."""
    without, penalty = sorted({key[2] for key in found})
    single = found["one", "single", without]
    fewest, *_, most = sized
    betas = [float(values["beta"].mean()) for values in sized.values()]
    itself = by_seed([trial.gold] for trial in trials)
    names = iter(CRITERIA)
    rows: list[dict[str, Any]] = []

    def add(figure: Interval | str, met: bool) -> None:
        name = next(names)
        rows.append(
            {"claim": name, "criterion": CRITERIA[name], "figure": figure, "reproduced": bool(met)}
        )

    for values in (
        single["proxy_rose"],
        single["peak"],
        single["lost"],
        single["r2_law"] - single["r2_line"],
    ):
        add(figure := interval(values), figure["low"] > 0)
    figure = interval(sized[fewest]["beta"] - sized[most]["beta"])
    add(figure, figure["low"] > 0 and betas == sorted(betas, reverse=True))
    figure = interval(np.array([trial.accuracy[fewest] for trial in trials]))
    add(figure, figure["high"] <= CHANCE)
    for family in FAMILIES:
        figure = ratio(found[family, "single", without]["log_growth"])
        add(figure, figure["low"] > 1)
    for family in FAMILIES:
        careful, mean = (found[family, name, without] for name in ("uncertainty, λ 2", "mean"))
        figure = ratio(careful["log_growth"] - mean["log_growth"])
        add(figure, figure["high"] < 1)
    one, several = (found[family, "single", without]["believed"] for family in FAMILIES)
    add(figure := interval(one - several), figure["low"] > 0)
    add(figure := interval(itself["lost"] / itself["peak"]), figure["high"] <= 0.1)
    for counted in (
        lambda run: (run.family, run.method) == ("one", "single"),
        lambda run: (run.family, run.method) != ("several", "soup"),
    ):
        add(*lost_runs(trials, penalty, counted))
    refused = [sum(t.refusals[family] is not None for t in trials) for family in FAMILIES]
    add(
        f"one: {refused[0]}, several: {refused[1]} of {len(trials)} refused",
        refused == [0, len(trials)],
    )
    return rows


def lost_runs(
    trials: Sequence[Trial], penalty: float, counted: Callable[[Run], bool]
) -> tuple[str, bool]:
    """How many of the runs with a penalty that are counted collapsed, and whether none did."""
    figures = [
        run.figures()
        for trial in trials
        for run in trial.runs
        if run.kl_coefficient == penalty and counted(run)
    ]
    lost = sum(one["lost"] > MOST_LOST * one["peak"] for one in figures)
    return f"{lost} of {len(figures)} runs", lost == 0


def unhelpful(methods: Sequence[dict[str, Any]]) -> list[str]:
    """What ensembles, soups and a penalty did not do, in sentences."""
    without = [one for one in methods if one["kl_coefficient"] == 0]
    peak = next(
        one["peak"] for one in without if (one["family"], one["method"]) == ("one", "single")
    )

    def named(rows: Iterable[dict[str, Any]]) -> str:
        return ", ".join(f"{one['method']} ({one['family']})" for one in rows) or "none"

    others = [one for one in without if one["method"] != "single"]
    said = [
        "without a KL penalty gold still turns over, interval above 0: "
        + named(one for one in without if one["lost"]["low"] > 0),
        "ends no higher than single reward models, interval not above 0: "
        + named(one for one in others if one["minus_single"]["end"]["low"] <= 0),
        "peaks no higher than single reward models, interval not above 0: "
        + named(one for one in others if one["minus_single"]["peak"]["low"] <= 0),
    ]
    for one in methods:
        if one["kl_coefficient"] and (one["family"], one["method"]) == ("one", "single"):
            said.append(
                f"a KL penalty beyond stopping in time: gold ends at {shown(one['end'])} with β "
                f"{one['kl_coefficient']:g}, its peak without is {shown(peak)}"
            )
    return said


def show(report: dict[str, Any], console: Console, out: Path) -> None:
    for beta in sorted({one["kl_coefficient"] for one in report["methods"]}):
        gold = Table("climbed", "gold: peak", "end", "end − single's", title=f"β {beta:g}")
        more = Table("climbed", "KL: peak, end", "proxy: end", "disagreement: start", "end / start")
        for name in ("form: α", "β", "R² − line's"):
            more.add_column(name)
        for one in report["methods"]:
            if one["kl_coefficient"] == beta:
                add_method(one, gold, more)
        console.print(gold)
        console.print(more)
    sizes = Table("pairs", "accuracy", "gold: peak", "end", "form: α", "β")
    for one in report["sizes"]:
        figures = (shown(one[name]) for name in ("accuracy", "peak", "end", "alpha", "beta"))
        sizes.add_row(str(one["pairs"]), *figures)
    console.print(sizes)
    claims = Table("claim", "counts as reproduced if", "figure", "")
    for claim in report["criteria"]:
        figure = claim["figure"]
        claims.add_row(
            claim["claim"],
            claim["criterion"],
            figure if isinstance(figure, str) else shown(figure),
            "reproduced" if claim["reproduced"] else "[bold]NOT reproduced[/]",
        )
    console.print(claims)
    for said in report["does_not_help"]:
        console.print(f"What does not help: {said}")
    console.print(
        f"{report['seconds']} s, {report['cpu_seconds']} s of processor time; {out}/overoptimisation.json, "
        "overoptimisation.png, overoptimisation-more.png"
    )


def add_method(one: dict[str, Any], gold: Table, more: Table) -> None:
    name = f"{one['method']} ({one['family']})"
    against = "–" if one["method"] == "single" else shown(one["minus_single"]["end"])
    gold.add_row(name, shown(one["peak"]), shown(one["end"]), against)
    more.add_row(
        name,
        f"{one['peak_kl_nats']['value']:.0f}, {one['end_kl_nats']['value']:.0f}",
        f"{one['proxy_end']['value']:.2f}",
        f"{one['disagreement']['value']:.2f}",
        shown(one["growth"]),
        f"{one['alpha']['value']:.2f}",
        f"{one['beta']['value']:.2f}",
        f"{one['r2_law']['value'] - one['r2_line']['value']:+.2f}",
    )


def shown(figure: Interval) -> str:
    return f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"


def draw(trials: Sequence[Trial], out: Path) -> None:
    """Gold and proxy against √KL, and disagreement; means over seeds, step by step."""
    without, penalty = sorted({key[2] for key in keys(trials)})

    def means(groups: Iterable[Sequence[Run]]) -> dict[str, np.ndarray]:
        runs = [run for own in groups for run in own]
        names = "distance", "gold", "proxy", "disagreement"
        return {name: np.mean([getattr(run, name) for run in runs], axis=0) for name in names}

    figure, panels = plots.panels(2)
    for axes, family in zip(panels, FAMILIES, strict=True):
        for at, method in enumerate(METHODS):
            curves = means(runs_of(trial, (family, method, without)) for trial in trials)
            axes.plot(curves["distance"], curves["gold"], color=f"C{at}", label=method)
            axes.plot(curves["distance"], curves["proxy"], color=f"C{at}", linestyle=":")
        axes.set(xlabel="√KL, √nats", ylabel="gold, and proxy dotted")
        axes.set_title(f"members of {family} pretraining{'s' * (family == 'several')}, β 0")
    plots.save(figure, out / "overoptimisation.png")

    figure, (controlled, sizes, growth) = plots.panels(3)
    for at, method in enumerate(METHODS):
        curves = means(runs_of(trial, ("one", method, penalty)) for trial in trials)
        controlled.plot(curves["distance"], curves["gold"], color=f"C{at}", label=method)
        for family, line in zip(FAMILIES, ("-", ":"), strict=True):
            curves = means(runs_of(trial, (family, method, without)) for trial in trials)
            label = method if family == "one" else None
            growth.plot(
                curves["distance"], curves["disagreement"], line, color=f"C{at}", label=label
            )
    controlled.set(xlabel="√KL, √nats", ylabel="gold", title=f"one pretraining, β {penalty:g}")
    growth.set(xlabel="√KL, √nats", ylabel="variance of the members", yscale="log")
    growth.set_title("β 0; several pretrainings dotted")
    for at, size in enumerate(trials[0].sized):
        curves = means(trial.sized[size] for trial in trials)
        d = curves["distance"]
        sizes.plot(d, curves["gold"], ".", color=f"C{at}", label=f"{size} pairs")
        sizes.plot(d, scaling.fitted(d, curves["gold"]).at(d), color=f"C{at}")
    itself = means([trial.gold] for trial in trials)
    sizes.plot(itself["distance"], itself["gold"], color="black", label="gold itself")
    sizes.set(xlabel="√KL, √nats", ylabel="gold", title="single, β 0; lines are d (α − β log d)")
    plots.save(figure, out / "overoptimisation-more.png")
