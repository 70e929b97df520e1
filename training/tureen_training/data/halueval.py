"""Readers of HaluEval (Li et al. 2023, arXiv:2305.11747): what a model made up.

    general         answers of ChatGPT to instructions; people said whether they hold something made up, and quoted it
    qa_candidates   questions on a passage with the right answer and invented ones

Both also read the files of the release, which have no ids and no offsets: a record is then named by its position, and
a quotation is looked for in the response.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from tureen.text.segments import Span
from tureen_training.data.jsonl import Fields, Seen, records
from tureen_training.data.records import Comparison, Example, Pair, SpanLabels, group_of


def read_general(path: Path, origin: str) -> Iterator[Example]:
    """Yields the responses one by one, with a verdict and span labels of `factuality`; raises `BadData`.

    Where something was made up but its place is not known, the rest of the response says nothing.
    """
    seen = Seen("record_id")
    for fields in records(path):
        name = fields.optional_text("record_id") or f"halueval-general-{fields.index:04d}"
        seen.add(name, fields)
        prompt, response = fields.text("user_query"), fields.text("chatgpt_response")
        wrong = fields.one_of("hallucination", ("yes", "no")) == "yes"
        spans = _spans(fields, response)
        if spans and not wrong:
            raise fields.bad("'hallucination' is 'no', but 'hallucination_spans' quotes some")
        found = tuple(span for span in spans if span is not None)
        everything = (Span(0, len(response)),) if wrong and (not spans or None in spans) else ()
        yield Example(
            prompt_id=name,
            origin=origin,
            prompt=prompt,
            responses=(response,),
            spans={"factuality": (SpanLabels(errors=found, ignored=everything),)},
            verdicts={"factuality": (not wrong,)},
            group=group_of(prompt),
        )


def _spans(fields: Fields, response: str) -> list[Span | None]:
    """Where each quotation stands in the response, None where it does not stand there literally."""
    quoted = fields.items("hallucination_spans", str)
    if "span_offsets" not in fields.record:
        starts = [response.find(quote) if quote.strip() else -1 for quote in quoted]
        return [
            Span(start, start + len(quote)) if start >= 0 else None
            for start, quote in zip(starts, quoted, strict=True)
        ]
    offsets = fields.get("span_offsets", list)
    if len(offsets) != len(quoted):
        raise fields.bad(f"{len(offsets)} span_offsets for {len(quoted)} hallucination_spans")
    return [
        None if offset is None else fields.span(offset, response, "the response")
        for offset in offsets
    ]


def read_qa(path: Path, origin: str) -> Iterator[Example]:
    """Yields the questions one by one, the right answer first; raises `BadData`.

    Records with the same `question_id` stand together; each brings one invented answer. All of an invented answer
    counts as a factual error.
    """
    seen = Seen("question_id")

    def name_of(fields: Fields) -> str:
        return fields.optional_text("question_id") or f"halueval-qa-{fields.index:04d}"

    for name, together in groupby(records(path), key=name_of):
        first, *others = together
        seen.add(name, first)
        prompt, passage, right = _question(first)
        invented = [first.text("hallucinated_answer")]
        for fields in others:
            if _question(fields) != (prompt, passage, right):
                raise fields.bad(f"question_id {name!r} is that of another question")
            invented.append(fields.text("hallucinated_answer"))
        labels = [SpanLabels(errors=(Span(0, len(answer)),)) for answer in invented]
        yield Example(
            prompt_id=name,
            origin=origin,
            prompt=prompt,
            context=(passage,),
            responses=(right, *invented),
            pairs={Comparison.TRUTH: tuple(Pair(0, i + 1) for i in range(len(invented)))},
            spans={"factuality": (SpanLabels(), *labels)},
            verdicts={"factuality": (True, *(False for _ in invented))},
            group=group_of(prompt),
        )


def _question(fields: Fields) -> tuple[str, str, str]:
    return fields.text("question"), fields.text("knowledge"), fields.text("right_answer")
