"""What suites of language models share: items of several texts each, whose log-probabilities are computed once.

An item that the model cannot read (too long) is never given a number: it takes no part, and `unscorable` is the
share of such items.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from tureen.contracts import ErrorInfo
from tureen_training.evaluation.job import Job
from tureen_training.evaluation.language_models import LanguageModel
from tureen_training.evaluation.likelihood import Text, log_probs, too_long
from tureen_training.evaluation.results import key_of, resumed
from tureen_training.evaluation.reward_suites import counts
from tureen_training.journal import Record

CHUNK = 32
"""Items whose texts are batched together: enough rows of like length, few enough to show progress."""

ItemT = TypeVar("ItemT")
Answer = tuple[float, ...] | ErrorInfo
"""Of one item: Σ log p of each of its texts, or why there is none."""


class Asked(NamedTuple):
    """One item. name: unique in its suite."""

    name: str
    texts: tuple[Text, ...]


def answered(
    job: Job,
    model: LanguageModel,
    items: Sequence[ItemT],
    ask: Callable[[ItemT], Asked],
    *,
    part: str = "policy",
) -> list[tuple[ItemT, tuple[float, ...]]]:
    """Each item that the model can read, with Σ log p of its texts, in nats; the others are counted in a note.

    Args:
        part: names the file of results, see `Job.results`.
    """
    asked = [ask(item) for item in items]

    def work(places: list[int]) -> Iterator[tuple[int, Answer]]:
        for start in range(0, len(places), CHUNK):
            readable: list[int] = []
            for place in places[start : start + CHUNK]:
                if (error := too_long(model, asked[place].texts)) is not None:
                    yield place, error
                else:
                    readable.append(place)
            texts = [text for place in readable for text in asked[place].texts]
            found = iter(log_probs(model, texts, job.config.max_batch_tokens))
            for place in readable:
                yield place, tuple(next(found) for _ in asked[place].texts)

    answers = resumed(
        job.results(part),
        model.fingerprint,
        [key_of(one) for one in asked],
        work,
        write=lambda place, answer: _record(asked[place].name, answer),
        read=_answer,
    )
    failures = Counter(answer.code for answer in answers if isinstance(answer, ErrorInfo))
    job.notes += counts(failures, "cannot be read by the policy")
    return [
        (item, answer)
        for item, answer in zip(items, answers, strict=True)
        if not isinstance(answer, ErrorInfo)
    ]


def _record(name: str, answer: Answer) -> Record:
    if isinstance(answer, ErrorInfo):
        return {"id": name, "error": dataclasses.asdict(answer)}
    return {"id": name, "log_probs": answer}


def _answer(record: Record) -> Answer:
    if "error" in record:
        return ErrorInfo(**record["error"])
    return tuple(record["log_probs"])
