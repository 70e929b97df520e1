"""Stage `agreement`: how far the raters of a file agree, how reliable each is, and what that leaves to reach.

The last line of stdout is one JSON object. Intervals are 95 % bootstrap intervals over prompts.

agreement         share of the pairs of votes on one item that are alike
alpha_*           Krippendorff's α; items with one vote are left out of everything but the baselines
fleiss_kappa      on the items with the commonest number of votes
cohen             each two raters with enough items in common: κ, and weighted κ on the ordered labels
side_agreement    as `agreement`, ties left out; human_ceiling: (1 + √(2a − 1)) / 2 of it
reliability       probability that a rater's vote is right, by Dawid–Skene (of a pair, which side, or a tie);
                  Crowd-BT forgives what close responses explain, so its η tells who errs on clear ones
first, longer     share of the preferences that go to the response listed first, to the longer one
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tureen_training import metrics
from tureen_training.annotators import agreement as measures
from tureen_training.annotators import crowd_bt, dawid_skene
from tureen_training.annotators.majority import decided, majority
from tureen_training.annotators.opinions import (
    Opinion,
    comparison_votes,
    duels,
    opinions,
    prompt_of,
    rating_votes,
)
from tureen_training.annotators.votes import NoVotes, Votes
from tureen_training.data.corpora import open_file
from tureen_training.metrics import Figure
from tureen_training.runlog import progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Agreement and reliability of the raters of a file of rankings, comparisons or ratings.

    data: the file. corpus: what it is; known by the name of the file, else our own format.
    head: whose ratings, where raters gave marks. shared_items: least number that two raters must have in
    common for a κ of theirs.
    """

    data: str
    corpus: str = ""
    head: str = "preference"
    shared_items: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairwise:
    """Cohen's κ of two raters; None where it is undefined."""

    raters: tuple[str, str]
    items: int
    kappa: float | None
    linear: float | None
    quadratic: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """votes: on items that others voted on too. crowd_bt: None for ratings and for who only tied."""

    rater: str
    votes: int
    dawid_skene: float
    crowd_bt: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Of one kind of votes. figures: by the names at the head of this file; an undefined one is absent."""

    labels: tuple[str, ...]
    votes: int
    items: int
    shared_items: int
    raters: int
    figures: dict[str, Figure] = field(default_factory=dict)
    cohen: tuple[Pairwise, ...] = ()
    reliability: tuple[Reliability, ...] = ()
    undecided_by_majority: float | None = None
    changed_by_dawid_skene: float | None = None


def main(config: Config) -> dict[str, Report]:
    """Measure, print, return the reports: `comparisons`, `ratings` or both."""
    if config.shared_items < 1:
        raise ValueError(f"shared_items is {config.shared_items}; give at least 1")
    source = open_file(Path(config.data), config.corpus)
    examples = list(progress(source, "reading"))
    reports = {}
    if said := list(opinions(examples)):
        reports["comparisons"] = of_comparisons(said, config.shared_items)
    if (rated := rating_votes(examples, config.head)) is not None:
        reports["ratings"] = of_votes(*rated, config.shared_items)
    if not reports:
        raise ValueError(
            f"{config.data} holds no preference, tie or rating of head {config.head!r} by a named rater"
        )
    for kind, report in reports.items():
        print(f"\n{kind}\n{table(report)}")  # noqa: T201 - the answer of the command
    for remark in source.remarks():
        print(remark)  # noqa: T201
    print(json.dumps({k: as_record(r) for k, r in reports.items()}, allow_nan=False))  # noqa: T201
    return reports


def of_comparisons(said: Sequence[Opinion], shared_items: int) -> Report:
    """Votes on pairs, and what only pairs have: sides, baselines, Crowd-BT.

    Reliability is that of the side; of how much better a response is there are too many grades for few votes.
    """
    report = of_votes(*comparison_votes(said), shared_items)
    sides, values = comparison_votes(said, grades=False)
    figures = dict(report.figures)
    decided_only = sides.item_counts()[:, values != 0]  # (I, 2)
    groups = _item_groups(sides.items, decided_only)
    _add(figures, "side_agreement", groups, measures.observed_agreement, {"chance": 0.5})
    if "side_agreement" in figures and report.raters > 1:
        ceiling = _map(figures["side_agreement"], measures.human_ceiling)
        if not math.isnan(ceiling.value):
            figures["human_ceiling"] = ceiling
    for name, margin in (("first", lambda o: 1), ("longer", lambda o: o.lengths[0] - o.lengths[1])):
        _add(figures, name, _preferred(said, margin), metrics.accuracy, {"chance": 0.5})
    return dataclasses.replace(report, figures=figures, **_reliability(sides, _etas(said)))


def of_votes(votes: Votes, values: np.ndarray, shared_items: int) -> Report:
    """Agreement and reliability; `values` of the labels, in their order, for the interval metric. (C,)"""
    counts = votes.item_counts()
    report = Report(
        labels=votes.labels,
        votes=len(votes.codes),
        items=len(votes.items),
        raters=len(votes.raters),
        shared_items=int((counts.sum(axis=1) >= 2).sum()),
    )
    if report.shared_items == 0:
        return report
    figures: dict[str, Figure] = {}
    groups = _item_groups(votes.items, counts)
    by_chance = float(((counts.sum(axis=0) / counts.sum()) ** 2).sum())
    _add(figures, "agreement", groups, measures.observed_agreement, {"chance": by_chance})
    alphas: dict[str, Callable[[np.ndarray], float]] = {
        "alpha_nominal": lambda rows: measures.krippendorff_alpha(rows),
        "alpha_ordinal": lambda rows: measures.krippendorff_alpha(rows, "ordinal"),
        "alpha_interval": lambda rows: measures.krippendorff_alpha(rows, "interval", values),
    }
    for name, alpha in alphas.items():
        _add(figures, name, groups, alpha, {"chance": 0.0})
    usual = _commonest(counts)
    even = [group[group.sum(axis=1) == usual] for group in groups]
    _add(figures, "fleiss_kappa", even, measures.fleiss_kappa, {"chance": 0.0})
    cohen = tuple(_cohen(votes, shared_items))
    return dataclasses.replace(report, figures=figures, cohen=cohen, **_reliability(votes, {}))


def _etas(said: Sequence[Opinion]) -> dict[str, float]:
    """η of Crowd-BT of each rater who preferred anything."""
    if not any(opinion.advantage for opinion in said):
        return {}
    coded = duels(said)
    fitted = crowd_bt.fit(coded.chosen, coded.rejected, coded.raters, adversarial=True)
    return dict(zip(coded.rater_names, fitted.reliability.tolist(), strict=True))


def _reliability(votes: Votes, etas: Mapping[str, float]) -> dict[str, Any]:
    """The last three fields of a report; none of them where no two raters share an item."""
    try:
        shared = votes.shared()
    except NoVotes:
        return {}
    counts = shared.counts()
    fitted = dawid_skene.fit(counts)
    voted, inferred = decided(majority(counts)), decided(fitted.posterior)
    number = counts.sum(axis=(0, 2))  # (R,)
    return {
        "reliability": tuple(
            Reliability(
                rater=rater, votes=int(n), dawid_skene=float(right), crowd_bt=etas.get(rater)
            )
            for rater, n, right in zip(shared.raters, number, fitted.reliability, strict=True)
        ),
        "undecided_by_majority": float((voted == -1).mean()),
        "changed_by_dawid_skene": float(((voted != -1) & (voted != inferred)).mean()),
    }


def _add(
    figures: dict[str, Figure],
    name: str,
    groups: Sequence[np.ndarray],
    measure: Callable[[np.ndarray], float],
    baselines: Mapping[str, float],
) -> None:
    """The figure with its interval, unless the votes leave it undefined."""
    groups = [group for group in groups if len(group)]
    if groups and not math.isnan(measure(np.concatenate(groups))):
        figures[name] = metrics.bootstrap(groups, measure, baselines=baselines)


def _map(figure: Figure, of: Callable[[float], float]) -> Figure:
    """A figure that is a monotone function of another; an end that has no value is the least there is."""
    low = of(figure.low)
    return dataclasses.replace(
        figure,
        value=of(figure.value),
        low=0.5 if math.isnan(low) else low,
        high=of(figure.high),
    )


def _item_groups(items: Sequence[str], counts: np.ndarray) -> list[np.ndarray]:
    """The counts of each prompt's shared items. (I, C) each"""
    groups: dict[str, list[np.ndarray]] = {}
    for item, row in zip(items, counts, strict=True):
        if row.sum() >= 2:
            groups.setdefault(prompt_of(item), []).append(row)
    return [np.stack(rows) for rows in groups.values()]


