"""What the benchmarks send: samples whose lengths are those of real questions, passages and responses.

The lengths were counted in QA-Feedback (`lengths.json` holds numbers, no text); the words are common
English ones, drawn at random, so that no two samples share a window and no cache can answer.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

from tureen import Sample

_WORDS = (
    "the of and a to in is was it for on as with by he at from his that an they which or had were "
    "first year city people river music film team world state war time new two after school played "
    "written released series king album season history north building under against also known"
).split()
_SENTENCE_WORDS = 18


@dataclass(frozen=True)
class Workload:
    samples: list[Sample]

    @classmethod
    def mixed(cls, count: int, seed: int = 0) -> Workload:
        """`count` samples of one response each."""
        table = json.loads(Path(__file__).with_name("lengths.json").read_text(encoding="utf-8"))
        draw = random.Random(seed)
        return cls(
            [
                Sample(
                    prompt=_text(draw, prompt).rstrip(".") + "?",
                    context=(_text(draw, context),),
                    responses=(_text(draw, response),),
                )
                for prompt, context, response in draw.choices(table["rows"], k=count)
            ]
        )

    def bodies(self) -> list[bytes]:
        """HTTP bodies, one sample a request."""
        return [
            json.dumps(
                {
                    "samples": [
                        {
                            "prompt": sample.prompt,
                            "context": list(sample.context),
                            "responses": list(sample.responses),
                        }
                    ]
                }
            ).encode()
            for sample in self.samples
        ]


def _text(draw: random.Random, words: int) -> str:
    sentences = []
    while words > 0:
        count = min(words, draw.randint(_SENTENCE_WORDS - 8, _SENTENCE_WORDS + 8))
        sentences.append(" ".join(draw.choices(_WORDS, k=count)).capitalize() + ".")
        words -= count
    return " ".join(sentences)
