"""Which examples a stage works on: corpora of feedback by name, each split by prompt."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tureen.errors import nearest
from tureen.model.manifest import HeadSpec
from tureen.text.encoding import TextEncoder
from tureen_training.data.contrast import contrast_example
from tureen_training.data.corpora import CORPORA, Use, open_corpus
from tureen_training.data.focus import focus
from tureen_training.data.items import Item, encode
from tureen_training.data.qa_feedback import read_references
from tureen_training.data.records import TEACHES, Example, Split
from tureen_training.runlog import progress

CONTRAST = "contrast"
CONTRAST_SEED = 7  # contrast data are data: the same for every ingredient


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One corpus to learn from.

    name: a corpus, see `tureen_training.data.corpora`, or contrast, which is made from QA-Feedback's references.
    path: its file or directory, from the directory of the data.
    share: how often its prompts come by in an epoch; 0.5 takes a random half, another each time.
    heads: the only ones it teaches; empty is every head it has something to say to.
    part: "train" keeps validation and test part of the split out; "all" is for a file that is nothing but
        training data. Contrast data have no other part.
    licence: of the data, where the corpus does not know it.
    accept: train on it in spite of its licence, which then binds the model.
    """

    name: str
    path: str = "."
    share: float = 1.0
    heads: tuple[str, ...] = ()
    part: str = "train"
    licence: str = ""
    accept: bool = False

    def __post_init__(self) -> None:
        if self.name != CONTRAST and self.name not in CORPORA:
            raise ValueError(f"unknown corpus {self.name!r}{nearest(self.name, SOURCES)}")
        if not self.share >= 0:
            raise ValueError(f"share of {self.label} is {self.share}; it must be 0 or more")
        if self.part not in ("train", "all"):
            raise ValueError(f"part of {self.label} is {self.part!r}; it must be train or all")
        if not self.licences:
            raise ValueError(f"{self.label} has no licence; state that of your data")

    @property
    def label(self) -> str:
        return self.name if self.path == "." else f"{self.name}:{self.path}"

    @property
    def licences(self) -> tuple[str, ...]:
        """Lines of a model card."""
        corpus = CORPORA["qa_feedback" if self.name == CONTRAST else self.name]
        return (self.licence,) if self.licence else corpus.licences

    def training(self, data: Path) -> Iterator[Example]:
        """What it trains on; no held-out prompt is among it unless `part` is all.

        Raises:
            LicenceRefused: its licence does not simply allow training, and it was not accepted.
            BadData: while reading, with file and line.
        """
        path = data / self.path
        if self.name == CONTRAST:
            examples = contrast_examples(path)
        else:
            examples = open_corpus(
                self.name,
                path,
                use=Use.TRAINING,
                split=Split.TRAIN if self.part == "train" else None,
                accept=(self.name,) if self.accept else (),
            )
        for example in examples:
            yield without_silent(only_for(example, self.heads)) if self.heads else example

    def validation(self, data: Path) -> Iterator[Example]:
        """What training is watched on."""
        if self.name == CONTRAST or self.part == "all":
            return
        path = data / self.path
        for example in open_corpus(self.name, path, use=Use.EVALUATION, split=Split.VALIDATION):
            yield only_for(example, self.heads) if self.heads else example


SOURCES = (*CORPORA, CONTRAST)
"""What a source may be called."""


def feedback_examples(data: Path, split: Split | None) -> Iterator[Example]:
    """The annotated questions of QA-Feedback, of one part of the fixed split, or of all parts."""
    yield from open_corpus("qa_feedback", data, use=Use.EVALUATION, split=split)


def contrast_examples(data: Path) -> Iterator[Example]:
    """Contrast data from the reference questions, none of which has feedback."""
    rng = random.Random(CONTRAST_SEED)
    references = replace(CORPORA["qa_feedback"], files=("train_1k",))
    for item in read_references(references.file(data)):
        example = contrast_example(item, rng)
        if example is not None:
            yield example


def only_for(example: Example, heads: Collection[str]) -> Example:
    """The same example with nothing to say to any head but these."""
    kinds = {kind for head in heads for kind in TEACHES.get(head, ())}
    return replace(
        example,
        pairs={kind: pairs for kind, pairs in example.pairs.items() if kind in kinds},
        ties={kind: ties for kind, ties in example.ties.items() if kind in kinds},
        spans={head: labels for head, labels in example.spans.items() if head in heads},
        verdicts={head: verdicts for head, verdicts in example.verdicts.items() if head in heads},
        ratings={head: ratings for head, ratings in example.ratings.items() if head in heads},
    )


def without_silent(example: Example) -> Example:
    """The same example without the responses that it says nothing of: they teach nothing and cost a forward pass."""
    compared = [index for pairs in example.pairs.values() for p in pairs for index in p[:2]]
    tied = [index for ties in example.ties.values() for tie in ties for index in tie[:2]]
    rated = [rating.response for ratings in example.ratings.values() for rating in ratings]
    labelled = [
        index
        for by_head in (example.spans, example.verdicts)
        for labels in by_head.values()
        for index, label in enumerate(labels)
        if label is not None
    ]
    kept = sorted({*compared, *tied, *rated, *labelled})
    if not kept:
        return example
    place = {old: new for new, old in enumerate(kept)}
    return replace(
        example,
        responses=tuple(example.responses[i] for i in kept),
        pairs={
            kind: tuple(
                p._replace(chosen=place[p.chosen], rejected=place[p.rejected]) for p in pairs
            )
            for kind, pairs in example.pairs.items()
        },
        ties={
            kind: tuple(t._replace(first=place[t.first], second=place[t.second]) for t in ties)
            for kind, ties in example.ties.items()
        },
        spans={head: tuple(labels[i] for i in kept) for head, labels in example.spans.items()},
        verdicts={head: tuple(said[i] for i in kept) for head, said in example.verdicts.items()},
        ratings={
            head: tuple(mark._replace(response=place[mark.response]) for mark in marks)
            for head, marks in example.ratings.items()
        },
    )


def focused(example: Example, max_words: int) -> Example:
    """The same example with the part of its context that bears on its responses."""
    return replace(example, context=focus(example.context, example.responses, max_words))


def encode_all(
    examples: Iterable[Example], encoder: TextEncoder, heads: Sequence[HeadSpec], what: str
) -> list[Item]:
    return [encode(example, encoder, heads) for example in progress(examples, what)]
