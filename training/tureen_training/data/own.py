"""Reader of feedback of your own: one JSON Lines format for rankings, ratings, pairs and spans.

A record is one prompt, its responses, and whatever raters said of them:

    {"id": "q1",                                    wanted, unique in the file
     "prompt": "Why is the sky blue?",              or "messages": [{"role": "user", "content": "…"}, …]
     "context": ["Passage one.", "Passage two."],   optional
     "responses": ["…", "…", "…"],                  wanted, K of them, none blank

     "rankings": [{"ranks": [1, 2, 2],              one rank a response, 1 the best, equal ranks are a tie
                   "rater": "ann",                  optional, here and below
                   "margin": 0.5}],                 optional: of a pair one rank apart
     "pairs":    [{"chosen": 0, "rejected": 2,      responses are counted from 0
                   "kind": "preference",            optional: what it rests on, see `Comparison`
                   "margin": 0.5, "rater": "bob"}],
     "ties":     [{"first": 0, "second": 1, "kind": "preference", "rater": "bob"}],
     "ratings":  [{"response": 0, "value": 4,       from 1 to 5
                   "head": "preference",            optional
                   "rater": "ann"}],
     "spans":    {"factuality": [[[14, 18]], null, []]},   head -> for each response its error spans,
     "ignored":  {"factuality": [[], null, [[0, 9]]]},     and spans that say nothing; null: nobody looked
     "group": "topic-7"}                            optional: records of a group fall into one part of a split

At least one kind of feedback is wanted. Spans are [start, end) in characters (Unicode code points) of the response.
`ignored` may name only responses that `spans` looked at. An unknown field is an error, so that a slip of the pen does
not lose feedback.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from tureen.contracts import Message
from tureen.text.segments import Span
from tureen_training.data.jsonl import Fields, Seen, records
from tureen_training.data.records import (
    HIGHEST_RATING,
    LOWEST_RATING,
    Comparison,
    Comparisons,
    Example,
    Pair,
    Ranking,
    Rating,
    SpanLabels,
    Tie,
    compare_ratings,
)

FEEDBACK = ("rankings", "pairs", "ties", "ratings", "spans")
_FIELDS = ("id", "prompt", "messages", "context", "responses", *FEEDBACK, "ignored", "group")


def read_own(path: Path, origin: str, *, labelled: bool = True) -> Iterator[Example]:
    """Yields the records one by one; raises `BadData`.

    Args:
        labelled: whether a record without any feedback is an error.
    """
    seen = Seen("id")
    for fields in records(path):
        fields.only(_FIELDS)
        name = fields.text("id")
        seen.add(name, fields)
        prompt, messages = read_prompt(fields)
        responses = fields.texts("responses")
        if not responses:
            raise fields.bad("'responses' is empty; at least one is needed")
        if labelled and not any(fields.record.get(kind) for kind in FEEDBACK):
            raise fields.bad(f"no feedback; give one or more of {', '.join(FEEDBACK)}")
        ratings = dict(_ratings(fields, len(responses)))
        compared = _compared(fields, len(responses), ratings.get("preference", ()))
        yield Example(
            prompt_id=name,
            origin=origin,
            prompt=prompt,
            messages=messages,
            context=fields.texts("context") if "context" in fields.record else (),
            responses=responses,
            pairs={kind: comparisons.pairs for kind, comparisons in compared.items()},
            ties={kind: comparisons.ties for kind, comparisons in compared.items()},
            spans=_spans(fields, responses),
            ratings=ratings,
            group=fields.optional_text("group"),
        )


def read_prompt(fields: Fields) -> tuple[str | None, tuple[Message, ...] | None]:
    """The prompt or the messages of a record, whichever it has; raises BadData."""
    if ("prompt" in fields.record) == ("messages" in fields.record):
        raise fields.bad("a record has exactly one of 'prompt' and 'messages'")
    if "prompt" in fields.record:
        return fields.text("prompt"), None
    messages = tuple(
        Message(role=message.text("role"), content=message.text("content"))
        for message in fields.objects("messages")
    )
    if not messages or messages[-1].role == "assistant":
        raise fields.bad("'messages' must end before the response, not in a turn of the assistant")
    return None, messages


def _compared(fields: Fields, k: int, ratings: tuple[Rating, ...]) -> dict[Comparison, Comparisons]:
    """What rankings, pairs, ties and ratings say, by what it rests on."""
    total: dict[Comparison, Comparisons] = {}

    def add(kind: Comparison, comparisons: Comparisons) -> None:
        total[kind] = total.get(kind, Comparisons()) + comparisons

    for ranking in _marks(fields, "rankings", ("ranks", "rater", "margin")):
        ranks = tuple(ranking.items("ranks", int))
        if len(ranks) != k:
            raise ranking.bad(f"'ranks' must be one a response, {k} of them, got {len(ranks)}")
        rater = ranking.optional_text("rater")
        order = Ranking(ranks=ranks, rater=rater, margin=_margin(ranking))
        add(Comparison.PREFERENCE, order.comparisons())
    for mark in _marks(fields, "pairs", ("chosen", "rejected", "kind", "margin", "rater")):
        chosen, rejected = _two(mark, "chosen", "rejected", k)
        pair = Pair(chosen, rejected, _margin(mark), mark.optional_text("rater"))
        add(_kind(mark), Comparisons(pairs=(pair,)))
    for mark in _marks(fields, "ties", ("first", "second", "kind", "rater")):
        tie = Tie(*_two(mark, "first", "second", k), mark.optional_text("rater"))
        add(_kind(mark), Comparisons(ties=(tie,)))
    if ratings:
        add(Comparison.RATING, compare_ratings(ratings))
    return total


def _ratings(fields: Fields, k: int) -> Iterator[tuple[str, tuple[Rating, ...]]]:
    """head -> its ratings; a rater marks a response once."""
    found: dict[tuple[str, int, str | None], Rating] = {}
    for mark in _marks(fields, "ratings", ("response", "value", "head", "rater")):
        head = mark.optional_text("head") or "preference"
        value = mark.number("value")
        if not LOWEST_RATING <= value <= HIGHEST_RATING:
            raise mark.bad(f"'value' goes from 1 to 5, got {value:g}")
        rating = Rating(_response(mark, "response", k), value, mark.optional_text("rater"))
        key = (head, rating.response, rating.rater)
        if key in found:
            raise mark.bad(f"rater {rating.rater!r} already marked response {rating.response}")
        found[key] = rating
    by_head = sorted(((head, rating) for (head, _, _), rating in found.items()), key=itemgetter(0))
    for head, own in groupby(by_head, key=itemgetter(0)):
        yield head, tuple(rating for _, rating in own)


def _spans(fields: Fields, responses: tuple[str, ...]) -> dict[str, tuple[SpanLabels | None, ...]]:
    errors = _by_head(fields, "spans", responses)
    ignored = _by_head(fields, "ignored", responses)
    labels: dict[str, tuple[SpanLabels | None, ...]] = {}
    for head in ignored:
        if head not in errors:
            raise fields.bad(f"'ignored' speaks of head {head!r}, but 'spans' does not")
    for head, marked in errors.items():
        left_out = ignored.get(head, (None,) * len(responses))
        for k, (one, other) in enumerate(zip(marked, left_out, strict=True)):
            if one is None and other:
                raise fields.bad(f"'ignored' of {head} marks response {k}, but 'spans' has null")
        labels[head] = tuple(
            None if one is None else SpanLabels(errors=one, ignored=other or ())
            for one, other in zip(marked, left_out, strict=True)
        )
    return labels


def _by_head(
    fields: Fields, name: str, responses: tuple[str, ...]
) -> dict[str, tuple[tuple[Span, ...] | None, ...]]:
    """head -> for each response the spans marked in it, or None."""
    if name not in fields.record:
        return {}
    heads = fields.object(name)
    found: dict[str, tuple[tuple[Span, ...] | None, ...]] = {}
    for head in heads.record:
        lists = heads.get(head, list)
        if len(lists) != len(responses):
            raise heads.bad(
                f"{head!r} must be one list or null a response, {len(responses)} of them, got {len(lists)}"
            )
        found[head] = tuple(
            None if marks is None else tuple(_read_spans(heads, head, k, marks, text))
            for k, (marks, text) in enumerate(zip(lists, responses, strict=True))
        )
    return found


def _read_spans(fields: Fields, head: str, k: int, marks: object, text: str) -> Iterator[Span]:
    if not isinstance(marks, list):
        raise fields.bad(f"{head}[{k}] must be a list of [start, end], or null, got {marks!r}")
    for mark in marks:
        yield fields.span(mark, text, f"responses[{k}]")


def _marks(fields: Fields, name: str, known: tuple[str, ...]) -> Iterator[Fields]:
    for mark in fields.objects(name) if name in fields.record else ():
        mark.only(known)
        yield mark


def _kind(mark: Fields) -> Comparison:
    if "kind" not in mark.record:
        return Comparison.PREFERENCE
    return Comparison(mark.one_of("kind", [kind.value for kind in Comparison]))


def _margin(mark: Fields) -> float:
    if mark.record.get("margin") is None:
        return 0.0
    margin = mark.number("margin")
    if margin < 0:
        raise mark.bad(f"'margin' must be at least 0, got {margin:g}")
    return margin


def _two(mark: Fields, first: str, second: str, k: int) -> tuple[int, int]:
    one, other = _response(mark, first, k), _response(mark, second, k)
    if one == other:
        raise mark.bad(f"{first!r} and {second!r} are the same response")
    return one, other


def _response(mark: Fields, name: str, k: int) -> int:
    index = mark.get(name, int)
    if not 0 <= index < k:
        raise mark.bad(f"{name!r} is {index}, but there are {k} responses, counted from 0")
    return index
