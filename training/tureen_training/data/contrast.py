"""Contrast data made from a reference answer and its passages: what each head must tell apart.

Nobody annotated these; the label follows from how the response was made. For one question:

    reference   the human answer
    dropped     the same without one or two of its sentences                 completeness: worse
    disturbed   the same with passage sentences it has no use for put in     relevance: those are errors
                and names or numbers exchanged in one of its own             factuality: that is an error
    extracted   passage sentences the answer draws on, among others it does  relevance: the others are errors
                not, half of the time with names or numbers exchanged

The last one keeps "copied from the passage" from standing for "irrelevant" or for "clean".
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tureen.text.segments import Span
from tureen_training.data.focus import sentences_of, share, words_of
from tureen_training.data.qa_feedback import Reference
from tureen_training.data.records import Comparison, Example, Pair, SpanLabels

GROUNDED = 0.8  # share of a sentence's content words that the passages hold: they bear it out
USED = 0.6  # share of a passage sentence's content words that the answer holds: it draws on it
UNUSED = 0.3  # below this share it does not
MAX_ANSWER_WORDS = 150  # a longer one leaves no room for evidence in a window
_FACT = re.compile(  # a number, or a run of capitalised words that does not open a sentence
    r"\b\d[\d,.]*\d\b|\b\d\b|(?<=[\w,;:] )[A-Z][\w’'-]+(?: (?:of |the |de )?[A-Z][\w’'-]+)*"
)


@dataclass(frozen=True, slots=True)
class _Piece:
    """One sentence of a response being made, and what is wrong with it."""

    text: str
    irrelevant: bool = False
    false: bool = False
    grounded: bool = True  # whether the passages bear it out; nothing is claimed of others


def contrast_example(item: Reference, rng: random.Random) -> Example | None:
    """One example out of one reference, or None where passages or answer are too poor, or the answer too long."""
    context = item.passages
    answer = sentences_of(item.answer)
    evidence = [s for passage in context for s in sentences_of(passage) if len(s.split()) >= 5]
    said, known = words_of(f"{item.question} {item.answer}"), words_of(" ".join(context))
    used = [s for s in evidence if share(s, said) >= USED]
    unused = [s for s in evidence if share(s, said) < UNUSED]
    short = len(item.answer.split()) <= MAX_ANSWER_WORDS
    if len(answer) < 2 or not short or not unused or not used:
        return None

    own = [_Piece(s, grounded=share(s, known) >= GROUNDED) for s in answer]
    dropped = list(own)
    for _ in range(min(len(own) - 1, rng.choice((1, 2)))):
        dropped.pop(rng.randrange(len(dropped)))
    disturbed = _exchange_one(list(own), context, rng)
    for sentence in rng.sample(unused, min(len(unused), rng.choice((1, 2)))):
        disturbed.insert(rng.randint(0, len(disturbed)), _Piece(sentence, irrelevant=True))
    extracted = [_Piece(s) for s in rng.sample(used, min(len(used), 2))]
    if rng.random() < 0.5:
        extracted = _exchange_one(extracted, context, rng)
    for sentence in rng.sample(unused, min(len(unused), rng.choice((1, 2)))):
        extracted.insert(rng.randint(0, len(extracted)), _Piece(sentence, irrelevant=True))

    rendered = [_render(pieces) for pieces in (own, dropped, disturbed, extracted)]
    return Example(
        prompt_id=item.question_id,
        origin="contrast",
        prompt=item.question,
        context=context,
        responses=tuple(text for text, _ in rendered),
        pairs={
            Comparison.CORRECTION: (Pair(0, 1), Pair(0, 2)),
            Comparison.COMPLETION: (Pair(0, 1), Pair(2, 1)),
        },
        spans={
            head: tuple(labels[head] for _, labels in rendered)
            for head in ("factuality", "relevance")
        },
    )


def _exchange_one(pieces: list[_Piece], context: Sequence[str], rng: random.Random) -> list[_Piece]:
    """Exchanges names or numbers in one grounded sentence for others of the passages, if there are any."""
    facts = {match.group() for passage in context for match in _FACT.finditer(passage)}
    order = [i for i, piece in enumerate(pieces) if piece.grounded]
    rng.shuffle(order)
    for index in order:
        text = pieces[index].text
        places = [match for match in _FACT.finditer(text) if match.start() > 0]
        rng.shuffle(places)
        changes: dict[Span, str] = {}
        for place in places:
            others = [
                fact for fact in sorted(facts) if _alike(fact, place.group()) and fact not in text
            ]
            if others and len(changes) < 2:
                changes[Span(*place.span())] = rng.choice(others)
        if changes:
            for span in sorted(changes, reverse=True):
                text = text[: span.start] + changes[span] + text[span.end :]
            pieces[index] = _Piece(text, false=True)
            return pieces
    return pieces


def _alike(first: str, second: str) -> bool:
    """Whether one fact can stand for the other: both years, both other numbers, or both names."""

    def kind(text: str) -> str:
        if not text[0].isdigit():
            return "name"
        return "year" if len(text) == 4 and text.isdigit() else "number"

    return first != second and kind(first) == kind(second)


def _render(pieces: Sequence[_Piece]) -> tuple[str, dict[str, SpanLabels]]:
    """The response and, by head, its labels."""
    text = ""
    spans: list[tuple[Span, _Piece]] = []
    for piece in pieces:
        start = len(text) + (1 if text else 0)
        text = f"{text} {piece.text}" if text else piece.text
        spans.append((Span(start, len(text)), piece))
    return text, {
        "factuality": SpanLabels(
            errors=tuple(span for span, piece in spans if piece.false),
            ignored=tuple(span for span, piece in spans if not piece.grounded),
        ),
        "relevance": SpanLabels(errors=tuple(span for span, piece in spans if piece.irrelevant)),
    }
