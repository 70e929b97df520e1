"""Suite `hh_rlhf`: which of two dialogues people preferred, harmless and helpful apart.

Both transcripts are scored in full: the shared turns as messages, the last turn as the response. The better one
wins if its reward is the higher one; an exact tie counts half, and its rate is printed.

The chosen transcript is always written first in the files, so the order means nothing and is no baseline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tureen_training import metrics
from tureen_training.data.hh_rlhf import read_hh
from tureen_training.data.records import Comparison, Example, Split
from tureen_training.evaluation.comparisons import (
    Read,
    accuracy_figures,
    margins,
    probability_figures,
    reward,
)
from tureen_training.evaluation.files import find
from tureen_training.evaluation.job import Job
from tureen_training.evaluation.reward_suites import scored
from tureen_training.evaluation.scorers import Model
from tureen_training.metrics import Figure

COMPARISON = Comparison.PREFERENCE
CORPUS = "hh_"
"""How the names of its corpora begin, in the lineage of what was trained on them."""
FILES = {
    "harmless": ("harmless-base.test", "harmless-base/test"),
    "helpful": ("helpful-base.test", "helpful-base/test"),
}
"""Part -> names of its file: in our copies, and in the release."""


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
    """The pairs of both parts.

    Args:
        skipped: counts what cannot be compared, by reason.
    """
    return {
        part: [
            example
            for example in read_hh(find(data, "hh_rlhf", *names), skipped, part)
            if split is None or example.split == split
        ]
        for part, names in FILES.items()
    }


def report(read: Mapping[str, Sequence[Read]], model: Model) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for part, own in read.items():
        figures |= accuracy_figures(f"{part}_accuracy", own, COMPARISON, reward, ordered=False)
        if own:
            groups = [margins(one, COMPARISON, reward) for one in own]
            figures[f"{part}_tie_rate"] = metrics.bootstrap(
                groups, metrics.tie_rate, baselines={"none": 0.0}, lower_is_better=True
            )
            figures |= probability_figures(part, own, COMPARISON, model.temperature)
    return figures
