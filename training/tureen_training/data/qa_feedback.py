"""Streaming reader of QA-Feedback (Wu et al. 2023, Fine-Grained RLHF, arXiv:2306.01693).

Reads the JSON Lines files (gzip or plain) of one directory:

    dev_feedback.jsonl[.gz]   questions, passages, four sampled answers with span feedback and preferences
    train_1k.jsonl[.gz]       further questions with passages and one reference answer

Every error names the file and the line. The spelling of the release is kept ("prediction 1",
"error type"), so files that carry it unchanged are read as they are.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

from tureen.text.segments import Span
from tureen_training.data.records import Pair

RELEVANCE_ERRORS = frozenset({"Irrelevant", "Redundant", "Incoherent"})
FACTUALITY_ERRORS = frozenset({"Wrong-Grounding", "Unverifiable"})
MISSING_KINDS = ("Missing-Answer", "Missing-Major-Auxiliary", "Missing-Minor-Auxiliary")
PREDICTIONS = 4
PREFERENCE_ORDER = tuple(combinations(range(PREDICTIONS), 2))  # 1-2, 1-3, 1-4, 2-3, 2-4, 3-4


class BadData(ValueError):
    """A data file does not hold what its format says; the message begins with file:line."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}")
        self.path, self.line, self.problem = path, line, problem

    def __reduce__(self):
        return type(self), (self.path, self.line, self.problem)


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
    preferences: tuple[Pair, ...]  # ties dropped
    ties: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One question with passages and one reference answer, without feedback."""

    question_id: str
    question: str
    passages: tuple[str, ...]
    answer: str


RecordT = TypeVar("RecordT", Feedback, Reference)
ValueT = TypeVar("ValueT")


def find(directory: Path, stem: str) -> Path:
    """The file `stem`.jsonl or `stem`.jsonl.gz of a directory.

    Raises:
        FileNotFoundError: neither is there.
    """
    for name in (f"{stem}.jsonl.gz", f"{stem}.jsonl"):
        if (directory / name).is_file():
            return directory / name
    raise FileNotFoundError(
        f"{directory} holds neither {stem}.jsonl.gz nor {stem}.jsonl; "
        "give the directory of QA-Feedback with --data"
    )


def read_feedback(path: Path) -> Iterator[Feedback]:
    """Yields the annotated questions of a dev_feedback file one by one; raises `BadData`."""
    return _read(path, _feedback)


def read_references(path: Path) -> Iterator[Reference]:
    """Yields the questions of a train_1k file one by one; raises `BadData`."""
    return _read(path, _reference)


def _read(path: Path, parse: Callable[[_Fields], RecordT]) -> Iterator[RecordT]:
    seen: dict[str, int] = {}
    number = 0
    for number, line in _lines(path):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadData(path, number, f"not JSON: {error}") from None
        if not isinstance(record, dict):
            raise BadData(path, number, f"expected an object, got {type(record).__name__}")
        item = parse(_Fields(record, path, number))
        if item.question_id in seen:
            raise BadData(
                path,
                number,
                f"question_id {item.question_id!r} was already on line {seen[item.question_id]}",
            )
        seen[item.question_id] = number
        yield item
    if number == 0:
        raise BadData(path, 1, "the file is empty; at least one record is needed")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    number = 0
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                yield number, line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadData(path, number + 1, f"broken gzip data: {error}") from None
    except UnicodeDecodeError as error:
        raise BadData(path, number + 1, f"not UTF-8: {error}") from None


class _Fields:
    """Typed access to one record; whatever is wrong is said with the file and the line."""

    def __init__(self, record: dict[str, Any], path: Path, line: int, at: str = "") -> None:
        self.record, self.path, self.line, self.at = record, path, line, at

    def bad(self, problem: str) -> BadData:
        return BadData(self.path, self.line, self.at + problem)

    def get(self, name: str, kind: type[ValueT]) -> ValueT:
        if name not in self.record:
            raise self.bad(f"field {name!r} is missing")
        value = self.record[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.bad(f"{name!r} must be {kind.__name__}, got {type(value).__name__}")
        return value

    def text(self, name: str) -> str:
        value = self.get(name, str)
        if not value.strip():
            raise self.bad(f"{name!r} is blank")
        return value

    def objects(self, name: str) -> Iterator[_Fields]:
        for index, value in enumerate(self.get(name, list)):
            at = f"{self.at}{name}[{index}]: "
            if not isinstance(value, dict):
                raise BadData(self.path, self.line, f"{at}expected an object, got {value!r}")
            yield _Fields(value, self.path, self.line, at)

    def one_of(self, name: str, known: frozenset[str] | tuple[str, ...]) -> str:
        value = self.get(name, str)
        if value not in known:
            raise self.bad(f"{name!r} is {value!r}; known: {', '.join(sorted(known))}")
        return value


def _feedback(fields: _Fields) -> Feedback:
    passages = tuple(_passages(fields))
    predictions = tuple(fields.text(f"prediction {i + 1}") for i in range(PREDICTIONS))
    marks = _Fields(fields.get("feedback", dict), fields.path, fields.line, "feedback: ")
    pairs, ties = _preferences(fields)
    return Feedback(
        question_id=fields.text("question_id"),
        question=fields.text("question"),
        passages=passages,
        gold=fields.text("gold"),
        predictions=predictions,
        errors=tuple(_error(mark, predictions[0]) for mark in marks.objects("errors")),
        missing=tuple(_missing(mark, passages) for mark in marks.objects("missing-info")),
        corrected=marks.get("corrected-prediction", str),
        preferences=pairs,
        ties=ties,
    )


def _passages(fields: _Fields) -> Iterator[Passage]:
    for index, passage in enumerate(fields.get("passages", list)):
        if (
            not isinstance(passage, list)
            or len(passage) < 2
            or not all(isinstance(part, str) for part in passage)
        ):
            raise fields.bad(f"passages[{index}] must be [title, sentence, …], all strings")
        yield Passage(title=passage[0], sentences=tuple(passage[1:]))


def _error(mark: _Fields, prediction: str) -> ErrorSpan:
    kind = mark.one_of("error type", RELEVANCE_ERRORS | FACTUALITY_ERRORS)
    start, end = mark.get("start", int), mark.get("end", int)
    if not 0 <= start < end <= len(prediction):
        raise mark.bad(
            f"span [{start}, {end}) does not lie in prediction 1 of {len(prediction)} characters"
        )
    return ErrorSpan(kind=kind, span=Span(start, end))


def _missing(mark: _Fields, passages: tuple[Passage, ...]) -> MissingInfo:
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


def _preferences(fields: _Fields) -> tuple[tuple[Pair, ...], int]:
    labels = fields.get("preference", list)
    if len(labels) != len(PREFERENCE_ORDER) or any(label not in (0, 1, 2) for label in labels):
        raise fields.bad(f"'preference' must be six labels out of 0, 1, 2, got {labels!r}")
    pairs = tuple(
        Pair(chosen=i, rejected=j) if label == 1 else Pair(chosen=j, rejected=i)
        for (i, j), label in zip(PREFERENCE_ORDER, labels, strict=True)
        if label != 0
    )
    return pairs, labels.count(0)


def _reference(fields: _Fields) -> Reference:
    answers = fields.get("answer", list)
    if not answers or not isinstance(answers[0], str) or not answers[0].strip():
        raise fields.bad("'answer' must be a list that begins with the reference answer")
    return Reference(
        question_id=fields.text("question_id"),
        question=fields.text("question"),
        passages=tuple(passage.text("content") for passage in fields.objects("passages")),
        answer=answers[0],
    )
