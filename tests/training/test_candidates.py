from __future__ import annotations

import json
from concurrent.futures import Future
from pathlib import Path

import pico_ppo
import pytest

from tureen_training.candidates import Asked, Candidate, Ranked, ranked, read_asked, rollout_of
from tureen_training.data.jsonl import BadData
from tureen_training.oracle import Reward, Unscorable
from tureen_training.policies import end_id


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return pico_ppo.policy(tmp_path_factory.mktemp("candidates") / "policy").tokenizer


def write(path: Path, *records: dict) -> str:
    pico_ppo.write(path, records)
    return str(path)


def test_what_a_file_brings(tmp_path: Path, tokenizer):
    """A demonstration, several responses, one of them twice; a prompt alone; one that is too long."""
    path = write(
        tmp_path / "p.jsonl",
        {"prompt": "the sky", "response": "blue"},
        {
            "prompt": "the sea",
            "context": ["the sea is green"],
            "responses": ["blue", "green", "blue"],
            "sources": ["ann", ["bob", "cem"], "dee"],
            "ended": [True, False, True],
        },
        {"prompt": "the sky", "id": "alone"},
        {"prompt": " ".join(["sky"] * 100)},
    )
    asked, too_long = read_asked([path], tokenizer, 60)
    assert too_long == 1
    assert [one.question.id for one in asked] == ["p-0", "p-1", "alone"]
    assert asked[0].candidates == (Candidate("blue", True, ("reference",)),)
    assert asked[1].candidates == (
        Candidate("blue", True, ("ann", "dee")),
        Candidate("green", False, ("bob", "cem")),
    )
    assert asked[2].candidates == ()
    samples = asked[1].samples()
    assert [one.responses for one in samples] == [("blue",), ("green",)]
    assert {one.context for one in samples} == {("the sea is green",)}


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"responses": ["a"], "sources": ["x", "y"]}, "'sources' must be one a response, 1, got 2"),
        ({"responses": ["a"], "sources": [3]}, "'sources' holds 3; give a name"),
        ({"responses": ["a"], "ended": []}, "'ended' must be one a response"),
        ({"responses": [3]}, r"responses\[0\] must be str"),
    ],
)
def test_what_is_no_candidate(tmp_path: Path, tokenizer, record, problem):
    path = write(tmp_path / "p.jsonl", {"prompt": "sky", **record})
    with pytest.raises(BadData, match=problem):
        read_asked([path], tokenizer, None)


def test_a_record_reads_back(tmp_path: Path, tokenizer):
    path = write(tmp_path / "p.jsonl", {"prompt": "sky", "responses": ["blue", "red"], "id": "a"})
    [asked], _ = read_asked([path], tokenizer, None)
    future: Future[list[Reward]] = Future()
    reward = pico_ppo.Rewarding(pico_ppo.blue).score(asked.samples()[:1])[0]
    future.set_result([reward, Unscorable("input_too_long", "too long")])
    [found] = ranked([asked], future)
    record = found.record()
    assert (record["rewards"], record["codes"]) == ([1.0, None], [None, "input_too_long"])
    again, _ = read_asked([write(tmp_path / "again.jsonl", record)], tokenizer, None)
    assert again == [asked]
    json.dumps(record, allow_nan=False)


def test_a_candidate_in_the_words_of_the_policy(tokenizer):
    """Blue and the end of text, which one that broke off does not have."""
    asked = Asked(pico_ppo.question(tokenizer, "sky"))
    whole = rollout_of(asked.question, Candidate("blue", True, ()), tokenizer).sampled
    broken = rollout_of(asked.question, Candidate("blue", False, ()), tokenizer).sampled
    assert whole.token_ids == (*broken.token_ids, end_id(tokenizer))
    assert tokenizer.decode(broken.token_ids).strip() == "blue"
    assert Ranked(asked, ()).record()["responses"] == []
