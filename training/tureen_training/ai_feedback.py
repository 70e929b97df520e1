"""Stage `ai-feedback`: a language model judges responses by a rubric; its verdicts become feedback of our own format.

Every question that was answered stands in `OUT.verdicts.jsonl`, with what the judge wrote; a run that was stopped,
or that had failures, asks only what is missing there. A failed question is counted by its kind and leaves no mark.
The last line of stdout is one JSON object.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from tureen.client.flow import Retry
from tureen.model.files import write_atomically
from tureen_training.data.corpora import open_file
from tureen_training.data.records import HIGHEST_RATING, LOWEST_RATING, Example
from tureen_training.journal import journal
from tureen_training.judge.client import Judge, Message, Verdict
from tureen_training.judge.errors import Failure, JudgeError
from tureen_training.judge.pairwise import BothOrders, PositionBias, position_bias
from tureen_training.judge.rubric import FIRST, SECOND, Rubric, load_rubric, prompt_text
from tureen_training.runlog import progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Have responses rated or compared by a language model behind an OpenAI-compatible endpoint.

    data: file of prompts with their responses, in our own format or any that is known; its feedback is not read.
    corpus: what it is; known by the name of the file, else our own format.
    rubric: helpfulness or factuality (ratings from 1 to 5), preference (each two responses, in both orders), or
        a file of your own. head: which head the ratings are for.
    url: of the API, as http://host:port/v1. model: as the endpoint calls it.
    out: file to write, JSON Lines.
    api_key_env: environment variable that holds the key; unset, none is sent.
    temperature, max_tokens: of the judge's answer. concurrency: questions under way at once.
    timeout_s: of one attempt. max_retries: of one question.
    """

    data: str
    rubric: str
    url: str
    model: str
    out: str
    corpus: str = ""
    head: str = "preference"
    api_key_env: str = "TUREEN_JUDGE_API_KEY"
    temperature: float = 0.0
    max_tokens: int = 512
    concurrency: int = 4
    timeout_s: float = 60.0
    max_retries: int = 8


class Question(NamedTuple):
    """shown: the response, or the two in the order shown. key: a hash of everything that the judge is asked."""

    prompt_id: str
    shown: tuple[int, ...]
    messages: list[Message]
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """verdicts: of all questions; known_before: how many of them an earlier run had. failures: by kind.
    records: written; without_verdict: prompts left out of them. position_bias: of comparisons."""

    questions: int
    verdicts: int
    known_before: int
    failures: dict[str, int]
    records: int
    without_verdict: int
    counts: dict[str, int]
    position_bias: PositionBias | None
    completion_tokens: int


def main(config: Config) -> Summary:
    """Ask, write, print, return the summary.

    Raises:
        ValueError: the rubric does not fit, or no question got a verdict.
        ConnectionError: what every question would meet; verdicts so far are kept.
    """
    rubric = load_rubric(config.rubric)
    if rubric.kind == "rating" and (rubric.low, rubric.high) != (LOWEST_RATING, HIGHEST_RATING):
        raise ValueError(
            f"rubric {rubric.name!r} rates from {rubric.low} to {rubric.high}; feedback files hold "
            f"ratings from {LOWEST_RATING:g} to {HIGHEST_RATING:g}, so give it that scale"
        )
    out = Path(config.out)
    examples = list(open_file(Path(config.data), config.corpus, labelled=False))
    questions = {
        question.key: question
        for example in examples
        for question in questions_of(example, rubric, config)
    }
    failures: Counter[Failure] = Counter()
    with journal(out.with_name(out.name + ".verdicts.jsonl")) as (records, write):
        known = {r["key"]: r["verdict"] for r in records if r["key"] in questions}
        known_before, tokens = len(known), 0
        missing = [question for key, question in questions.items() if key not in known]
        for question, outcome in _asked(config, missing):
            try:
                if isinstance(outcome, JudgeError):
                    raise outcome
                verdict = rubric.read(outcome.text)
            except JudgeError as error:
                failures[error.failure] += 1
                continue
            tokens += outcome.completion_tokens or 0
            known[question.key] = verdict
            write(_record(question, outcome, verdict))
    if not known:
        raise ValueError(f"none of {len(questions)} questions got a verdict: {_said(failures)}")
    verdicts = {(questions[key].prompt_id, questions[key].shown): v for key, v in known.items()}
    written = [
        record for example in examples if (record := feedback(example, verdicts, rubric, config))
    ]
    write_atomically(out, "".join(json.dumps(record) + "\n" for record in written))
    summary = Summary(
        questions=len(questions),
        verdicts=len(known),
        known_before=known_before,
        failures={kind.value: count for kind, count in failures.items()},
        records=len(written),
        without_verdict=len(examples) - len(written),
        counts={str(v): n for v, n in sorted(Counter(known.values()).items())},
        position_bias=position_bias(
            [b for example in examples for _, b in both_orders(example, verdicts)]
        ),
        completion_tokens=tokens,
    )
    print(_table(summary, out))  # noqa: T201 - the answer of the command
    print(json.dumps(asdict(summary), allow_nan=False))  # noqa: T201
    return summary


