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
        ("Orla works as a miller. Orla keeps a goose.", 0, 0, 0, 0, 1.0),
        ("Orla has a tame goose. Orla is a miller by trade.", 0, 0, 0, 0, 1.0),
        (" Orla keeps  a goose.\nOrla works as\na miller. ", 0, 0, 0, 0, 1.0),
        # the unfinished sentence states nothing: wrong, unasked, and its fact is missing
        ("Orla keeps a goose. Orla works as a miller", 1, 1, 1, 1, -0.5),
        ("", 0, 0, 2, 0, 0.0),
        ("Orla works as a miller.", 0, 0, 1, 0, 0.5),
        ("Orla works as a dyer. Orla keeps a goose.", 1, 0, 0, 0, 0.5),
        # the other one's pet: a wrong value is not a missing fact as well
        ("Orla works as a miller. Orla keeps a raven.", 1, 0, 0, 0, 0.5),
        # an unasked fact, right and wrong
        ("Orla works as a miller. Orla keeps a goose. Orla plays the harp.", 0, 1, 0, 0, 0.5),
        ("Orla works as a miller. Orla keeps a goose. Orla plays the drum.", 1, 1, 0, 0, 0.0),
        # of another entity: right, and wrong
        ("Dorn keeps a raven. Dorn works as a miller.", 1, 2, 2, 0, 1 - 5 / 2),
        # said twice
        ("Orla keeps a goose. Orla has a tame goose.", 0, 1, 1, 0, 0.0),
        # a second value for what was stated already
        ("Orla keeps a raven. Orla keeps a goose. Orla works as a miller.", 1, 1, 0, 0, 0.0),
        # an attribute of bridges
        ("Orla is made of oak. Orla works as a miller.", 1, 1, 1, 0, -0.5),
        ("the the goose.", 1, 1, 2, 1, -1.0),
        ("...", 3, 3, 2, 3, -3.0),
        ("Orla keeps a red goose. Orla works as a miller.", 1, 1, 1, 1, -0.5),
    ],
)
def test_by_hand(response, wrong, unasked, missing, rubbish, score):
    gold = judge(ITEM, response)
    assert (gold.wrong_facts, gold.unasked_facts) == (wrong, unasked)
    assert (gold.missing_facts, gold.rubbish, gold.score) == (missing, rubbish, score)


def test_spans_are_the_sentences_that_are_errors():
    response = " Orla keeps a raven. Orla plays the harp."
    gold = judge(ITEM, response)
    assert [response[slice(*span)] for span in gold.wrong_spans] == ["Orla keeps a raven."]
    assert [response[slice(*span)] for span in gold.unasked_spans] == ["Orla plays the harp."]


def test_figures_count_responses_and_facts():
    golds = [
        judge(ITEM, "Orla works as a miller. Orla keeps a goose."),
        judge(ITEM, "Dorn keeps a raven. Dorn works as a miller."),
    ]
    found = figures(golds, {"silence": [judge(ITEM, "")] * 2})
    assert found["score"].value == pytest.approx((1 - 1.5) / 2)
    assert found["unasked_facts"].value == 1.0
    assert found["unasked_facts_rate"].value == 0.5
    assert found["missing_facts_rate"].baselines == {"silence": 1.0}
    assert found["perfect_rate"].value == 0.5
    assert found["score"].low <= found["score"].value <= found["score"].high
