"""Which examples a stage works on: QA-Feedback by split and origin."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tureen.model.manifest import HeadSpec
from tureen.text.encoding import TextEncoder
from tureen_training.data.contrast import contrast_example
from tureen_training.data.items import Item, encode
from tureen_training.data.labels import correction_example, preference_example
from tureen_training.data.qa_feedback import Feedback, find, read_feedback, read_references
from tureen_training.data.records import Example, Split, split_of
from tureen_training.runlog import progress

ORIGINS = ("preference", "correction", "contrast")
CONTRAST_SEED = 7  # contrast data are data: the same for every ingredient


def feedback_of(data: Path, split: Split | None) -> Iterator[Feedback]:
    """The annotated questions of one part of the fixed split, or of all parts."""
    for item in read_feedback(find(data, "dev_feedback")):
        if split is None or split_of(item.question_id) == split:
            yield item


def feedback_examples(feedback: Iterable[Feedback]) -> dict[str, list[Example]]:
    """origin -> examples made from annotated questions."""
    examples: dict[str, list[Example]] = {"preference": [], "correction": []}
    for item in feedback:
        examples["preference"].append(preference_example(item))
        corrected = correction_example(item)
        if corrected is not None:
            examples["correction"].append(corrected)
    return examples


def contrast_examples(data: Path) -> list[Example]:
    """Contrast data from the reference questions, none of which has feedback."""
    rng = random.Random(CONTRAST_SEED)
    made = (contrast_example(item, rng) for item in read_references(find(data, "train_1k")))
    return [example for example in made if example is not None]


def encode_all(
    examples: dict[str, list[Example]], encoder: TextEncoder, heads: Sequence[HeadSpec]
) -> dict[str, list[Item]]:
    return {
        origin: [encode(example, encoder, heads) for example in progress(part, origin)]
        for origin, part in examples.items()
    }
