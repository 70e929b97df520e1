"""What the benchmark sends: real questions where they are at hand, else words of the same lengths.

Real: prompts, passages and predictions of QA-Feedback (`real_data`). Else: common English words, drawn
at random, whose numbers were counted in QA-Feedback (`lengths.json` holds numbers, no text). Every
prompt ends with a number of its own, so nothing is sent twice and no cache can answer.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from real_data import data_directory, qa_feedback_records

from tureen import Sample, wire
from tureen.contracts import ScoreRequest

REAL = "QA-Feedback: its questions, passages and predictions"
SYNTHETIC = "synthetic words; lengths of QA-Feedback (lengths.json)"

_WORDS = (
    "the of and a to in is was it for on as with by he at from his that an they which or had were "
    "first year city people river music film team world state war time new two after school played "
    "written released series king album season history north building under against also known"
).split()
_SENTENCE_WORDS = 18


class Question(NamedTuple):
    """responses: four."""

    prompt: str
    context: tuple[str, ...]
    responses: tuple[str, ...]


class Request(NamedTuple):
    """One body or message. id: of its first sample, where the door asks for one."""

    id: str
    payload: bytes


class Workload:
    """Draws samples that were never drawn before; the same ones again from the same seed."""

    def __init__(self, seed: int = 0, *, real: bool | None = None) -> None:
        """real: whether to draw real questions; None where they are at hand."""
        self._draw = random.Random(seed)
        self._numbers = itertools.count(1_000_000 * (seed + 1))
        real = data_directory() is not None if real is None else real
        self.source = REAL if real else SYNTHETIC
        self._questions = _real() if real else _synthetic(self._draw)

    def samples(self, count: int, *, responses: int = 1, context: bool = True) -> list[Sample]:
        """`count` samples of `responses` responses each, at most four; with or without passages."""
        return [
            Sample(
                id=str(number),
                prompt=f"{question.prompt} ({number})",
                context=question.context if context else (),
                responses=tuple(self._draw.sample(question.responses, responses)),
            )
            for question in self._draw.choices(self._questions, k=count)
            for number in (next(self._numbers),)
        ]


def http_requests(samples: Iterable[Sample], **options: Any) -> list[Request]:
    """Bodies of `POST /v1/score`, one sample each."""
    return [
        Request(sample.id or "", orjson.dumps({"samples": [_as_json(sample)], **options}))
        for sample in samples
    ]


def grpc_requests(samples: Iterable[Sample], **options: Any) -> list[Request]:
    """Messages of `Score` and `ScoreStream`, one sample each."""
    made = []
    for sample in samples:
        request = wire.to_proto(ScoreRequest(samples=(sample,), **options))
        made.append(Request(sample.id or "", request.SerializeToString()))
    return made


def rerank_requests(samples: Iterable[Sample], model: str) -> list[Request]:
    """Bodies of `POST /rerank` as infinity-emb, vLLM and this server read it; passages are left out."""
    return [
        Request(
            sample.id or "",
            orjson.dumps(
                {"model": model, "query": sample.prompt, "documents": list(sample.responses)}
            ),
        )
        for sample in samples
    ]


def words_of(samples: Sequence[Sample]) -> dict[str, list[int]]:
    """The 5th, 50th and 95th percentile of the words of prompts, passages and responses."""
    counts = {
        "prompt": [len((sample.prompt or "").split()) for sample in samples],
        "context": [len(" ".join(sample.context).split()) for sample in samples],
        "response": [len(text.split()) for sample in samples for text in sample.responses],
    }
    return {
        name: [sorted(words)[min(len(words) - 1, len(words) * cut // 100)] for cut in (5, 50, 95)]
        for name, words in counts.items()
    }


def _as_json(sample: Sample) -> dict[str, Any]:
    return {
        "id": sample.id,
        "prompt": sample.prompt,
        "context": list(sample.context),
        "responses": list(sample.responses),
    }


def _real() -> list[Question]:
    return [
        Question(
            record["question"],
            tuple(" ".join(passage) for passage in record["passages"]),
            tuple(record[f"prediction {number}"] for number in (1, 2, 3, 4)),
        )
        for record in qa_feedback_records(400)
    ]


def _synthetic(draw: random.Random) -> list[Question]:
    table = json.loads(Path(__file__).with_name("lengths.json").read_text(encoding="utf-8"))
    return [
        Question(
            _text(draw, prompt).rstrip(".") + "?",
            (_text(draw, context),),
            tuple(_text(draw, response) for _ in range(4)),
        )
        for prompt, context, response in table["rows"]
    ]


def _text(draw: random.Random, words: int) -> str:
    sentences = []
    while words > 0:
        count = min(words, draw.randint(_SENTENCE_WORDS - 8, _SENTENCE_WORDS + 8))
        sentences.append(" ".join(draw.choices(_WORDS, k=count)).capitalize() + ".")
        words -= count
    return " ".join(sentences)
