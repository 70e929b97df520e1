"""Which examples a stage works on: QA-Feedback by split and origin."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tureen.errors import nearest
from tureen.model.manifest import HeadSpec
from tureen.text.encoding import TextEncoder
from tureen_training.data.contrast import contrast_example
from tureen_training.data.focus import focus
from tureen_training.data.items import Item, encode
from tureen_training.data.jsonl import find
from tureen_training.data.labels import feedback_example
from tureen_training.data.qa_feedback import read_feedback, read_references
from tureen_training.data.records import Example, Split, split_of
from tureen_training.runlog import progress

CONTRAST_SEED = 7  # contrast data are data: the same for every ingredient


def focused(example: Example, max_words: int) -> Example:
    """The same example with the part of its context that bears on its responses."""
    return replace(example, context=focus(example.context, example.responses, max_words))


def feedback_examples(data: Path, split: Split | None) -> Iterator[Example]:
    """The annotated questions of one part of the fixed split, or of all parts."""
    for item in read_feedback(find(data, "dev_feedback")):
        if split is None or split_of(item.question_id) == split:
            yield feedback_example(item)


def contrast_examples(data: Path) -> Iterator[Example]:
    """Contrast data from the reference questions, none of which has feedback."""
    rng = random.Random(CONTRAST_SEED)
    for item in read_references(find(data, "train_1k")):
        example = contrast_example(item, rng)
        if example is not None:
            yield example


def training_examples(data: Path, origin: str) -> Iterator[Example]:
    """The training part of one origin; no test or validation question is among them.

    Raises:
        ValueError: an unknown origin.
    """
    makers = {
        "feedback": lambda: feedback_examples(data, Split.TRAIN),
        "contrast": lambda: contrast_examples(data),
    }
    if origin not in makers:
        raise ValueError(f"unknown origin {origin!r}{nearest(origin, makers)}")
    return makers[origin]()


def encode_all(
    examples: Iterable[Example], encoder: TextEncoder, heads: Sequence[HeadSpec], what: str
) -> list[Item]:
    return [encode(example, encoder, heads) for example in progress(examples, what)]
