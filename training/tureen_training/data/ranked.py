"""Readers of ranked responses: one prompt, the responses of several systems, and who thought what of them.

The five sources share the form of a record and differ in their judgments:

    pandalm    three people on each pair: 1, 2, or 0 for a tie
    tulu       one to four people on a pair, in five grades
    vicuna80   GPT-4 on each pair in both orders: 1, 2, or 0 for a tie
    prometheus three marks from 1 to 5 of each response by GPT-4, against a written criterion
    alpaca     one score a response, from comparisons with two baselines by GPT-4

Raters stay apart: a pair that two of three people prefer one way gives three pairs, and whoever wants one vote makes
it from them. Responses that are blank are left out with their judgments, and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from tureen.contracts import Message
from tureen_training.data.dialogue import split_turns
from tureen_training.data.jsonl import Fields, Seen, records
from tureen_training.data.records import (
    HIGHEST_RATING,
    LOWEST_RATING,
    Comparison,
    Comparisons,
    Example,
    Pair,
    Rating,
    Tie,
    compare,
    compare_ratings,
    group_of,
)

TULU_GRADES = {
    "a-is-better": (1, 2 / 3),
    "a-is-slightly-better": (1, 1 / 3),
    "tie": (0, 0.0),
    "b-is-slightly-better": (2, 1 / 3),
    "b-is-better": (2, 2 / 3),
}
"""Grade -> label and margin; "better" and "slightly better" weigh as in Llama 2 (arXiv:2307.09288, table 27)."""

ALPACA_TIE = 0.01
"""Scores no further apart are ties: against the stronger baseline most systems have a score near zero."""

_SPEAKERS = {"User": "user", "Assistant": "assistant"}


@dataclass(frozen=True, slots=True)
class _Record:
    """A record without its blank responses. index: response_id -> position, None where it was left out."""

    fields: Fields
    name: str
    prompt: str
    judge: str
    index: dict[str, int | None]
    responses: list[Fields]

    def example(
        self,
        origin: str,
        kind: Comparison,
        comparisons: Comparisons,
        ratings: tuple[Rating, ...] = (),
    ) -> Example:
        return Example(
            prompt_id=self.name,
            origin=origin,
            prompt=self.prompt,
            responses=tuple(response.text("text") for response in self.responses),
            pairs={kind: comparisons.pairs},
            ties={kind: comparisons.ties},
            ratings={"preference": ratings} if ratings else {},
            group=group_of(self.prompt),
        )


Labels: TypeAlias = Callable[[Fields, str], Iterator[tuple[int | None, float, str]]]
"""(judgment, judge) -> label 1, 2, 0 or None, margin and rater of each opinion in it."""


def read_pandalm(path: Path, skipped: Counter[str], origin: str) -> Iterator[Example]:
    def labels(judgment: Fields, judge: str) -> Iterator[tuple[int | None, float, str]]:
        for number, label in enumerate(judgment.items("labels", int), start=1):
            yield label, 0.0, f"annotator_{number}"

    return _judged(path, skipped, origin, labels)


def read_tulu(path: Path, skipped: Counter[str], origin: str) -> Iterator[Example]:
    def labels(judgment: Fields, judge: str) -> Iterator[tuple[int | None, float, str]]:
        yield (
            *TULU_GRADES[judgment.one_of("preference", TULU_GRADES)],
            judgment.text("annotator"),
        )

    return _judged(path, skipped, origin, labels)


def read_vicuna80(path: Path, skipped: Counter[str], origin: str) -> Iterator[Example]:
    def labels(judgment: Fields, judge: str) -> Iterator[tuple[int | None, float, str]]:
        yield judgment.optional("label", int), 0.0, judge

    return _judged(path, skipped, origin, labels)


def read_scored(
    path: Path, skipped: Counter[str], origin: str, *, tolerance: float = 0.0
) -> Iterator[Example]:
    """Any of the five by the score of each response, whoever gave it: one order a prompt, ties where scores are equal.

    Responses without a score are left out too, and counted; so are second turns, whose responses do not answer the
    same dialogue.

    Args:
        tolerance: scores no further apart than this are a tie.
    """
    for record in _records(path, skipped):
        if any("context" in response.record for response in record.responses):
            skipped["responses to different dialogues"] += 1
            continue
        scored = [r for r in record.responses if r.record.get("score") is not None]
        skipped["response without a score"] += len(record.responses) - len(scored)
        scores = [response.number("score") for response in scored]
        comparisons = compare(scores, tolerance=tolerance, rater=record.judge)
        yield replace(record, responses=scored).example(origin, Comparison.PREFERENCE, comparisons)


read_alpaca = partial(read_scored, tolerance=ALPACA_TIE)


def read_prometheus(path: Path, skipped: Counter[str], origin: str) -> Iterator[Example]:
    """Second turns follow each system's own first turn: each is an example of its own, with its dialogue."""
    for record in _records(path, skipped):
        ratings = [
            [Rating(k, value, f"{record.judge}, sample {s}") for s, value in _marks(response)]
            for k, response in enumerate(record.responses)
        ]
        if not any("context" in response.record for response in record.responses):
            marks = tuple(mark for own in ratings for mark in own)
            yield record.example(origin, Comparison.RATING, compare_ratings(marks), marks)
            continue
        for response, own in zip(record.responses, ratings, strict=True):
            yield Example(
                prompt_id=f"{record.name}-{response.text('response_id')}",
                origin=origin,
                messages=_dialogue(response),
                responses=(response.text("text"),),
                ratings={"preference": tuple(mark._replace(response=0) for mark in own)},
                group=group_of(record.prompt),
            )


