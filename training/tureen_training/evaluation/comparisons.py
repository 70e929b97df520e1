"""Comparisons and units of examples, as rows for `metrics`, beside what reads nothing.

An example that the model could not score takes no part in any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tureen.contracts import Granularity
from tureen.model import calibration
from tureen.text.segments import Span, segment
from tureen_training import metrics
from tureen_training.data.labels import unit_labels
from tureen_training.data.records import Comparison, Example
from tureen_training.evaluation.readings import HeadReading, Reading
from tureen_training.metrics import Figure

Read = tuple[Example, Sequence[Reading]]
"""An example with a reading of each of its responses."""

Score = Callable[[Reading], float]


def reward(reading: Reading) -> float:
    return reading.reward


def value_of(head: str) -> Score:
    return lambda reading: reading.heads[head].value


def margins(read: Read, kind: Comparison, score: Score) -> np.ndarray:
    """score(chosen) − score(rejected) of each pair. (P,)"""
    example, readings = read
    return pair_margins(example, kind, [score(reading) for reading in readings])


def pair_margins(example: Example, kind: Comparison, scores: Sequence[float]) -> np.ndarray:
    """(P,) of one number a response."""
    pairs = example.pairs.get(kind, ())
    return np.array([scores[pair.chosen] - scores[pair.rejected] for pair in pairs], np.float64)


def trivial(
    examples: Sequence[Example], kind: Comparison, *, ordered: bool = True
) -> dict[str, float]:
    """Accuracy of scorers that read nothing.

    Args:
        ordered: whether the order of the responses means anything; where the better one always comes
            first it does not, and `first` is left out.
    """
    scorers: dict[str, Callable[[int, str], float]] = {
        "longer": lambda _, text: len(text),
        "shorter": lambda _, text: -len(text),
    }
    if ordered:
        scorers = {"first": lambda k, _: -k, **scorers}
    figures = {
        name: metrics.accuracy(
            np.concatenate(
                [
                    pair_margins(e, kind, [scorer(k, t) for k, t in enumerate(e.responses)])
                    for e in examples
                ]
            )
        )
        for name, scorer in scorers.items()
    }
    return {**figures, "chance": 0.5}


def accuracy_figures(
    name: str, read: Sequence[Read], kind: Comparison, score: Score, *, ordered: bool = True
) -> dict[str, Figure]:
    """Accuracy of the comparisons; nothing where there are none."""
    groups = [margins(one, kind, score) for one in read]
    if not any(len(group) for group in groups):
        return {}
    baselines = trivial([example for example, _ in read], kind, ordered=ordered)
    return {name: metrics.bootstrap(groups, metrics.accuracy, baselines=baselines)}


def probability_figures(
    prefix: str, read: Sequence[Read], kind: Comparison, temperature: float
) -> dict[str, Figure]:
    """ECE and Brier score of the win probability that the server gives; nothing without comparisons.

    Always ½ is calibrated and says nothing (ECE 0, Brier ¼), so the ECE counts only beside the accuracy.
    """
    groups = probabilities(read, kind, temperature)
    if not any(len(group) for group in groups):
        return {}
    return {
        f"{prefix}_{name}": metrics.bootstrap(
            groups, measure, baselines={"always ½": trivial}, lower_is_better=True
        )
        for name, measure, trivial in (("ece", metrics.ece, 0.0), ("brier", metrics.brier, 0.25))
    }


def probabilities(read: Sequence[Read], kind: Comparison, temperature: float) -> list[np.ndarray]:
    """For each example the probability given to the preferred response of each pair. (P,) each."""
    return [calibration.win_probability(margins(one, kind, reward), temperature) for one in read]


def unit_rows(
    read: Read, head: str, threshold: float, responses: int, *, finer: bool = False
) -> np.ndarray:
    """(value − threshold, label) of every unit that was labelled and counts. (N, 2)

    Args:
        responses: of how many, from the first: what follows is no model's answer.
        finer: of sub-sentences, each with the value of the head's unit in which it begins.
    """
    example, readings = read
    rows: list[tuple[float, float]] = []
    labelled = example.spans.get(head, ())[:responses]
    for text, labels, reading in zip(example.responses, labelled, readings, strict=False):
        if labels is None:
            continue
        units, values = _refined(text, reading.heads[head]) if finer else reading.heads[head][1:]
        rows += [
            (value - threshold, label)
            for value, label in zip(values, unit_labels(text, units, labels), strict=True)
            if label is not None
        ]
    return np.array(rows, np.float64).reshape(-1, 2)


def _refined(text: str, head: HeadReading) -> tuple[Sequence[Span], Sequence[float]]:
    units = segment(text, Granularity.SUB_SENTENCE)
    ends = [unit.end for unit in head.units]
    return units, [head.values[np.searchsorted(ends, unit.start, side="right")] for unit in units]


def unit_figures(
    name: str, groups: Sequence[np.ndarray], measures: Mapping[str, Callable[[np.ndarray], float]]
) -> dict[str, Figure]:
    """AUROC and the given measures of decisions; nothing where a class is absent."""
    rows = np.concatenate(groups) if groups else np.empty((0, 2))
    if len(set(rows[:, 1])) < 2:
        return {}
    figures = {f"{name}_auroc": metrics.bootstrap(groups, metrics.auroc, baselines={"chance": 0.5})}
    for measure_name, measure in measures.items():
        figures[f"{name}_{measure_name}"] = metrics.bootstrap(
            groups, measure, baselines=metrics.all_one_class(rows, measure)
        )
    return figures
