"""Stage `evaluate`: what a model knows about questions it never saw. The last line of stdout is one JSON object.

preference_accuracy     human comparisons of the four sampled answers, ties left out
completeness_accuracy   pairs of sampled answers of which one states more of what the corrected answer states
completion_accuracy     human correction over first answer, where something was missing
reward_accuracy         human comparisons by the default reward
relevance_*             sub-sentences of the first answer; F1 of the errors, called where `calibrated` < 0
factuality_*            sentences of the first answer, those with relevance errors alone left out
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tureen.model.checkpoint import load
from tureen.model.manifest import HeadSpec
from tureen.text.encoding import TextEncoder, Window
from tureen_training.data.items import Item, Values, run, tensors
from tureen_training.data.qa_feedback import PREDICTIONS
from tureen_training.data.records import Comparison, Split
from tureen_training.data.sets import encode_all, feedback_examples
from tureen_training.metrics import Figure, accuracy, auroc, bootstrap, f1_always_error, f1_error


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Evaluate a model directory on QA-Feedback.

    model: its directory. data: directory of dev_feedback.jsonl[.gz].
    split: test, validation or train part of the fixed split by question, or all (for files of other questions).
    suite: which data; qa_feedback. max_batch_tokens: of one forward pass. threads: of torch, 0 its own choice.
    """

    model: str
    data: str
    suite: str = "qa_feedback"
    split: str = "test"
    max_batch_tokens: int = 16384
    threads: int = 0


def main(config: Config) -> dict[str, Figure]:
    """Measure, print, return the figures."""
    if config.suite != "qa_feedback":
        raise ValueError(f"suite is {config.suite!r}; known: qa_feedback")
    if config.split != "all" and config.split not in tuple(Split):
        raise ValueError(f"split is {config.split!r}; known: all, {', '.join(Split)}")
    if config.threads:
        torch.set_num_threads(config.threads)
    loaded = load(Path(config.model))
    heads = loaded.manifest.heads
    encoder = TextEncoder.from_directory(loaded.tokenizer_directory, loaded.manifest.text)
    split = None if config.split == "all" else Split(config.split)
    items = encode_all(feedback_examples(Path(config.data), split), encoder, heads, config.split)
    if not items:
        raise ValueError(f"no question of {config.data} is in the {config.split} part")
    values = run(items, heads, forward_of(loaded.model, encoder), config.max_batch_tokens)
    figures = measure(items, values, heads)
    print(as_json(figures))  # noqa: T201 - the answer of the command
    return figures


def as_json(figures: dict[str, Figure]) -> str:
    """One line; figures to four places."""
    return json.dumps(as_record(figures), allow_nan=False)


def as_record(figures: dict[str, Figure]) -> dict[str, dict[str, float | int]]:
    return {
        name: {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in dataclasses.asdict(figure).items()
        }
        for name, figure in figures.items()
    }


def forward_of(
    model: nn.Module, encoder: TextEncoder, group: int = 0
) -> Callable[[list[Window]], Tensor]:
    """Windows -> (B, N, H) values of one group of heads, fp32, without gradients.

    Args:
        model: as `checkpoint.load` gives it.
    """
    pad_id = pad_id_of(encoder)

    def forward(windows: list[Window]) -> Tensor:
        with torch.inference_mode():
            return model(**tensors(windows, pad_id))[:, :, group]

    return forward


def pad_id_of(encoder: TextEncoder) -> int:
    """Any id serves behind the attention mask; 0 where the tokenizer names none."""
    pad_id = encoder.tokenizer.pad_token_id
    return pad_id if isinstance(pad_id, int) else 0


def measure(
    items: Sequence[Item], values: Sequence[Sequence[Values]], heads: Sequence[HeadSpec]
) -> dict[str, Figure]:
    """All figures of annotated questions; a head that the model lacks, or without material, has none.

    Args:
        items, values: the answers to each question and what the model says of them.
    """
    names = {head.name for head in heads}
    figures: dict[str, Figure] = {}

    def compare(figure: str, kind: Comparison, scores: Scores) -> None:
        groups = [margins(item, score, kind) for item, score in zip(items, scores, strict=True)]
        if any(len(group) for group in groups):
            figures[figure] = bootstrap(groups, accuracy, baseline=best_trivial(items, kind))

    compare("reward_accuracy", Comparison.PREFERENCE, rewards(values, heads))
    if "preference" in names:
        scores = head_scores(values, "preference")
        compare("preference_accuracy", Comparison.PREFERENCE, scores)
    if "completeness" in names:
        scores = head_scores(values, "completeness")
        compare("completeness_accuracy", Comparison.COVERAGE, scores)
        compare("completion_accuracy", Comparison.COMPLETION, scores)
    for name in names & {"relevance", "factuality"}:
        centre = next(head.calibration.mean for head in heads if head.name == name)
        groups = [
            unit_rows(item, value, name) - (centre, 0)
            for item, value in zip(items, values, strict=True)
        ]
        rows = np.concatenate(groups)
        if len(set(rows[:, 1])) == 2:
            figures[f"{name}_auroc"] = bootstrap(groups, auroc, baseline=0.5)
            figures[f"{name}_f1"] = bootstrap(groups, f1_error, baseline=f1_always_error(rows))
    return dict(sorted(figures.items()))


Scores = Sequence[Sequence[float]]  # of each item, of each response


def head_scores(values: Sequence[Sequence[Values]], head: str) -> Scores:
    return [[float(value.response(head)) for value in answers] for answers in values]


def rewards(values: Sequence[Sequence[Values]], heads: Sequence[HeadSpec]) -> Scores:
    """Σ_h w_h · (v_h − mean_h) / std_h for each response."""

    def reward(value: Values) -> float:
        return sum(
            head.weight
            * (float(value.response(head.name)) - head.calibration.mean)
            / head.calibration.std
            for head in heads
        )

    return [[reward(value) for value in answers] for answers in values]


def margins(item: Item, scores: Sequence[float], kind: Comparison) -> np.ndarray:
    """score(chosen) − score(rejected) of each pair. (P,)"""
    pairs = item.pairs[kind].tolist() if kind in item.pairs else []
    return np.array([scores[chosen] - scores[rejected] for chosen, rejected in pairs])


def unit_rows(item: Item, values: Sequence[Values], head: str) -> np.ndarray:
    """(value, label) of every unit of the sampled answers that counts; the correction's are no answer. (N, 2)"""
    targets = item.targets[head][:PREDICTIONS]
    rows = [
        torch.stack([value.by_head[head][target.mask], target.labels[target.mask]], dim=1)
        for value, target in zip(values, targets, strict=False)
        if target is not None
    ]
    return torch.cat(rows).double().numpy() if rows else np.empty((0, 2))


def best_trivial(items: Sequence[Item], kind: Comparison) -> float:
    """Accuracy of the best scorer that reads nothing: first, longer or shorter response wins."""

    def of(score: Callable[[int, str], float]) -> float:
        groups = [
            margins(item, [score(k, text) for k, text in enumerate(item.example.responses)], kind)
            for item in items
        ]
        return accuracy(np.concatenate(groups))

    longer = of(lambda _, text: len(text))
    return max(of(lambda k, _: -k), longer, 1 - longer)