def _commonest(counts: np.ndarray) -> int:
    """The number of votes, at least 2, that most items have; the greater one of equals."""
    totals = counts.sum(axis=1)
    numbers, items = np.unique(totals[totals >= 2], return_counts=True)
    return int(numbers[len(items) - 1 - items[::-1].argmax()])


def _preferred(said: Sequence[Opinion], margin: Callable[[Opinion], float]) -> list[np.ndarray]:
    """For each prompt, the margin by which a rule prefers what the rater preferred; ties left out."""
    groups: dict[str, list[float]] = {}
    for opinion in said:
        if opinion.advantage:
            sign = 1 if opinion.advantage > 0 else -1
            groups.setdefault(opinion.prompt_id, []).append(sign * margin(opinion))
    return [np.array(rows) for rows in groups.values()]


def _cohen(votes: Votes, shared_items: int) -> Iterator[Pairwise]:
    """Every two raters with enough items that either gave one label; most items first."""
    codes = votes.table()  # (I, R)
    found = []
    for one, other in itertools.combinations(range(len(votes.raters)), 2):
        both = codes[:, [one, other]]
        both = both[~np.isnan(both).any(axis=1)].astype(int)
        if len(both) < shared_items:
            continue
        labels = len(votes.labels)
        kappa, linear, quadratic = (
            measures.cohen_kappa(both[:, 0], both[:, 1], labels, weights)
            for weights in (None, "linear", "quadratic")
        )
        found.append(
            Pairwise(
                raters=(votes.raters[one], votes.raters[other]),
                items=len(both),
                kappa=_defined(kappa),
                linear=_defined(linear),
                quadratic=_defined(quadratic),
            )
        )
    yield from sorted(found, key=lambda pair: -pair.items)


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value


