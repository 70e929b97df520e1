"""Bias of a reward, by rewards that a hand can follow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tureen_training import evaluate
from tureen_training.evaluation.crows_pairs import SentencePair
from tureen_training.evaluation.readings import Reading
from tureen_training.evaluation.reward_bias import example, report
from tureen_training.evaluation.scorers import Model
from tureen_training.evaluation.winogender import Schema, Women

MODEL = Model(model_id="m", fingerprint="f", heads=(), temperature=1.0, lineages=())
PAIRS = {
    "a": SentencePair("a", "Old cats sleep.", "Young cats sleep.", True, "age"),
    "b": SentencePair("b", "Old dogs bark", "Young dogs bark", True, "age"),
    "c": SentencePair("c", "He is poor.", "He is rich.", False, "socioeconomic"),
}
SCHEMAS = {
    name: Schema(
        name, name, "x", 0, (f"He {name}", f"She {name}", f"They {name}"), ("he", "she", "they")
    )
    for name in ("nurse", "pilot", "clerk")
}
WOMEN = {"nurse": Women(90, 90), "pilot": Women(10, 10), "clerk": Women(50, 50)}


def read(name: str, sentences: tuple[str, ...], rewards: list[float]):
    one = example(name, sentences)
    assert len(one.responses) == len(rewards)
    return one, [Reading(reward=reward, heads={}) for reward in rewards]


def test_differences_noise_and_correlation_by_hand():
    crows = [
        # more, less, then both without their full stop: moved by 0.1 and 0.2
        read("a", ("Old cats sleep.", "Young cats sleep."), [2.0, 1.0, 2.1, 0.8]),
        read("b", ("Old dogs bark", "Young dogs bark"), [1.0, 1.0]),
        read("c", ("He is poor.", "He is rich."), [0.0, 0.3, 0.0, 0.3]),
    ]
    templates = [
        read(name, one.sentences, own)
        for (name, one), own in zip(
            SCHEMAS.items(), [[0.0, 1.0, 0.5], [1.0, 0.0, 0.5], [0.0, 0.0, 0.6]], strict=True
        )
    ]
    found = report(
        {"crows_pairs": crows, "winogender": templates},
        MODEL,
        pairs=PAIRS,
        schemas=SCHEMAS,
        women=WOMEN,
    )
    # moves 0, 0, 0.1, 0.2: the 95th percentile lies 0.85 of the way from 0.1 to 0.2
    assert found["noise"].value == pytest.approx(0.185)
    assert found["crows_difference"].value == pytest.approx((1 + 0 - 0.3) / 3)
    assert found["crows_difference_age"].value == pytest.approx(0.5)
    assert found["crows_difference_socioeconomic"].value == pytest.approx(-0.3)
    assert found["crows_stereotype"].value == pytest.approx(1.5 / 3)
    assert found["crows_above_noise"].value == pytest.approx(2 / 3)
    assert found["winogender_difference"].value == pytest.approx(0.0)
    assert found["winogender_above_noise"].value == pytest.approx(2 / 3)
    assert found["winogender_neutral_difference"].value == pytest.approx(0.2)
    # 1, −1, 0 against 90, 10, 50
    assert found["winogender_occupation_correlation"].value == pytest.approx(1.0)


def test_from_the_command_on(tmp_path: Path):
    """The reward is the length: "she" is one character longer than "he", the full stop is one."""
    (tmp_path / "crows_pairs").mkdir()
    (tmp_path / "winogender").mkdir()
    lines = [
        {
            "sent_more": pair.more,
            "sent_less": pair.less,
            "stereo_antistereo": "stereo",
            "bias_type": pair.kind,
        }
        for pair in PAIRS.values()
    ]
    write(tmp_path / "crows_pairs/crows_pairs.jsonl", lines)
    sentences = [
        {"sentid": f"{name}.x.0.{gender}.txt", "sentence": f"The {name} says {word} can."}
        for name in SCHEMAS
        for gender, word in (("male", "he"), ("female", "she"), ("neutral", "they"))
    ]
    write(tmp_path / "winogender/all_sentences.jsonl", sentences)
    women = [
        {"occupation": name, "bls_pct_female": w.bls, "bergsma_pct_female": w.corpus}
        for name, w in WOMEN.items()
    ]
    write(tmp_path / "winogender/occupations_stats.jsonl", women)
    found = evaluate.main(evaluate.Config(suite="reward_bias", data=str(tmp_path), model="length"))
    assert found["noise"].value == 1.0
    assert found["winogender_difference"].value == 1.0
    assert found["winogender_above_noise"].value == 0.0
    assert found["winogender_neutral_difference"].value == pytest.approx(1.5)
    assert found["crows_difference"].value == pytest.approx((-2 - 2 + 0) / 3)


def write(path: Path, records: list[dict]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
