"""From a scored request to the metrics that watch rewards, through the whole engine."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pico
import pytest
from doors import OpenDoors, open_doors

from tureen import RewardClient, Sample
from tureen.engine.loading import load_model
from tureen.engine.reward_watch import repetition


@pytest.fixture
def doors() -> Iterator[OpenDoors]:
    with open_doors() as opened:
        yield opened


def value(doors: OpenDoors, name: str, **labels: str) -> float:
    found = doors.admission.metrics.registry.get_sample_value(
        f"tureen_{name}", {"model": "stub", **labels}
    )
    return found if found is not None else 0.0


def test_length_and_repetition_are_the_responses_alone(doors):
    """In the stub's tokens, which are bytes: whatever the prompt and the context hold."""
    response = "abcabcabcabc"
    with RewardClient(doors.url) as client:
        client.score("same same same same", [response], context=["Again and again and again."])
    assert value(doors, "response_tokens_sum") == len(response)
    # nine 4-grams, three distinct: abca, bcab, cabc
    assert value(doors, "repetition_sum") == pytest.approx(1 - 3 / 9)
    assert repetition(np.frombuffer(response.encode(), np.uint8)) == pytest.approx(1 - 3 / 9)


def test_disagreement_is_measured_whether_it_is_asked_for_or_not(doors):
    with RewardClient(doors.url) as client:
        client.score("2+2?", ["4"])
        [score] = client.score("2+2?", ["4"], uncertainty=True)
    assert score.uncertainty is not None
    assert value(doors, "reward_std_count") == 2
    assert value(doors, "reward_std_sum") == pytest.approx(2 * score.uncertainty.std)


def test_what_became_of_samples(doors):
    long = Sample(prompt="?", context=("A sentence. " * 8000,), responses=("Yes.",))
    fine = Sample(prompt="?", responses=("Yes.", "No."))
    with RewardClient(doors.url) as client:
        client.score_samples([long, fine])
        client.score_samples([long, fine], truncate="context")
    counts = {
        outcome: value(doors, "samples_total", client="anonymous", outcome=outcome)
        for outcome in ("scored", "truncated", "unscorable")
    }
    assert counts == {"scored": 2, "truncated": 1, "unscorable": 1}
    assert value(doors, "reward_count") == 5  # and no reward was made for the one that failed


def test_windows_leave_out_of_disagreement_what_has_other_weights(doors):
    responses = [str(number) for number in range(200)]
    with RewardClient(doors.url) as client:
        client.score("?", responses, weights={"preference": 1.0})
        assert value(doors, "window_rewards", client="anonymous") == 200
        assert value(doors, "window_member_variance", client="anonymous") == 0  # absent
        scores = client.score("?", responses, members=True)
    expected = np.mean([np.var(one.members) for one in scores if one.members])
    told = value(doors, "window_member_variance", client="anonymous")
    assert told == pytest.approx(float(expected))


def test_two_begin_tokens_are_counted_and_one_is_not(doors):
    """[CLS] is the stub's begin token; a text that brings one along has it twice."""
    with RewardClient(doors.url) as client:
        client.score("2+2?", ["4"])
        assert value(doors, "double_bos_total", route="score") == 0
        client.score("[CLS]2+2?", ["4", "5"])
    assert value(doors, "double_bos_total", route="score") == 2


POLICY = {
    "get_reward": ("/get_reward", lambda text: {"query": [text]}, False),
    "evaluation": ("/v1/score/evaluation", lambda text: {"messages": [text]}, False),
    "rm": ("/rm", lambda text: {"prompt": text[:-1], "response": text[-1:]}, True),
    "classify": ("/classify", lambda text: {"input": text}, True),
    "embeddings": ("/v1/embeddings", lambda text: {"input": text}, True),
    "pooling": ("/pooling", lambda text: {"input": text}, True),
    "predict": ("/predict", lambda text: {"inputs": text}, True),
    "infinity_classify": ("/infinity/classify", lambda text: {"input": [text]}, True),
}
"""Of texts that a client wrote out: whether the route adds a begin token that is not there."""


def test_begin_tokens_by_route(tmp_path: Path):
    """One too many is taken off everywhere; one that is missing is added where the system's own server
    adds it, and elsewhere the text stays what it is. Both are told by route."""
    model = load_model(str(pico.llama_classifier(tmp_path / "rm")), backend="torch", device="cpu")
    with open_doors(model) as doors, httpx2.Client(base_url=doors.url, timeout=20) as client:

        def count(name: str, route: str) -> float | None:
            return doors.admission.metrics.registry.get_sample_value(
                f"tureen_{name}_bos_total", {"model": model.model_id, "route": route}
            )

        for route, (path, body_of, adds) in POLICY.items():
            tokens = {}
            for text in ("<s>hi", "<s><s>hi", "hi"):
                answer = client.post(path, json=body_of(text))
                tokens[text] = int(answer.headers["x-compute-tokens"])
            assert tokens == {"<s>hi": 3, "<s><s>hi": 3, "hi": 3 if adds else 2}, route
            assert (count("double", route), count("missing", route)) == (1, not adds), route
