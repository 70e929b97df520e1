"""Human feedback to labels: spans to units, preferences to pairs, missing information to completeness.

The rules are those of Fine-Grained RLHF (Wu et al. 2023, arXiv:2306.01693):

- relevance: spans of Irrelevant, Redundant or Incoherent, those under five words dropped;
- factuality: spans of Wrong-Grounding or Unverifiable; a sentence that has a relevance error and no factual
  one is ignored, because annotators did not check it for facts;
- completeness: of two answers the better one states more of the passage sentences that the corrected
  answer states, sentences of minor interest left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tureen.text.segments import Span
from tureen_training.data.coverage import stated
from tureen_training.data.qa_feedback import FACTUALITY_ERRORS, Feedback
from tureen_training.data.records import (
    Comparison,
    Comparisons,
    Example,
    Pair,
    SpanLabels,
    compare,
)

MIN_SPAN_WORDS = 5
CLEAN, ERROR = 1.0, 0.0


def unit_labels(response: str, units: Sequence[Span], labels: SpanLabels) -> list[float | None]:
    """The label of each unit: `ERROR`, `CLEAN`, or None where nothing is known.

    A unit overlaps a span when they share a character that is not white space: the white space behind a
    unit belongs to it and says nothing.
    """

    def overlaps(unit: Span, spans: Iterable[Span]) -> bool:
        return any(
            response[max(unit.start, span.start) : min(unit.end, span.end)].strip()
            for span in spans
            if span.start < unit.end and unit.start < span.end
        )

    return [
        ERROR
        if overlaps(unit, labels.errors)
        else None
        if overlaps(unit, labels.ignored)
        else CLEAN
        for unit in units
    ]


def span_labels(item: Feedback) -> dict[str, SpanLabels]:
    """head -> what the annotator marked in prediction 1."""
    response = item.predictions[0]
    facts = tuple(error.span for error in item.errors if error.kind in FACTUALITY_ERRORS)
    others = tuple(
        error.span
        for error in item.errors
        if error.kind not in FACTUALITY_ERRORS
        and len(response[error.span.start : error.span.end].split()) >= MIN_SPAN_WORDS
    )
    return {
        "factuality": SpanLabels(errors=facts, ignored=others),
        "relevance": SpanLabels(errors=others),
    }


def coverage(item: Feedback) -> Comparisons:
    """The predictions compared by how much of what the corrected answer states they state."""
    index = {
        (p, s): i
        for i, (p, s) in enumerate(
            (p, s) for p, passage in enumerate(item.passages) for s in range(len(passage.sentences))
        )
    }
    sentences = [sentence for passage in item.passages for sentence in passage.sentences]
    minor = {
        index[place]
        for missing in item.missing
        if missing.kind == "Missing-Minor-Auxiliary"
        for place in missing.sentences
    }
    shares = [stated(prediction, sentences) for prediction in item.predictions]
    wanted = stated(item.corrected, sentences) - (minor - shares[0])
    return compare([len(share & wanted) for share in shares])


def feedback_example(item: Feedback) -> Example:
    """The four sampled answers and, unless the annotator changed nothing, the correction of the first.

    The correction is preferred to the first answer. It is the more complete one only where the annotator named
    missing information. Nobody marked it: all of its units would be clean, and a person's style would be what
    clean is.
    """
    corrected = item.corrected.strip()
    changed = bool(corrected) and corrected.split() != item.predictions[0].split()
    better = (Pair(chosen=len(item.predictions), rejected=0),) if changed else ()
    covered = coverage(item)
    return Example(
        prompt_id=item.question_id,
        origin="feedback",
        prompt=item.question,
        context=tuple(passage.text for passage in item.passages),
        responses=(*item.predictions, corrected) if changed else item.predictions,
        pairs={
            Comparison.PREFERENCE: item.preferences.pairs,
            Comparison.CORRECTION: better,
            Comparison.COVERAGE: covered.pairs,
            Comparison.COMPLETION: better if item.missing else (),
        },
        ties={
            Comparison.PREFERENCE: item.preferences.ties,
            Comparison.COVERAGE: covered.ties,
        },
        spans={
            head: (labels, None, None, None, *([None] if changed else []))
            for head, labels in span_labels(item).items()
        },
    )
