"""Suite `qa_feedback`: answers to questions with evidence, as people annotated them.

preference_accuracy      head `preference` (the reward, where a model has no such head) on human comparisons
                         of the four sampled answers, ties left out
reward_accuracy          the default reward, same comparisons
preference_ece, _brier   σ(Δreward / T), the win probability of the service, same comparisons
completeness_accuracy    head `completeness`, pairs of sampled answers of which one states more of what the
                         corrected answer states
completion_accuracy      same, human correction over first answer, where something was missing
relevance_*              sub-sentences of the first answer
factuality_*             sentences of the first answer, those with a relevance error alone left out
factuality_*_sub_sentence  same, sub-sentences with the value of their sentence

F1 is that of the error class, as in Fine-Grained RLHF (Wu et al. 2023, arXiv:2306.01693); `_f1_clean` that of
the other, `_f1_macro` their mean. A unit is called an error where its value is below the head's threshold.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tureen.model import calibration
from tureen.model.manifest import HeadSpec
from tureen_training import metrics
from tureen_training.data.items import Item, Values
from tureen_training.data.qa_feedback import PREDICTIONS
from tureen_training.data.records import Comparison, Example, Split
from tureen_training.data.sets import feedback_examples
from tureen_training.evaluation.comparisons import (
    Read,
    accuracy_figures,
    margins,
    probability_figures,
    reward,
    unit_figures,
    unit_rows,
    value_of,
)
from tureen_training.evaluation.job import Job
from tureen_training.evaluation.readings import readings_of
from tureen_training.evaluation.reward_suites import scored
from tureen_training.evaluation.scorers import Model
from tureen_training.metrics import Figure

COMPARISON = Comparison.PREFERENCE
CORPUS = "qa_feedback"
"""How the names of its corpora begin, in the lineage of what was trained on them."""
F1 = {"f1": metrics.f1_error, "f1_clean": metrics.f1_clean, "f1_macro": metrics.f1_macro}
SPAN_HEADS = ("relevance", "factuality")


def evaluate(job: Job) -> dict[str, Figure]:
    skipped: Counter[str] = Counter()
    return scored(
        job,
        parts(job.data, job.split, skipped),
        report,
        skipped=skipped,
        corpus=CORPUS,
        kind=COMPARISON,
    )


def parts(data: Path, split: Split | None, skipped: Counter[str]) -> dict[str, list[Example]]:
    """The annotated questions."""
    return {"questions": list(feedback_examples(data, split))}


def report(read: Mapping[str, Sequence[Read]], model: Model) -> dict[str, Figure]:
    return figures(read["questions"], model.heads, model.temperature)


def figures(
    read: Sequence[Read], heads: Sequence[HeadSpec], temperature: float | None
) -> dict[str, Figure]:
    """All figures; what a model has no head for, or nobody annotated, is left out.

    Args:
        temperature: T of the win probability; None leaves its figures out.
    """
    by_name = {head.name: head for head in heads}
    preferred = value_of("preference") if "preference" in by_name else reward
    found = {
        **accuracy_figures("preference_accuracy", read, Comparison.PREFERENCE, preferred),
        **accuracy_figures("reward_accuracy", read, Comparison.PREFERENCE, reward),
    }
    if temperature is not None:
        found |= probability_figures("preference", read, Comparison.PREFERENCE, temperature)
    if "completeness" in by_name:
        score = value_of("completeness")
        found |= accuracy_figures("completeness_accuracy", read, Comparison.COVERAGE, score)
        found |= accuracy_figures(
            "completion_accuracy", read, Comparison.COMPLETION, score, ordered=False
        )
    for name in SPAN_HEADS:
        if name in by_name:
            threshold = by_name[name].error_below
            groups = [unit_rows(one, name, threshold, PREDICTIONS) for one in read]
            found |= unit_figures(name, groups, F1)
    if "factuality" in by_name:
        threshold = by_name["factuality"].error_below
        groups = [unit_rows(one, "factuality", threshold, PREDICTIONS, finer=True) for one in read]
        finer = unit_figures("factuality", groups, {"f1": metrics.f1_error})
        found |= {f"{name}_sub_sentence": figure for name, figure in finer.items()}
    return found


def measure(
    items: Sequence[Item],
    values: Sequence[Sequence[Values]],
    heads: Sequence[HeadSpec],
    temperature: float | None = None,
) -> dict[str, Figure]:
    """`figures` of what training has at hand: encoded examples and what the model says of them."""
    return figures(_read(items, values, heads), heads, temperature)


def fit_scales(
    items: Sequence[Item], values: Sequence[Sequence[Values]], heads: Sequence[HeadSpec]
) -> tuple[tuple[HeadSpec, ...], float]:
    """The heads with calibration and threshold, and the temperature of win probabilities.

    To be fitted on questions that no ingredient was trained on, and on which nothing is reported: on
    questions it was trained on a head spreads wider than elsewhere. A head of units that nobody labelled,
    or of one class alone, has no threshold.

    Raises:
        ValueError: a head gives the same value to every answer, or nobody compared any.
    """
    read = _read(items, values, heads)
    fitted = []
    for head in heads:
        answers = [
            reading.heads[head.name].value
            for _, readings in read
            for reading in readings[:PREDICTIONS]
        ]
        rows = np.concatenate([unit_rows(one, head.name, 0.0, PREDICTIONS) for one in read])
        fitted.append(
            dataclasses.replace(
                head,
                calibration=calibration.fit(answers),
                threshold=calibration.fit_threshold(rows[:, 0], rows[:, 1] < 0.5)
                if len(set(rows[:, 1])) == 2
                else None,
            )
        )
    # The rewards are those of the new calibration.
    return tuple(fitted), temperature_of(items, values, fitted)


def temperature_of(
    items: Sequence[Item], values: Sequence[Sequence[Values]], heads: Sequence[HeadSpec]
) -> float:
    """The temperature of win probabilities that fits the human comparisons of these questions."""
    deltas = [margins(one, Comparison.PREFERENCE, reward) for one in _read(items, values, heads)]
    return calibration.fit_temperature(np.concatenate(deltas))


def _read(
    items: Sequence[Item], values: Sequence[Sequence[Values]], heads: Sequence[HeadSpec]
) -> list[Read]:
    examples = [item.example for item in items]
    return list(zip(examples, readings_of(items, values, heads), strict=True))