def _judged(path: Path, skipped: Counter[str], origin: str, labels: Labels) -> Iterator[Example]:
    for record in _records(path, skipped):
        pairs: list[Pair] = []
        ties: list[Tie] = []
        for judgment in record.fields.objects("judgments"):
            a, b = (_position(judgment, name, record.index) for name in ("a", "b"))
            for label, margin, rater in labels(judgment, record.judge):
                if label not in (0, 1, 2, None):
                    raise judgment.bad(f"a label must be 1, 2, or 0 for a tie, got {label!r}")
                if a is None or b is None:
                    skipped["judgment of a blank response"] += 1
                elif a == b:
                    raise judgment.bad("'a' and 'b' are the same response")
                elif label is None:
                    skipped["unreadable verdict"] += 1
                elif label == 0:
                    ties.append(Tie(a, b, rater))
                else:
                    chosen, rejected = (a, b) if label == 1 else (b, a)
                    pairs.append(Pair(chosen, rejected, margin, rater))
        yield record.example(origin, Comparison.PREFERENCE, Comparisons(tuple(pairs), tuple(ties)))


def _position(judgment: Fields, name: str, index: dict[str, int | None]) -> int | None:
    return index[judgment.one_of(name, index)]


def _records(path: Path, skipped: Counter[str]) -> Iterator[_Record]:
    seen = Seen("prompt_id")
    for fields in records(path):
        name = fields.text("prompt_id")
        seen.add(name, fields)
        index: dict[str, int | None] = {}
        kept: list[Fields] = []
        for response in fields.objects("responses"):
            response_id = response.text("response_id")
            if response_id in index:
                raise response.bad(f"response_id {response_id!r} comes twice")
            blank = not response.get("text", str).strip()
            index[response_id] = None if blank else len(kept)
            if blank:
                skipped["blank response"] += 1
            else:
                kept.append(response)
        if not kept:
            skipped["prompt without a response"] += 1
            continue
        yield _Record(fields, name, fields.text("prompt"), fields.text("judge"), index, kept)


def _marks(response: Fields) -> Iterator[tuple[int, float]]:
    for sample, value in enumerate(response.items("ratings", int), start=1):
        if not LOWEST_RATING <= value <= HIGHEST_RATING:
            raise response.bad(f"ratings go from 1 to 5, got {value}")
        yield sample, float(value)


def _dialogue(response: Fields) -> tuple[Message, ...]:
    _, messages = split_turns(response.text("context"), _SPEAKERS)
    if not messages or messages[-1].role != "user":
        raise response.bad("'context' must be a dialogue that ends in a turn of User")
    return messages
