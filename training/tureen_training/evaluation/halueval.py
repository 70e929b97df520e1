"""Suite `halueval`: what was made up.

general    answers to instructions, of which 18 % hold something made up ("yes"). Called "yes" where the value is
           below a threshold that is chosen on the validation part of the fixed split, where the balanced accuracy is
           best there; the figures are those of the other parts. Balanced accuracy is ½ (TPR + TNR), the same
           whatever the share of "yes": plain accuracy would reward saying "no" to everything.
qa         questions on a passage: the right answer has a higher value than an invented one.

The value is that of the head `factuality`, or the reward where a model has no such head. What a policy says when it is
asked, stands in `halueval_policy`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_curve

from tureen_training import metrics
from tureen_training.data.halueval import read_general, read_qa
from tureen_training.data.records import Comparison, Example, Split
from tureen_training.evaluation import halueval_policy
from tureen_training.evaluation.comparisons import (
    Read,
    Score,
    accuracy_figures,
    probability_figures,
    reward,
    value_of,
)
from tureen_training.evaluation.files import find
from tureen_training.evaluation.job import Job
from tureen_training.evaluation.reward_suites import scored
from tureen_training.evaluation.scorers import Model
from tureen_training.evaluation.subjects import Subject
from tureen_training.metrics import Figure

COMPARISON = Comparison.TRUTH
CORPUS = "halueval"
"""How the names of its corpora begin, in the lineage of what was trained on them."""
HEAD = "factuality"
CHOOSING = Split.VALIDATION
"""The part of `general` on which the threshold is chosen and nothing is reported."""


def evaluate(job: Job) -> dict[str, Figure]:
    skipped: Counter[str] = Counter()
    figures: dict[str, Figure] = {}
    if job.has(Subject.POLICY):
        figures |= halueval_policy.evaluate(job, reported(parts(job.data, job.split, skipped)))
    if job.has(Subject.REWARD):
        figures |= scored(
            job,
            parts(job.data, job.split, skipped),
            report,
            skipped=skipped,
            corpus=CORPUS,
            kind=COMPARISON,
        )
    return figures


def reported(parts: Mapping[str, list[Example]]) -> dict[str, list[Example]]:
    """Without what a threshold of the reward is chosen on: a policy has none, and both speak of the same answers."""
    return {
        name: [e for e in own if name != "general" or e.split != CHOOSING]
        for name, own in parts.items()
    }


def parts(data: Path, split: Split | None, skipped: Counter[str]) -> dict[str, list[Example]]:
    """Both files; of `general` always the part that the threshold is chosen on too.

    Raises:
        ValueError: figures of that part itself are asked for.
    """
    if split == CHOOSING:
        raise ValueError(
            f"split is {split}, on which the threshold of the suite halueval is chosen; "
            "take test, or all for all other parts"
        )
    general = read_general(find(data, "halueval", "general", "general_data"), "general")
    qa = read_qa(find(data, "halueval", "qa_candidates", "qa_data"), "qa")
    return {
        "general": [e for e in general if split is None or e.split in (split, CHOOSING)],
        "qa": [e for e in qa if split is None or e.split == split],
    }


def report(read: Mapping[str, Sequence[Read]], model: Model) -> dict[str, Figure]:
    has_head = any(head.name == HEAD for head in model.heads)
    score = value_of(HEAD) if has_head else reward
    return {
        **_general(read["general"], score),
        **accuracy_figures("qa_accuracy", read["qa"], COMPARISON, score, ordered=False),
        **probability_figures("qa", read["qa"], COMPARISON, model.temperature),
    }


def _general(read: Sequence[Read], score: Score) -> dict[str, Figure]:
    choosing = [one for one in read if one[0].split == CHOOSING]
    others = [one for one in read if one[0].split != CHOOSING]
    known = np.concatenate([np.empty((0, 2)), *(_row(one, score) for one in choosing)])
    groups = [_row(one, score) for one in others]
    if len(set(known[:, 1])) < 2 or len({row[0, 1] for row in groups}) < 2:
        return {}
    threshold = best_threshold(known)
    decisions = [row - (threshold, 0) for row in groups]
    rows = np.concatenate(decisions)
    lengths = np.array([len(example.responses[0]) for example, _ in others], np.float64)
    longer = metrics.auroc(np.stack([lengths, rows[:, 1]], axis=1))
    decided = {"balanced_accuracy": metrics.balanced_accuracy, "f1_yes": metrics.f1_error}
    return {
        "general_auroc": metrics.bootstrap(
            groups,
            metrics.auroc,
            baselines={"longer": longer, "shorter": 1 - longer, "chance": 0.5},
        ),
        **{
            f"general_{name}": metrics.bootstrap(
                decisions, measure, baselines=metrics.all_one_class(rows, measure)
            )
            for name, measure in decided.items()
        },
    }


def _row(read: Read, score: Score) -> np.ndarray:
    """(1, 2): value, and 1 where nothing was made up."""
    example, (reading,) = read
    return np.array([[score(reading), float(bool(example.verdicts[HEAD][0]))]])


def best_threshold(rows: np.ndarray) -> float:
    """The threshold with the best balanced accuracy: TPR − FPR is greatest there (Youden 1950).

    Args:
        rows: (N, 2) value and label (1 clean, 0 error), of both classes.
    """
    false, true, scores = roc_curve(rows[:, 1] < 0.5, -rows[:, 0])
    return float(np.nextafter(-scores[np.argmax(true - false)], np.inf))  # v < t, not v <= t
