"""Streaming reader of QA-Feedback (Wu et al. 2023, Fine-Grained RLHF, arXiv:2306.01693).

Reads these files, as JSON Lines (gzip or plain) or as the release has them, one JSON array each:

    dev_feedback, train_feedback   questions, passages, four sampled answers with span feedback and preferences
    train_1k, dev                  questions with passages and one reference answer

The spelling of the release is kept ("prediction 1", "error type"). Its questions bear no id; each then gets
one from its file and its position there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypeVar

from tureen.text.segments import Span
from tureen_training.data.jsonl import Fields, Seen, records, stem_of
from tureen_training.data.records import Comparisons, Pair, Tie

RELEVANCE_ERRORS = frozenset({"Irrelevant", "Redundant", "Incoherent"})
FACTUALITY_ERRORS = frozenset({"Wrong-Grounding", "Unverifiable"})
MISSING_KINDS = ("Missing-Answer", "Missing-Major-Auxiliary", "Missing-Minor-Auxiliary")
PREDICTIONS = 4
PREFERENCE_ORDER = tuple(combinations(range(PREDICTIONS), 2))  # 1-2, 1-3, 1-4, 2-3, 2-4, 3-4


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrieved passage: page title and its sentences, in order."""

    title: str
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """As a caller would send it: the sentences joined, under the title unless they begin with it."""
        body = " ".join(self.sentences)
        return body if body.startswith(self.title) else f"{self.title}\n{body}"


@dataclass(frozen=True, slots=True)
class ErrorSpan:
    kind: str  # one of RELEVANCE_ERRORS | FACTUALITY_ERRORS
    span: Span  # characters of prediction 1


@dataclass(frozen=True, slots=True)
class MissingInfo:
    kind: str  # one of MISSING_KINDS
    sentences: tuple[tuple[int, int], ...]  # (passage, sentence), both counted from 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """One annotated question. `errors` and `missing` speak of `predictions[0]` alone."""

    question_id: str
    question: str
    passages: tuple[Passage, ...]
    gold: str
    predictions: tuple[str, ...]  # four
    errors: tuple[ErrorSpan, ...]
    missing: tuple[MissingInfo, ...]
    corrected: str
    preferences: Comparisons


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One question with passages and one reference answer, without feedback."""

    question_id: str
    question: str
    passages: tuple[str, ...]
    answer: str


RecordT = TypeVar("RecordT", Feedback, Reference)

_ID_PREFIXES = {
    "dev": "qaf-dev",
    "dev_feedback": "qaf-dev",
    "train_feedback": "qaf-train",
    "train_1k": "qaf-train1k",
}
"""File -> what its questions are called where they bear no id: prefix and position, as in our copies."""


def read_feedback(path: Path) -> Iterator[Feedback]:
    """Yields the annotated questions of a dev_feedback or train_feedback file one by one; raises `BadData`."""
    return _read(path, _feedback)


def read_references(path: Path) -> Iterator[Reference]:
    """Yields the questions of a train_1k or dev file one by one; raises `BadData`."""
    return _read(path, _reference)


def _read(path: Path, parse: Callable[[Fields], RecordT]) -> Iterator[RecordT]:
    seen = Seen("question_id")
    for fields in records(path):
        item = parse(fields)
        seen.add(item.question_id, fields)
        yield item


def _question_id(fields: Fields) -> str:
    prefix = _ID_PREFIXES.get(stem_of(fields.path))
    if "question_id" in fields.record or prefix is None:
        return fields.text("question_id")
    return f"{prefix}-{fields.index:04d}"


def _feedback(fields: Fields) -> Feedback:
    passages = tuple(_passages(fields))
    predictions = tuple(fields.text(f"prediction {i + 1}") for i in range(PREDICTIONS))
    marks = fields.object("feedback")
    return Feedback(
        question_id=_question_id(fields),
        question=fields.text("question"),
        passages=passages,
        gold=fields.text("gold"),
        predictions=predictions,
        errors=tuple(_error(mark, predictions[0]) for mark in marks.objects("errors")),
        missing=tuple(_missing(mark, passages) for mark in marks.objects("missing-info")),
        corrected=marks.get("corrected-prediction", str),
        preferences=_preferences(fields),
    )


def _passages(fields: Fields) -> Iterator[Passage]:
    for index, passage in enumerate(fields.get("passages", list)):
        if (
            not isinstance(passage, list)
            or len(passage) < 2
            or not all(isinstance(part, str) for part in passage)
        ):
            raise fields.bad(f"passages[{index}] must be [title, sentence, …], all strings")
        yield Passage(title=passage[0], sentences=tuple(passage[1:]))


def _error(mark: Fields, prediction: str) -> ErrorSpan:
    kind = mark.one_of("error type", RELEVANCE_ERRORS | FACTUALITY_ERRORS)
    span = mark.span([mark.get("start", int), mark.get("end", int)], prediction, "prediction 1")
    return ErrorSpan(kind=kind, span=span)


def _missing(mark: Fields, passages: tuple[Passage, ...]) -> MissingInfo:
    kind = mark.one_of("error type", MISSING_KINDS)
    passage = mark.get("passage_id", int) - 1  # the file counts from 1
    if not 0 <= passage < len(passages):
        raise mark.bad(f"passage_id {passage + 1}, but there are {len(passages)} passages")
    sentences = []
    for sentence in mark.get("sentence_id", list):  # 0 is the title, 1 the first sentence
        if not isinstance(sentence, int) or not 0 <= sentence <= len(passages[passage].sentences):
            raise mark.bad(
                f"sentence_id {sentence!r}, but passage {passage + 1} has "
                f"{len(passages[passage].sentences)} sentences"
            )
        if sentence > 0:
            sentences.append((passage, sentence - 1))
    return MissingInfo(kind=kind, sentences=tuple(sentences))


def _preferences(fields: Fields) -> Comparisons:
    labels = fields.get("preference", list)
    if len(labels) != len(PREFERENCE_ORDER) or any(
        label not in (0, 1, 2) or isinstance(label, bool) for label in labels
    ):
        raise fields.bad(f"'preference' must be six labels out of 0, 1, 2, got {labels!r}")
    compared = list(zip(PREFERENCE_ORDER, labels, strict=True))
    return Comparisons(
        tuple(
            Pair(chosen=i, rejected=j) if label == 1 else Pair(chosen=j, rejected=i)
            for (i, j), label in compared
            if label != 0
        ),
        tuple(Tie(i, j) for (i, j), label in compared if label == 0),
    )


def _reference(fields: Fields) -> Reference:
    answers = fields.get("answer", list)
    if not answers or not isinstance(answers[0], str) or not answers[0].strip():
        raise fields.bad("'answer' must be a list that begins with the reference answer")
    return Reference(
        question_id=_question_id(fields),
        question=fields.text("question"),
        passages=tuple(passage.text("content") for passage in fields.objects("passages")),
        answer=answers[0],
    )
