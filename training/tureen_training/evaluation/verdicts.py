"""Many questions to a judge, resumable: what it wrote is kept, what came of a failed question is not.

A verdict is what `read` makes of the judge's text. A refusal, a timeout, an answer without a verdict is a `Failure`,
which is counted and never a number; the same command asks those again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tureen_training.evaluation.job import Job
from tureen_training.evaluation.results import key_of, resumed
from tureen_training.evaluation.reward_suites import counts
from tureen_training.journal import Record
from tureen_training.judge.client import Message
from tureen_training.judge.errors import Failure, JudgeError

VerdictT = TypeVar("VerdictT")


@dataclass(frozen=True, slots=True)
class Question(Generic[VerdictT]):
    """name: of the prompt, for people who read the file. messages: what the judge is asked. read: the judge's text ->
    the verdict; raises JudgeError where there is none."""

    name: str
    messages: Sequence[Message]
    read: Callable[[str], VerdictT]


def verdicts(
    job: Job, questions: Sequence[Question[VerdictT]], *, part: str = "judge"
) -> list[VerdictT | Failure]:
    """The verdict on each question, in order; failures are counted in a note.

    Args:
        part: names the file of results, see `Job.results`.

    Raises:
        ConnectionError: what every question would meet; what was answered is kept.
    """
    judge = job.judge
    texts: dict[str, str] = {}

    def work(places: list[int]) -> Iterator[tuple[int, VerdictT | Failure]]:
        for index, outcome in judge.ask_all(questions[place].messages for place in places):
            place = places[index]
            try:
                if isinstance(outcome, JudgeError):
                    raise outcome
                verdict = questions[place].read(outcome.text)
            except JudgeError as error:
                yield place, error.failure
                continue
            texts[keys[place]] = outcome.text
            yield place, verdict

    def write(place: int, verdict: VerdictT | Failure) -> Record | None:
        if isinstance(verdict, Failure):
            return None
        return {"id": questions[place].name, "text": texts.pop(keys[place])}

    def again(record: Record) -> VerdictT | Failure:
        question = by_key.get(record["key"])
        try:
            return Failure.UNREADABLE if question is None else question.read(record["text"])
        except JudgeError as error:
            return error.failure

    keys = [key_of(list(question.messages)) for question in questions]
    by_key = dict(zip(keys, questions, strict=True))
    try:
        found = resumed(
            job.results(part),
            f"judge {judge.model}",
            keys,
            work,
            write=write,
            read=again,
            what="judging",
        )
    except JudgeError as error:
        raise ConnectionError(
            f"{error} What was answered is kept under --out; the same command goes on from there."
        ) from error
    failures = Counter(one.value for one in found if isinstance(one, Failure))
    job.notes += counts(failures, "questions without a verdict of the judge")
    return found
