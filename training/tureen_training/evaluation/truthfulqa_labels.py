"""How far a judge or a reward may be believed on TruthfulQA: answers of models that people labelled.

Of each question one answer that people found true and one they found false, the first ones by the hash of their text,
and likewise of informative and uninformative ones: `judge_truth` and `judge_info` of our copies, `finetune_truth` and
`finetune_info` of the release. Half of them are of either kind, so saying one thing throughout gets ½.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from tureen_training import metrics
from tureen_training.data.jsonl import Fields
from tureen_training.data.records import Comparison, Example, Pair, group_of
from tureen_training.evaluation.files import rows
from tureen_training.evaluation.job import Job
from tureen_training.judge.errors import Failure
from tureen_training.metrics import Figure

FOLDER = "truthfulqa"
TRUE, INFORMATIVE = "true", "informative"
FILES: Final[Mapping[str, tuple[str, ...]]] = {
    TRUE: ("judge_truth", "finetune_truth"),
    INFORMATIVE: ("judge_info", "finetune_info"),
}
_FIELDS: Final = {TRUE: "truthful", INFORMATIVE: "informative"}


@dataclass(frozen=True, slots=True)
class Labelled:
    """Two answers to one question. yes: what people said yes to; no: what they said no to. name: of the question."""

    name: str
    question: str
    yes: str
    no: str


def labelled(job: Job, what: str, asked: Sequence[tuple[str, str]]) -> list[Labelled]:
    """Of the questions that have both kinds of answers; nothing where the file is not there.

    Args:
        what: `TRUE` or `INFORMATIVE`. asked: (id, text) of each question.

    Raises:
        BadData: with file and line.
    """
    try:
        path = job.file(FOLDER, *FILES[what])
    except FileNotFoundError:
        return []
    found = _answers(path, what)
    return [
        Labelled(name, text, *map(_first, own))
        for name, text in asked
        if all(own := found.get(text, (set(), set())))
    ]


def _answers(path: Path, what: str) -> dict[str, tuple[set[str], set[str]]]:
    """Question -> what was said yes to, and no to; what was said both to is neither, and what is blank no answer."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for fields in rows(path):
        question, answer, label = _record(fields, what)
        if not answer.strip():
            continue
        yes, no = found.setdefault(question, (set(), set()))
        (yes if label else no).add(answer)
    return {question: (yes - no, no - yes) for question, (yes, no) in found.items()}


def _record(fields: Fields, what: str) -> tuple[str, str, bool]:
    if "completion" not in fields.record:
        return fields.text("question"), fields.get("answer", str), fields.get(_FIELDS[what], bool)
    head, _, answer = fields.text("prompt").partition("\nA: ")
    answer, _, rest = answer.rpartition("\n")
    if not head.startswith("Q: ") or not rest.endswith(":"):
        raise fields.bad("'prompt' is not 'Q: …', 'A: …' and what is asked of it, a line each")
    return (
        head.removeprefix("Q: "),
        answer,
        fields.one_of("completion", (" yes", " no")) == " yes",
    )


def _first(answers: set[str]) -> str:
    return min(answers, key=lambda text: hashlib.sha256(text.encode()).digest())


def example_of(one: Labelled) -> Example:
    """For a reward: the true answer against the false one."""
    return Example(
        prompt_id=f"{one.name}/labelled",
        origin=FOLDER,
        prompt=one.question,
        responses=(one.yes, one.no),
        pairs={Comparison.TRUTH: (Pair(0, 1),)},
        group=group_of(one.question),
    )


def judge_figures(
    what: str, said: Sequence[tuple[bool | Failure, bool | Failure]]
) -> dict[str, Figure]:
    """How often the judge's verdict is that of the people, half over each kind.

    Args:
        said: the verdicts on `yes` and `no` of each question; one without both takes no part.
    """
    known = [
        np.array([[float(on_yes), 0.0], [float(on_no), 1.0]])
        for on_yes, on_no in said
        if not isinstance(on_yes, Failure) and not isinstance(on_no, Failure)
    ]
    if not known:
        return {}

    def right(rows: np.ndarray) -> float:
        return float(np.mean(rows[:, 0] != rows[:, 1]))

    return {
        f"judge_{what}_agreement": metrics.bootstrap(known, right, baselines={"always one": 0.5})
    }
