"""What suites of reward models share: their examples are scored once, sorted out by part, and reported.

A response that the model cannot take (too long) is never given a number: its prompt takes no part, and
`unscorable` is the share of such prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tureen.contracts import ErrorInfo
from tureen_training import metrics, plots
from tureen_training.data.records import SPLIT_RULE, Comparison, Example, Split
from tureen_training.evaluation.comparisons import Read, probabilities
from tureen_training.evaluation.job import Figures, Job
from tureen_training.evaluation.readings import Outcome
from tureen_training.evaluation.results import outcomes
from tureen_training.evaluation.scorers import Model
from tureen_training.metrics import Figure

Parts = Mapping[str, Sequence[Example]]
Report = Callable[[Mapping[str, Sequence[Read]], Model], Figures]


def scored(
    job: Job,
    parts: Parts,
    report: Report,
    *,
    skipped: Counter[str] | None = None,
    corpus: str = "",
    kind: Comparison | None = None,
    members: bool = False,
) -> dict[str, Figure]:
    """Score the examples of all parts with the job's reward model, and what `report` makes of them.

    Args:
        skipped: what was left out in reading, by reason.
        corpus: how the names of its corpora begin in the lineage of what was trained on them; empty is none.
        kind: the comparisons whose reliability is drawn; None draws nothing.
        members: whether the readings carry the reward of each member.

    Raises:
        ValueError: no example is in the part of the split that was asked for.
    """
    parts = {name: job.limited(own, lambda e: e.prompt_id) for name, own in parts.items()}
    if not any(parts.values()):
        raise ValueError(f"no prompt of {job.data} is in the {job.config.split} part")
    scorer = job.scorer
    model = scorer.model
    for note in [*_notes(job, model, parts, corpus), *counts(skipped or Counter(), "left out")]:
        job.note(note)
    found = outcomes(
        scorer, [e for own in parts.values() for e in own], job.results(), members=members
    )
    read, failures = sorted_out(parts, found)
    job.notes += counts(failures, "cannot be scored")
    job.facts |= {
        "model": model.model_id,
        "fingerprint": model.fingerprint,
        "temperature": model.temperature,
        "thresholds": {head.name: head.error_below for head in model.heads},
        "prompts": {name: len(own) for name, own in parts.items()},
    }
    if job.out is not None and kind is not None:
        plot_reliability(read, kind, model.temperature, job.out / "reliability.png")
    scorable = [len(own) for own in read.values()]
    return {**report(read, model), **unscorable(sum(map(len, parts.values())), sum(scorable))}


def sorted_out(
    parts: Parts, found: Sequence[Outcome]
) -> tuple[dict[str, list[Read]], Counter[str]]:
    """What was scored, by part; and how often what went wrong."""
    remaining = iter(found)
    failures: Counter[str] = Counter()
    read: dict[str, list[Read]] = {}
    for name, examples in parts.items():
        read[name] = []
        for example in examples:
            outcome = next(remaining)
            if isinstance(outcome, ErrorInfo):
                failures[outcome.code] += 1
            else:
                read[name].append((example, outcome))
    return read, failures


def unscorable(total: int, scored: int) -> dict[str, Figure]:
    """The share of prompts that the model could not score."""
    lost = metrics.singly(np.arange(total) >= scored)
    return {"unscorable": metrics.mean(lost, baselines={"none": 0.0}, lower_is_better=True)}


def plot_reliability(
    read: Mapping[str, Sequence[Read]], kind: Comparison, temperature: float, path: Path
) -> None:
    """How often the favoured response won, against the probability it was given; nothing without pairs."""
    curves = {
        part: metrics.reliability(p)
        for part, own in read.items()
        if len(p := np.concatenate([np.empty(0), *probabilities(own, kind, temperature)]))
    }
    if not curves:
        return
    figure, axes = plots.figure("win probability of the favoured response", "share that won")
    axes.plot([0.5, 1], [0.5, 1], color="gray", linestyle="--", linewidth=1, label="calibrated")
    for part, bins in curves.items():
        axes.plot([b.confidence for b in bins], [b.accuracy for b in bins], marker="o", label=part)
    axes.set(xlim=(0.5, 1), ylim=(0, 1))
    plots.save(figure, path)


def counts(reasons: Counter[str], what: str) -> list[str]:
    """ "3 left out: blank response", one line a reason."""
    return [f"{count} {what}: {reason}" for reason, count in sorted(reasons.items())]


def _notes(job: Job, model: Model, parts: Parts, corpus: str) -> list[str]:
    """What a reader of the figures has to know."""
    notes = []
    if not model.thresholds_known:
        notes.append(
            f"the service does not say below which value a unit is an error, and its model is not at hand "
            f"as {model.model_id}: the mean of the calibration is taken, which makes F1 lower than need be"
        )
    trained = corpus and any(
        corpus in value and SPLIT_RULE in value
        for lineage in model.lineages
        for value in lineage.values()
    )
    if trained and job.split != Split.TEST:
        count = Counter(example.split for own in parts.values() for example in own)
        notes.append(
            f"{model.model_id} was trained on {job.suite}, the train part of {SPLIT_RULE}. If these are "
            f"those files, {count[Split.TRAIN]} of {count.total()} prompts were trained on and "
            f"{count[Split.VALIDATION]} calibrated on: --split test has the {count[Split.TEST]} others. "
            "If they are other files, all is well"
        )
    return notes
