"""Demo `rrhf`, small: the parts by hand, and that all of it runs."""

from __future__ import annotations

import json

import pytest

from tureen.contracts import Sample, Score
from tureen_training.demo import rrhf
from tureen_training.demo.rrhf import Config
from tureen_training.demo.toy import LENGTH, World
from tureen_training.demo.toy_language import (
    OTHER_WORDS,
    WORDS,
    ToyOracle,
    interval,
    sequence_of,
    sequences_of,
    text_of,
)
from tureen_training.demo.toy_rewards import Making
from tureen_training.oracle import Unscorable
from tureen_training.policies import TinySpec
from tureen_training.worlds.almanac.dataset import tokenizer_of

SMALL = Making(members=2, pairs=100, pretraining_steps=20, tuning_steps=20)


def test_a_response_is_a_sequence_or_none():
    tokens = list(range(LENGTH))
    assert sequence_of(text_of(tokens)) == tokens
    assert sequence_of(text_of(tokens[1:])) is None
    assert sequence_of(text_of(tokens[1:]) + " zebra") is None
    assert sequences_of([text_of(tokens), "ba"]) == [tokens]
    with pytest.raises(ValueError, match="none of 1 responses is a sequence of 16 words"):
        sequences_of(["ba"])


def test_a_word_is_a_token():
    tokenizer = tokenizer_of([OTHER_WORDS + " " + " ".join(WORDS)])
    assert len(tokenizer(" " + text_of(range(LENGTH)), add_special_tokens=False)["input_ids"]) == 16


def test_the_oracle_scores_what_it_can():
    oracle = ToyOracle(World(0), 0, SMALL)
    whole, broken = (
        Sample(prompt="", responses=(text_of(range(n)),)) for n in (LENGTH, LENGTH - 1)
    )
    first, second, third = oracle.submit([whole, broken, whole]).result()
    assert isinstance(first, Score)
    assert first == third
    assert isinstance(second, Unscorable)
    assert first.uncertainty is not None
    assert first.uncertainty.low <= first.reward <= first.uncertainty.high


def test_the_interval_of_one_sign():
    found = interval([1.0, 2.0, 3.0])
    assert found["value"] == 2.0
    assert 1.0 <= found["low"] < found["high"] <= 3.0


@pytest.mark.slow
def test_the_whole_of_it_small(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(rrhf, "SOURCES", {"good": 6, "bad": -6})
    config = Config(
        out=str(tmp_path),
        seeds=1,
        models=SMALL,
        policy=TinySpec(layers=1, width=32, heads=2, context_tokens=48),
        texts=640,
        sft_epochs=10,
        prompts=32,
        epochs=1,
        judged=32,
        online_steps=3,
        online_prompts=4,
    )
    report = rrhf.main(config)
    [seed] = report["seeds"]
    assert set(seed["policies"]) == {"usual", "good", "bad", "offline"}
    assert len(seed["online"]["gold"]) == len(seed["penalised"]["reward"]) == 3
    assert seed["online"]["kl_nats"][0] == pytest.approx(0, abs=1e-4)
    assert json.loads((tmp_path / "rrhf.json").read_text())["gain"] == report["gain"]
    assert (tmp_path / "rrhf.png").stat().st_size > 1000
    assert "offline − best source" in capsys.readouterr().out
