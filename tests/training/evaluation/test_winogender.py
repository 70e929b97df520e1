"""WinoGender: entropy, gotchas and correlations by hand; pronouns in their place; the release's tables."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pico
import pytest

from tureen_training import evaluate
from tureen_training.data.jsonl import BadData
from tureen_training.evaluation.language_models import open_language_model
from tureen_training.evaluation.winogender import (
    Schema,
    Women,
    coreference,
    entropy_bits,
    is_gotcha,
    pearson,
    preferences,
    pronouns_of,
    schemas,
    texts_of,
)

TEMPLATES = {
    ("painter", "cat", 0): "The painter was by the river because {he} was red.",
    ("painter", "cat", 1): "The painter like the cat because {he} was red.",
    ("river", "dog", 0): "The river was blue because {he} was night.",
    ("sky", "someone", 1): "The sky was blue when {he} was not.",
}
WORDS = {"male": "he", "female": "she", "neutral": "they"}
WOMEN = {"painter": Women(80.0, 70.0), "river": Women(20.0, 30.0), "sky": Women(50.0, 40.0)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The release's tables; a quotation mark in one is a character."""
    lines = [
        f"{o}.{p}.{a}.{gender}.txt\t{text.format(he=word)}"
        for (o, p, a), text in TEMPLATES.items()
        for gender, word in WORDS.items()
    ]
    (tmp_path / "all_sentences.tsv").write_text("sentid\tsentence\n" + "\n".join(lines) + "\n")
    rows = [f"{name}\t{w.corpus}\t{w.bls}\t2015" for name, w in WOMEN.items()]
    header = "occupation\tbergsma_pct_female\tbls_pct_female\tbls_year\n"
    (tmp_path / "occupations-stats.tsv").write_text(header + "\n".join(rows) + "\n")
    return tmp_path


def schema(occupation: str, answer: int) -> Schema:
    return Schema(
        f"{occupation}.x.{answer}", occupation, "x", answer, ("", "", ""), ("he", "she", "they")
    )


def test_entropy_in_bits():
    # 1/4: −¼·log₂¼ − ¾·log₂¾ = 0.5 + 0.311278
    found = entropy_bits(np.array([0.5, 0.25, 0.0, 1.0]))
    assert found == pytest.approx([1.0, 0.811278, 0.0, 0.0], abs=1e-6)


def test_preferences_by_hand():
    # p(he), p(she), p(they): 3:1:4, 1:1:2, 1:3:0+ of two occupations
    log_p = np.log([[3.0, 1.0, 4.0], [1.0, 1.0, 2.0], [1.0, 3.0, 4.0]])
    known = [schema("painter", 0), schema("river", 0), schema("sky", 1)]
    found = preferences(known, log_p - 50, WOMEN)
    assert found["entropy"].value == pytest.approx((0.811278 * 2 + 1) / 3, abs=1e-6)
    assert found["prefers_male"].value == pytest.approx(1.5 / 3)
    assert found["female_share"].value == pytest.approx((0.25 + 0.5 + 0.75) / 3)
    assert found["neutral_share"].value == pytest.approx(0.5)
    # log odds −ln 3, 0, ln 3 against 80, 20, 50: r = (−1·30 + 0 + 1·0) / √(2 · 1800) = −30 / 60
    assert found["occupation_correlation"].value == pytest.approx(-0.5)


def test_coreference_by_hand():
    # lead of the occupation for he, she, they; the painter is meant in the first, the participant in the second
    lead = np.array([[1.0, -1.0, 1.0], [1.0, 1.0, -1.0], [-1.0, 0.0, 1.0]])
    known = [schema("painter", 0), schema("painter", 1), schema("river", 0)]
    found = coreference(known, np.stack([lead, np.zeros_like(lead)], axis=2), WOMEN)
    # right: 1 0 1 | 0 0 1 | 0 ½ 1
    assert found["coreference_accuracy"].value == pytest.approx(4.5 / 9)
    assert found["coreference_accuracy_male"].value == pytest.approx(1 / 3)
    assert found["coreference_accuracy_female"].value == pytest.approx(0.5 / 3)
    assert found["pair_disagreement"].value == pytest.approx((1 + 0 + 0.5) / 3)
    # gotchas: he of the painter (80 % women) 1; she for the participant 0; she of the river (20 %) ½
    assert found["gotcha_accuracy"].value == pytest.approx(1.5 / 3)
    assert found["gotcha_accuracy"].n == 3


@pytest.mark.parametrize(
    ("answer", "gender", "women", "expected"),
    [
        (0, 0, 80.0, True),  # he is the occupation of mostly women
        (0, 1, 80.0, False),
        (1, 1, 80.0, True),  # she is not the occupation of mostly women
        (1, 0, 80.0, False),
        (0, 1, 20.0, True),
        (0, 1, 50.0, False),
    ],
)
def test_gotchas(answer: int, gender: int, women: float, expected: bool):
    assert is_gotcha(schema("o", answer), gender, women) is expected


def test_pearson_is_undefined_without_spread():
    assert pearson(np.array([[0.0, 1.0], [1.0, 3.0]])) == pytest.approx(1.0)
    assert math.isnan(pearson(np.array([[1.0, 1.0], [1.0, 3.0]])))


def test_pronouns_are_found_by_the_sentences():
    sentences = ("He left, and his dog.", "She left, and his dog.", "They left, and his dog.")
    assert pronouns_of(sentences) == ("he", "she", "they")
    with pytest.raises(ValueError, match="do not differ in a pronoun of each gender"):
        pronouns_of(("A cat", "A dog", "A cow"))


def test_a_masked_model_is_asked_for_the_pronoun(data: Path, tmp_path: Path):
    model = open_language_model(str(pico.bert_masked(tmp_path / "model")))
    for one in schemas(data / "all_sentences.tsv"):
        for text, pronoun in zip(texts_of(model, one), ("he", "she", "they"), strict=True):
            counted = [text.ids[place] for place in text.counted]
            assert model.policy.tokenizer.decode(counted) == pronoun


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_from_the_command_on(kind: str, data: Path, tmp_path: Path):
    make = pico.llama_policy if kind == "causal" else pico.bert_masked
    config = evaluate.Config(
        suite="winogender", data=str(data), policy=str(make(tmp_path / "model"))
    )
    found = evaluate.main(config)
    assert found["entropy"].n == 4
    assert {"prefers_male", "female_share", "occupation_correlation"} <= set(found)
    assert ("pair_disagreement" in found) == (kind == "causal")


def test_a_template_without_a_gender_is_refused(data: Path):
    path = data / "all_sentences.tsv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(BadData, match=r"'sky.someone.1' has the genders \['female', 'male'\]"):
        list(schemas(path))
