"""A run that was stopped goes on; a file of another model is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest

from tureen.contracts import ErrorInfo
from tureen.text.segments import Span
from tureen_training.data.records import Example
from tureen_training.evaluation.readings import HeadReading, Outcome, Reading
from tureen_training.evaluation.results import outcomes
from tureen_training.evaluation.scorers import Model

MODEL = Model(model_id="m", fingerprint="sha256:1", heads=(), temperature=1.0, lineages=())
EXAMPLES = [
    Example(prompt_id=f"p-{n}", origin="test", prompt="?", responses=(f"{n}",)) for n in range(4)
]


@dataclass
class Counting:
    """Says the number of each prompt, last one first; the third cannot be scored. It breaks after `most`."""

    model: Model = MODEL
    most: int = 99
    asked: list[str] = field(default_factory=list)

    def score(
        self, examples: Sequence[Example], *, members: bool = False
    ) -> Iterator[tuple[int, Outcome]]:
        for place, example in reversed(list(enumerate(examples))):
            if len(self.asked) == self.most:
                raise ConnectionError("gone")
            self.asked.append(example.prompt_id)
            number = float(example.responses[0])
            head = HeadReading(number, (Span(0, 1),), (number,))
            yield (
                place,
                ErrorInfo(code="input_too_long", message="too long", got=9)
                if number == 2
                else (Reading(reward=number, heads={"h": head}),),
            )

    def close(self) -> None:
        pass


def rewards(found: list[Outcome]) -> list[float | str]:
    return [o.code if isinstance(o, ErrorInfo) else o[0].reward for o in found]


def test_a_run_goes_on_where_it_was_stopped(tmp_path):
    with pytest.raises(ConnectionError):
        outcomes(Counting(most=2), EXAMPLES, tmp_path / "results.jsonl")
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"key": "half a li')  # what a kill leaves
    second = Counting()
    found = outcomes(second, EXAMPLES, tmp_path / "results.jsonl")
    assert second.asked == ["p-1", "p-0"]
    assert rewards(found) == [0.0, 1.0, "input_too_long", 3.0]
    third = Counting()
    assert outcomes(third, EXAMPLES, tmp_path / "results.jsonl") == found
    assert third.asked == []
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert [json.loads(line).get("prompt_id") for line in lines] == [
        None,
        "p-3",
        "p-2",
        "p-1",
        "p-0",
    ]


def test_a_prompt_whose_text_changed_is_asked_again(tmp_path):
    outcomes(Counting(), EXAMPLES, tmp_path / "results.jsonl")
    again = Counting()
    changed = [replace(EXAMPLES[0], responses=("7",)), *EXAMPLES[1:]]
    assert rewards(outcomes(again, changed, tmp_path / "results.jsonl"))[0] == 7.0
    assert again.asked == ["p-0"]


def test_without_a_directory_nothing_is_kept():
    assert rewards(outcomes(Counting(), EXAMPLES, None)) == [0.0, 1.0, "input_too_long", 3.0]


def test_results_of_another_model_are_refused(tmp_path):
    outcomes(Counting(), EXAMPLES, tmp_path / "results.jsonl")
    other = Counting(model=replace(MODEL, fingerprint="sha256:2"))
    with pytest.raises(ValueError, match="has results of the model sha256:1, this one is sha256:2"):
        outcomes(other, EXAMPLES, tmp_path / "results.jsonl")


def test_a_damaged_file_is_named(tmp_path):
    outcomes(Counting(), EXAMPLES[:1], tmp_path / "results.jsonl")
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(ValueError, match=r"results\.jsonl:3: no result"):
        outcomes(Counting(), EXAMPLES, tmp_path / "results.jsonl")
