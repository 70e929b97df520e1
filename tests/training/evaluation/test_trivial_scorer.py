"""Rewards that read nothing: the length, and a number drawn for every response."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tureen.contracts import ErrorInfo
from tureen_training.data.records import Example
from tureen_training.evaluation.scorers import TrivialScorer, open_scorer

EXAMPLES = [
    Example(prompt_id=f"p{n}", origin="t", prompt=f"{n}?", responses=("a", "bcd"))
    for n in range(500)
]


def rewards(scorer: TrivialScorer, examples: Sequence[Example]) -> list[list[float]]:
    found: list[list[float]] = []
    for _, outcome in scorer.score(examples):
        assert not isinstance(outcome, ErrorInfo)
        found.append([reading.reward for reading in outcome])
    return found


def test_the_length_is_that_of_the_text():
    assert rewards(TrivialScorer("length", 0), EXAMPLES[:2]) == [[1.0, 3.0], [1.0, 3.0]]


def test_random_rewards_are_the_same_again_and_of_their_seed():
    whole = rewards(TrivialScorer("random", 1), EXAMPLES)
    assert rewards(TrivialScorer("random", 1), EXAMPLES[7:9]) == whole[7:9]
    assert rewards(TrivialScorer("random", 2), EXAMPLES[:1]) != whole[:1]
    flat = [value for own in whole for value in own]
    assert len(set(flat)) == 1000
    # mean of 1000 uniform numbers: standard error 0.29 / √1000 = 0.009
    assert sum(flat) / 1000 == pytest.approx(0.5, abs=0.04)


def test_they_are_known_by_name():
    assert open_scorer("length", max_batch_tokens=1).model.fingerprint == "length"
    assert open_scorer("random", max_batch_tokens=1, seed=3).model.fingerprint == "random:3"
    with pytest.raises(ValueError, match="known: length, random"):
        TrivialScorer("longest", 0)