def questions_of(example: Example, rubric: Rubric, config: Config) -> Iterator[Question]:
    """One for each response, or two for each two responses, in both orders."""
    places = range(len(example.responses))
    if rubric.kind == "rating":
        shown_all: list[tuple[int, ...]] = [(k,) for k in places]
    else:
        shown_all = [order for i, j in combinations(places, 2) for order in ((i, j), (j, i))]
    for shown in shown_all:
        messages = rubric.messages(
            prompt_text(example.prompt, example.messages),
            [example.responses[k] for k in shown],
            example.context,
        )
        asked = json.dumps([config.model, config.temperature, example.prompt_id, shown, messages])
        yield Question(
            example.prompt_id, shown, messages, hashlib.sha256(asked.encode()).hexdigest()[:32]
        )


def _asked(
    config: Config, questions: Sequence[Question]
) -> Iterator[tuple[Question, Verdict | JudgeError]]:
    with Judge(
        config.url,
        config.model,
        api_key=os.environ.get(config.api_key_env) or None,
        temperature=config.temperature,
        max_tokens=config.max_tokens,
        timeout_s=config.timeout_s,
        retry=Retry(max_retries=config.max_retries),
        concurrency=config.concurrency,
    ) as judge:
        outcomes = judge.ask_all(question.messages for question in questions)
        try:
            for index, outcome in progress(outcomes, "judging", total=len(questions)):
                yield questions[index], outcome
        except JudgeError as error:
            raise ConnectionError(
                f"{error} Verdicts so far are kept; the same command goes on from them."
            ) from error


def _record(question: Question, answer: Verdict, verdict: int) -> dict[str, Any]:
    return {
        "key": question.key,
        "id": question.prompt_id,
        "shown": question.shown,
        "verdict": verdict,
        "text": answer.text,
        "model": answer.model,
    }


Verdicts = Mapping[tuple[str, tuple[int, ...]], int]
"""(prompt_id, responses as shown) -> rating, or FIRST, SECOND, TIE of those shown."""


def feedback(
    example: Example, verdicts: Verdicts, rubric: Rubric, config: Config
) -> dict[str, Any] | None:
    """The example with what the judge said of it, in our own format; None where it said nothing.

    A pair whose verdict turned with the order is a tie; one that was judged in one order only is left out.
    """
    rater = f"{config.model}, rubric {rubric.name} {rubric.fingerprint}"
    said: dict[str, list[dict[str, Any]]] = {"ratings": [], "pairs": [], "ties": []}
    for k in range(len(example.responses)):
        if (value := verdicts.get((example.prompt_id, (k,)))) is not None:
            mark = {"response": k, "value": value, "head": config.head, "rater": rater}
            said["ratings"].append(mark)
    for (i, j), both in both_orders(example, verdicts):
        if both.verdict in (FIRST, SECOND):
            chosen, rejected = (i, j) if both.verdict == FIRST else (j, i)
            said["pairs"].append({"chosen": chosen, "rejected": rejected, "rater": rater})
        else:
            said["ties"].append({"first": i, "second": j, "rater": rater})
    said = {kind: marks for kind, marks in said.items() if marks}
    if not said:
        return None
    asked: dict[str, Any] = (
        {"prompt": example.prompt}
        if example.prompt is not None
        else {"messages": [{"role": m.role, "content": m.content} for m in example.messages or ()]}
    )
    record = {"id": example.prompt_id, **asked, "responses": list(example.responses), **said}
    if example.context:
        record["context"] = list(example.context)
    if example.group is not None:
        record["group"] = example.group
    return record


def both_orders(
    example: Example, verdicts: Verdicts
) -> Iterator[tuple[tuple[int, int], BothOrders]]:
    """Each two responses that were judged in both orders."""
    for i, j in combinations(range(len(example.responses)), 2):
        forward = verdicts.get((example.prompt_id, (i, j)))
        swapped = verdicts.get((example.prompt_id, (j, i)))
        if forward is not None and swapped is not None:
            yield (i, j), BothOrders.read(forward, swapped)


def _said(failures: Mapping[Failure, int]) -> str:
    return ", ".join(f"{count} × {kind.value}" for kind, count in failures.items()) or "none asked"


def _table(summary: Summary, out: Path) -> str:
    lines = [
        f"{summary.verdicts} verdicts on {summary.questions} questions, "
        f"{summary.known_before} of them from an earlier run",
        *(f"  {verdict:>4s}  {count}" for verdict, count in summary.counts.items()),
    ]
    lines += [f"  failed, {kind}: {count}" for kind, count in summary.failures.items()]
    if (bias := summary.position_bias) is not None:
        first = bias.first_shown_rate
        lines.append(
            f"  {bias.disagreement_rate:.1%} of {bias.pairs} pairs turned with the order; the response shown "
            f"first won {'–' if first is None else f'{first:.1%}'} of the decided verdicts (50 % without bias)"
        )
    lines.append(f"{summary.records} records in {out}, {summary.without_verdict} without a verdict")
    return "\n".join(lines)
