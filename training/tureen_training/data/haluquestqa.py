"""Readers of HaluQuestQA (Sachdeva et al. 2024, arXiv:2407.11930): experts on long answers to lay questions.

    haluquestqa              a human and a model answer, error spans by aspect, scores, and which one is preferred
    completeness_sentences   one answer, and for each of its sentences whether it says enough

Aspect -> head: factuality -> factuality, irrelevance -> relevance, incomplete_ans -> completeness. Experts looked at
every aspect of both answers, so nothing is masked, save in an answer with a span that could not be located: the rest
of it says nothing of that head. Misconceptions of the question and references are no errors of a head.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tureen.text.segments import Span
from tureen_training.data.jsonl import Fields, Seen, records
from tureen_training.data.records import (
    Comparison,
    Example,
    Pair,
    SpanLabels,
    compare,
    group_of,
)

HEAD_OF_ASPECT = {
    "factuality": "factuality",
    "irrelevance": "relevance",
    "incomplete_ans": "completeness",
}
_ASPECTS = (*HEAD_OF_ASPECT, "ques_misconception", "reference_example")
_TARGETS = ("answer1", "answer2", "question1", "question2")
_AUTHORS = {"human_answer": "human", "model_answer": "model"}  # answers[].author -> key of `scores`
_STATEMENT = re.compile(r"^(\d+)\. ", re.MULTILINE)
_VERDICT = re.compile(r"^(\d+)\. \[(Complete|Incomplete)\]", re.MULTILINE)
_QUESTION, _ANSWER = "Question: ", "\nAnswer: "


def read_answers(path: Path, origin: str) -> Iterator[Example]:
    """Yields the questions one by one; raises `BadData`.

    The published completeness scores say which of the two answers states more of what is wanted.
    """
    seen = Seen("id")
    for fields in records(path):
        name = f"haluquestqa-{fields.get('id', int):04d}"
        seen.add(name, fields)
        prompt, rater = fields.text("question"), fields.text("annotator")
        answers = list(fields.objects("answers"))
        if len(answers) != 2:
            raise fields.bad(f"'answers' must be two, got {len(answers)}")
        preferred = fields.get("preferred", int)
        if preferred not in (0, 1):
            raise fields.bad(f"'preferred' must be 0 or 1, got {preferred}")
        texts = tuple(answer.text("text") for answer in answers)
        scores = fields.object("scores")
        complete = compare(
            [
                scores.object(_AUTHORS[answer.one_of("author", _AUTHORS)]).number("completeness")
                for answer in answers
            ],
            rater=rater,
        )
        spans = _labels(fields, texts)
        yield Example(
            prompt_id=name,
            origin=origin,
            prompt=prompt,
            responses=texts,
            pairs={
                Comparison.PREFERENCE: (Pair(preferred, 1 - preferred, rater=rater),),
                Comparison.COVERAGE: complete.pairs,
            },
            ties={Comparison.COVERAGE: complete.ties},
            spans=spans,
            verdicts={
                head: tuple(not label.errors and not label.ignored for label in labels)
                for head, labels in spans.items()
            },
            group=group_of(prompt),
        )


def _labels(fields: Fields, texts: tuple[str, ...]) -> dict[str, tuple[SpanLabels, ...]]:
    errors: dict[tuple[str, int], list[Span]] = {}
    lost: set[tuple[str, int]] = set()
    for mark in fields.objects("errors"):
        head = HEAD_OF_ASPECT.get(mark.one_of("aspect", _ASPECTS))
        target = mark.one_of("target", _TARGETS)
        if head is None or target.startswith("question"):
            continue
        answer = int(target[-1]) - 1
        if mark.get("offsets", object) is None:
            lost.add((head, answer))
        else:
            span = mark.span(mark.record["offsets"], texts[answer], target)
            errors.setdefault((head, answer), []).append(span)
    return {
        head: tuple(
            SpanLabels(
                errors=tuple(errors.get((head, k), ())),
                ignored=(Span(0, len(text)),) if (head, k) in lost else (),
            )
            for k, text in enumerate(texts)
        )
        for head in HEAD_OF_ASPECT.values()
    }


def read_sentences(path: Path, origin: str) -> Iterator[Example]:
    """Yields the answers one by one, span labels of `completeness` by sentence; raises `BadData`."""
    seen = Seen("id")
    for fields in records(path):
        name = f"haluquestqa-sentences-{fields.get('id', int):04d}"
        seen.add(name, fields)
        question, separator, answer = fields.text("input").partition(_ANSWER)
        if not separator or not question.startswith(_QUESTION):
            raise fields.bad("'input' must be 'Question: …' and, on a new line, 'Answer: 1. …'")
        before, *parts = _STATEMENT.split(answer)
        found = _VERDICT.findall(fields.text("output"))
        numbers = [str(i + 1) for i in range(len(found))]
        if before or not found or parts[::2] != numbers or [n for n, _ in found] != numbers:
            raise fields.bad(
                f"'input' has {len(parts) // 2} numbered sentences and 'output' {len(found)} verdicts; "
                "both must be numbered 1, 2, … alike"
            )
        text, errors = "", []
        for sentence, (_, verdict) in zip(parts[1::2], found, strict=True):
            start = len(text) + (1 if text else 0)
            text = f"{text} {sentence.strip()}" if text else sentence.strip()
            if verdict == "Incomplete" and start < len(text):
                errors.append(Span(start, len(text)))
        prompt = question.removeprefix(_QUESTION).strip()
        if not prompt or not text.strip():
            raise fields.bad("'input' has a blank question or answer")
        yield Example(
            prompt_id=name,
            origin=origin,
            prompt=prompt,
            responses=(text,),
            spans={"completeness": (SpanLabels(errors=tuple(errors)),)},
            verdicts={"completeness": (not errors,)},
            group=group_of(prompt),
        )
