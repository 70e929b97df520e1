"""Responses judged by hand."""

import pytest

from tureen_training.worlds.almanac.gold import figures, judge
from tureen_training.worlds.almanac.world import Fact, Item

ORLA = "Orla"
ITEM = Item(
    id="q",
    prompt="Tell me the trade and pet of Orla.",
    context=("Orla …", "Dorn …"),
    facts=(
        Fact(ORLA, "trade", "miller"),
        Fact(ORLA, "pet", "goose"),
        Fact(ORLA, "instrument", "harp"),
        Fact("Dorn", "pet", "raven"),
    ),
    asked=(Fact(ORLA, "trade", "miller"), Fact(ORLA, "pet", "goose")),
)


@pytest.mark.parametrize(
    ("response", "wrong", "unasked", "missing", "rubbish", "score"),
    [
        ("The trade of Orla is miller. The pet of Orla is goose.", 0, 0, 0, 0, 1.0),
        ("The pet of Orla is goose. The trade of Orla is miller.", 0, 0, 0, 0, 1.0),
        (" The pet of  Orla is goose.\nThe trade of Orla\nis miller. ", 0, 0, 0, 0, 1.0),
        # the unfinished sentence states nothing: wrong, unasked, and its fact is missing
        ("The pet of Orla is goose. The trade of Orla is miller", 1, 1, 1, 1, -0.5),
        ("", 0, 0, 2, 0, 0.0),
        ("The trade of Orla is miller.", 0, 0, 1, 0, 0.5),
        ("The trade of Orla is dyer. The pet of Orla is goose.", 1, 0, 0, 0, 0.5),
        # the other one's pet: a wrong value is not a missing fact as well
        ("The trade of Orla is miller. The pet of Orla is raven.", 1, 0, 0, 0, 0.5),
        # an unasked fact, right and wrong
        (
            "The trade of Orla is miller. The pet of Orla is goose. The instrument of Orla is harp.",
            0,
            1,
            0,
            0,
            0.5,
        ),
        (
            "The trade of Orla is miller. The pet of Orla is goose. The instrument of Orla is drum.",
            1,
            1,
            0,
            0,
            0.0,
        ),
        # of another entity: right, and wrong
        ("The pet of Dorn is raven. The trade of Dorn is miller.", 1, 2, 2, 0, 1 - 5 / 2),
        # said twice
        ("The pet of Orla is goose. The pet of Orla is goose.", 0, 1, 1, 0, 0.0),
        # a second value for what was stated already
        (
            "The pet of Orla is raven. The pet of Orla is goose. The trade of Orla is miller.",
            1,
            1,
            0,
            0,
            0.0,
        ),
        # an attribute of bridges
        ("The material of Orla is oak. The trade of Orla is miller.", 1, 1, 1, 0, -0.5),
        ("the the goose.", 1, 1, 2, 1, -1.0),
        ("...", 3, 3, 2, 3, -3.0),
        ("The pet of Orla is red goose. The trade of Orla is miller.", 1, 1, 1, 1, -0.5),
    ],
)
def test_by_hand(response, wrong, unasked, missing, rubbish, score):
    gold = judge(ITEM, response)
    assert (gold.wrong_facts, gold.unasked_facts) == (wrong, unasked)
    assert (gold.missing_facts, gold.rubbish, gold.score) == (missing, rubbish, score)


def test_spans_are_the_sentences_that_are_errors():
    response = " The pet of Orla is raven. The instrument of Orla is harp."
    gold = judge(ITEM, response)
    assert [response[slice(*span)] for span in gold.wrong_spans] == ["The pet of Orla is raven."]
    assert [response[slice(*span)] for span in gold.unasked_spans] == [
        "The instrument of Orla is harp."
    ]


def test_figures_count_responses_and_facts():
    golds = [
        judge(ITEM, "The trade of Orla is miller. The pet of Orla is goose."),
        judge(ITEM, "The pet of Dorn is raven. The trade of Dorn is miller."),
    ]
    found = figures(golds, {"silence": [judge(ITEM, "")] * 2})
    assert found["score"].value == pytest.approx((1 - 1.5) / 2)
    assert found["unasked_facts"].value == 1.0
    assert found["unasked_facts_rate"].value == 0.5
    assert found["missing_facts_rate"].baselines == {"silence": 1.0}
    assert found["perfect_rate"].value == 0.5
    assert found["score"].low <= found["score"].value <= found["score"].high