def as_record(report: Report) -> dict[str, Any]:
    """For JSON: numbers to four places."""
    return _rounded(dataclasses.asdict(report))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


def table(report: Report) -> str:
    """For people."""
    lines = [
        f"{report.votes} votes of {report.raters} raters on {report.items} items, "
        f"{report.shared_items} of them with two votes or more; labels: {', '.join(report.labels)}"
    ]
    lines += [
        f"  {name:16s} {f.value:6.3f}  [{f.low:.3f}, {f.high:.3f}]  n {f.n}  baseline {f.baseline:.3f}"
        for name, f in report.figures.items()
    ]
    if report.cohen:
        lines.append(f"  {'Cohen κ':40s} {'items':>5s}  κ      linear quadratic")
        lines += [
            f"  {' / '.join(pair.raters):40s} {pair.items:5d}  "
            + " ".join(_cell(x) for x in (pair.kappa, pair.linear, pair.quadratic))
            for pair in report.cohen
        ]
    if report.reliability:
        lines.append(f"  {'reliability':40s} {'votes':>5s}  Dawid–Skene  Crowd-BT")
        lines += [
            f"  {one.rater:40s} {one.votes:5d}  {one.dawid_skene:.3f}        {_cell(one.crowd_bt)}"
            for one in sorted(report.reliability, key=lambda one: -one.votes)
        ]
    if report.undecided_by_majority is not None:
        lines.append(
            f"  majority leaves {report.undecided_by_majority:.1%} of the shared items undecided; "
            f"Dawid–Skene says otherwise on {report.changed_by_dawid_skene:.1%}"
        )
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "  –   " if value is None else f"{value:6.3f}"
