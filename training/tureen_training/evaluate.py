"""Stage `evaluate`: what a model knows, from its directory or through a running service.

A table for people goes to stderr; the last line of stdout is one JSON object, figure -> {value, low, high, n,
prompts, baseline, baselines}: the 95 % interval is a bootstrap over prompts, `baseline` the best predictor that
reads nothing. What each figure is stands at the head of its suite, `tureen_training.evaluation.<suite>`.

A response that the model cannot take (too long) is never given a number: its prompt takes no part, and
`unscorable` is the share of such prompts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tureen.contracts import ErrorInfo
from tureen.errors import nearest
from tureen_training import metrics, plots
from tureen_training.data.records import SPLIT_RULE, Comparison, Example, Split
from tureen_training.evaluation import halueval, hh_rlhf, qa_feedback
from tureen_training.evaluation.comparisons import Read, probabilities
from tureen_training.evaluation.readings import Outcome
from tureen_training.evaluation.results import outcomes
from tureen_training.evaluation.scorers import (
    DEFAULT_MODEL,
    DirectoryScorer,
    Model,
    Scorer,
    ServiceScorer,
)
from tureen_training.evaluation.table import print_table
from tureen_training.metrics import Figure

SUITES = {"qa_feedback": qa_feedback, "hh_rlhf": hh_rlhf, "halueval": halueval}
"""Named in the lineage of ingredients that were trained on one part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Measure a model on questions that people have judged.

    data: directory of the suite's files, as it is published or as our copies have it.
    suite: qa_feedback, hh_rlhf or halueval.
    model: a directory, the name of one in TUREEN_MODELS or in a checkout's service/models, or a Hugging Face
        id; empty is grounded-qa. With `url`: the id of one of the service's models; empty is its default.
    url: of a running service, to score there: http://host:port, or host:port for gRPC; empty scores here.
    api_key: of the service, if it asks for one.
    split: all, or the train, validation or test part of the fixed split by prompt. Of a model trained on the
        train part of these files only the test part says something.
    limit: how many prompts of each part of the suite, the first by the hash of their id; none takes all.
    out: directory for results.jsonl (what the model said, one line a prompt), report.json and reliability.png;
        a run that was stopped goes on from there. Empty writes nothing.
    max_batch_tokens: of one forward pass. device: cpu, cuda. threads: of torch, 0 its own choice.
    """

    data: str
    suite: str = "qa_feedback"
    model: str = ""
    url: str = ""
    api_key: str = ""
    split: str = "all"
    limit: int | None = None
    out: str = ""
    max_batch_tokens: int = 16384
    device: str = "cpu"
    threads: int = 0


def main(config: Config) -> dict[str, Figure]:
    """Measure, print, return the figures."""
    suite, split = _checked(config)
    if config.threads:
        torch.set_num_threads(config.threads)
    out = Path(config.out) if config.out else None
    skipped: Counter[str] = Counter()
    parts = {
        name: limited(examples, config.limit)
        for name, examples in suite.parts(Path(config.data), split, skipped).items()
    }
    if not any(parts.values()):
        raise ValueError(f"no prompt of {config.data} is in the {config.split} part")

    scorer = open_scorer(config)
    try:
        notes = [*_notes(config, scorer.model, parts), *_counts(skipped, "left out")]
        for note in notes:
            print(f"note: {note}", file=sys.stderr)  # noqa: T201 - before minutes of work
        found = outcomes(scorer, [e for own in parts.values() for e in own], out)
    finally:
        scorer.close()

    read, failures = sorted_out(parts, found)
    figures = suite.report(read, scorer.model) | unscorable(parts, read)
    lost = _counts(failures, "cannot be scored")
    title = f"{config.suite}, {config.split} · {scorer.model.model_id} {scorer.model.fingerprint}"
    print_table(title, figures, lost)
    if out is not None:
        _write(out, config, scorer.model, parts, read, figures, [*notes, *lost], suite.COMPARISON)
    print(as_json(figures))  # noqa: T201 - the answer of the command
    return figures


def open_scorer(config: Config) -> Scorer:
    if config.url:
        return ServiceScorer(config.url, model=config.model or None, api_key=config.api_key or None)
    return DirectoryScorer(
        config.model or DEFAULT_MODEL,
        max_batch_tokens=config.max_batch_tokens,
        device=config.device,
    )


def limited(examples: Sequence[Example], limit: int | None) -> list[Example]:
    """The first `limit` by the hash of their id, in the order given: the same ones whatever else is there."""
    if limit is None or limit >= len(examples):
        return list(examples)

    def rank(example: Example) -> bytes:
        return hashlib.sha256(example.prompt_id.encode()).digest()

    last = sorted(map(rank, examples))[limit - 1]
    return [example for example in examples if rank(example) <= last]


def sorted_out(
    parts: Mapping[str, Sequence[Example]], found: Sequence[Outcome]
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


def unscorable(
    parts: Mapping[str, Sequence[Example]], read: Mapping[str, Sequence[Read]]
) -> dict[str, Figure]:
    """The share of prompts that the model could not score."""
    total = sum(map(len, parts.values()))
    scored = sum(map(len, read.values()))
    groups = [np.array([float(place >= scored)]) for place in range(total)]
    return {
        "unscorable": metrics.bootstrap(
            groups, lambda rows: float(rows.mean()), baselines={"none": 0.0}, lower_is_better=True
        )
    }


def as_json(figures: Mapping[str, Figure]) -> str:
    """One line."""
    return json.dumps(as_record(figures), allow_nan=False, ensure_ascii=False)


def as_record(figures: Mapping[str, Figure]) -> dict[str, dict[str, Any]]:
    """Figures as JSON, to six places."""

    def rounded(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: rounded(item) for key, item in value.items()}
        return round(value, 6) if isinstance(value, float) else value

    return {name: rounded(dataclasses.asdict(figure)) for name, figure in figures.items()}


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


def _checked(config: Config) -> tuple[Any, Split | None]:
    if config.suite not in SUITES:
        raise ValueError(f"suite is {config.suite!r}{nearest(config.suite, SUITES)}")
    if config.limit is not None and config.limit < 1:
        raise ValueError(f"limit is {config.limit}; give at least 1, or leave it out")
    if config.split == "all":
        return SUITES[config.suite], None
    known = [part.value for part in Split]
    if config.split not in known:
        raise ValueError(f"split is {config.split!r}{nearest(config.split, ['all', *known])}")
    return SUITES[config.suite], Split(config.split)


def _notes(config: Config, model: Model, parts: Mapping[str, Sequence[Example]]) -> list[str]:
    """What a reader of the figures has to know."""
    notes = []
    if config.limit is not None:
        notes.append(f"only the first {config.limit} prompts of each part, by hash of their id")
    if not model.thresholds_known:
        notes.append(
            f"the service does not say below which value a unit is an error, and its model is not at hand "
            f"as {model.model_id}: the mean of the calibration is taken, which makes F1 lower than need be"
        )
    trained = any(
        SUITES[config.suite].CORPUS in value and SPLIT_RULE in value
        for lineage in model.lineages
        for value in lineage.values()
    )
    if trained and config.split != Split.TEST:
        count = Counter(example.split for own in parts.values() for example in own)
        notes.append(
            f"{model.model_id} was trained on {config.suite}, the train part of {SPLIT_RULE}. If these are "
            f"those files, {count[Split.TRAIN]} of {count.total()} prompts were trained on and "
            f"{count[Split.VALIDATION]} calibrated on: --split test has the {count[Split.TEST]} others. "
            "If they are other files, all is well"
        )
    return notes


def _counts(reasons: Counter[str], what: str) -> list[str]:
    return [f"{count} {what}: {reason}" for reason, count in sorted(reasons.items())]


def _write(
    out: Path,
    config: Config,
    model: Model,
    parts: Mapping[str, Sequence[Example]],
    read: Mapping[str, Sequence[Read]],
    figures: Mapping[str, Figure],
    notes: Sequence[str],
    kind: Comparison,
) -> None:
    report = {
        "suite": config.suite,
        "split": config.split,
        "limit": config.limit,
        "model": model.model_id,
        "fingerprint": model.fingerprint,
        "temperature": model.temperature,
        "thresholds": {head.name: head.error_below for head in model.heads},
        "prompts": {name: len(examples) for name, examples in parts.items()},
        "notes": list(notes),
        "figures": as_record(figures),
    }
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    (out / "report.json").write_text(text + "\n", encoding="utf-8")
    plot_reliability(read, kind, model.temperature, out / "reliability.png")
