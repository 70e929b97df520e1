"""Demo `replay`, small: what it concludes, by hand, and that all of it runs."""

from __future__ import annotations

import json

import pico_ppo
import pytest

from tureen_training.demo import replay
from tureen_training.demo.replay import Config, concluded, write_corpus
from tureen_training.demo.toy_rewards import Making
from tureen_training.policies import TinySpec


def arm(beta: float, what: str, gold: float, tax: float) -> dict:
    return {
        "kl_coefficient": beta,
        "replay": what,
        "share": 1.0,
        "gold": gold,
        "tax_nats": tax,
        "cloze": 0.5,
    }


def test_what_is_concluded():
    """Replay takes the tax from 1.0 to 0.2 and from 0.6 to 0.1; shuffled it leaves 0.8 of it."""
    config = Config(kl_coefficients=(0.0, 0.3))
    runs = [
        arm(0.0, "none", 2.0, 1.0),
        arm(0.0, "text", 1.9, 0.2),
        arm(0.3, "none", 2.5, 0.6),
        arm(0.3, "text", 2.6, 0.1),
        arm(0.0, "shuffled", 2.0, 0.8),
    ]
    found = concluded(config, [runs])
    first, second = found["differences"]
    assert first["tax_nats"]["value"] == pytest.approx(-0.8)
    assert second["tax_nats"]["value"] == pytest.approx(-0.5)
    assert first["gold"]["value"] == pytest.approx(-0.1)
    assert found["control_tax_left"]["value"] == pytest.approx(0.8)
    assert all(found["criteria"].values())
    worse = concluded(config, [[*runs[:1], arm(0.0, "text", 1.0, 1.1), *runs[2:]]])["criteria"]
    assert not worse["replay lowers the tax at every β"]
    assert not worse["at comparable gold"]


def test_the_corpus(tmp_path):
    write_corpus(tmp_path, 20, 0)
    text = [one["text"] for one in pico_ppo.read(tmp_path / "text.jsonl")]
    mixed = [one["text"] for one in pico_ppo.read(tmp_path / "shuffled.jsonl")]
    assert [sorted(one.split()) for one in text] == [sorted(one.split()) for one in mixed]
    assert text != mixed
    cloze = pico_ppo.read(tmp_path / "cloze.jsonl")
    assert len(cloze) == 32
    for question in cloze:
        assert f"{question['prompt']} {question['answer']}" in text
        assert question["answer"] in question["choices"]
        assert len(set(question["choices"])) == 4


@pytest.mark.slow
def test_the_whole_of_it_small(tmp_path, capsys):
    config = Config(
        out=str(tmp_path),
        seeds=1,
        models=Making(members=2, pairs=100, pretraining_steps=20, tuning_steps=20),
        policy=TinySpec(layers=1, width=32, heads=2, context_tokens=48),
        lines=200,
        demonstrations=640,
        sft_epochs=10,
        steps=2,
        responses_per_step=16,
        kl_coefficients=(0.1,),
        averages=(0.5,),
        judged=64,
    )
    report = replay.main(config)
    [runs] = report["runs"]
    assert [(run["replay"], run["share"]) for run in runs] == [
        ("none", 1.0),
        ("none", 0.5),
        ("text", 1.0),
        ("shuffled", 1.0),
    ]
    assert json.loads((tmp_path / "replay.json").read_text())["criteria"] == report["criteria"]
    assert (tmp_path / "replay.png").stat().st_size > 1000
    assert "front:" in capsys.readouterr().out
