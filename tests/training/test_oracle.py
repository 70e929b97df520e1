from __future__ import annotations

import random

import pico
import pytest
from doors import open_doors

from tureen.contracts import Aggregation, Sample, Score, ScoreRequest
from tureen.engine.loading import load_model
from tureen_training.oracle import (
    RemoteOracle,
    RewardOracle,
    Unscorable,
    unscorable_frac,
)


@pytest.fixture(scope="module")
def doors(tmp_path_factory):
    """A reward model of random weights behind both doors."""
    directory = pico.bert_reward(tmp_path_factory.mktemp("pico") / "reward")
    with open_doors(load_model(str(directory))) as opened:
        yield opened


def rollout() -> list[Sample]:
    """With token offsets, of a policy whose tokens are characters; the last response is empty."""
    draw = random.Random(0)
    texts = [" ".join(draw.choices("the bridge was built in".split(), k=6)) + "." for _ in range(9)]
    samples = [
        Sample(
            prompt="When was it built?",
            context=("In 1642.",),
            responses=(text,),
            offsets=(tuple((n, n + 1) for n in range(len(text))),),
        )
        for text in texts
    ]
    return [*samples, Sample(prompt="When was it built?", responses=("",))]


@pytest.mark.parametrize("door", ["grpc", "http"])
@pytest.mark.parametrize("aggregation", [Aggregation.MEAN, Aggregation.UNCERTAINTY_WEIGHTED])
def test_remote_is_in_process(doors, door, aggregation):
    """To the 1e-5 within which a score does not depend on its neighbours in a batch."""
    samples = rollout()
    request = ScoreRequest(samples=tuple(samples), aggregation=aggregation, uncertainty=True)
    expected = doors.call(doors.scorer.score(request))
    url = doors.target if door == "grpc" else doors.url
    with RemoteOracle(url, aggregation=aggregation) as remote:
        oracle: RewardOracle = remote
        found = oracle.submit(samples).result()
        assert oracle.fingerprint == expected.fingerprint == oracle.info().fingerprint
    *results, empty = expected.results
    for one, result in zip(found, results, strict=False):
        [score] = result.scores
        assert isinstance(one, Score)
        assert one.reward == pytest.approx(score.reward, abs=1e-5)
        assert one.token_rewards == pytest.approx(score.token_rewards, abs=1e-5)
        assert one.uncertainty is not None
        assert one.uncertainty.std == pytest.approx(score.uncertainty.std, abs=1e-5)
        assert {name: head.value for name, head in one.heads.items()} == pytest.approx(
            {name: head.value for name, head in score.heads.items()}, abs=1e-5
        )
        assert [(s.head, s.start, s.end) for s in one.segments or ()] == [
            (s.head, s.start, s.end) for s in score.segments
        ]
    assert found[-1] == Unscorable(empty.error.code, empty.error.message)
    assert len(found) == len(samples)
    assert unscorable_frac(found) == 0.1


def test_unscorable_frac_of_nothing():
    assert unscorable_frac([]) == 0.0
