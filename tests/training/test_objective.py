import math
from typing import Any

import pytest
import torch
from torch import tensor

from tureen_training.data.items import Item, Target, Values
from tureen_training.data.records import Comparison, Example, Pair, Rating
from tureen_training.objective import Objective, raters_of, taught_by, weigh

PREFERENCE = Comparison.PREFERENCE


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def item(targets: dict[str, tuple[Target | None, ...]] | None = None, **feedback: Any) -> Item:
    example = Example(
        prompt_id="q", origin="own", prompt="?", responses=("a", "b", "c"), **feedback
    )
    return Item(
        example=example,
        responses=(),
        pairs={
            kind: tensor([(pair.chosen, pair.rejected) for pair in pairs])
            for kind, pairs in example.pairs.items()
        },
        targets=targets or {},
    )


def answers(**values: list[list[float]]) -> list[Values]:
    """Of three responses: head -> for each of them the values of its units."""
    return [
        Values({head: tensor(units[k], requires_grad=True) for head, units in values.items()})
        for k in range(3)
    ]


def objective(*heads: str, **options: Any) -> Objective:
    return Objective(heads, **{"error_weight": {}, **options})


def test_comparisons_count_with_margin_weight_and_centring():
    """Values 1, 0, 3; a over b by a margin of ½ with weight 2, c over a: Δ − m = ½ and 2."""
    given = item(pairs={PREFERENCE: (Pair(0, 1, margin=0.5, weight=2.0), Pair(2, 0))})
    found = objective("preference", centring=0.1)(
        [given], [answers(preference=[[1.0], [0.0], [3.0]])]
    )["preference"]
    pairs = -(2 * log_sigmoid(0.5) + log_sigmoid(2.0)) / 3
    assert found.terms == 1
    assert found.total.item() == pytest.approx(pairs + 0.1 * (1 + 16) / 2, rel=1e-6)


def test_each_kind_of_comparison_is_a_term():
    given = item(
        pairs={PREFERENCE: (Pair(0, 1),), Comparison.CORRECTION: (Pair(2, 0),)},
    )
    found = objective("preference", "completeness")(
        [given], [answers(preference=[[1.0], [0.0], [3.0]], completeness=[[0.0]] * 3)]
    )
    assert found["preference"].terms == 2
    assert found["preference"].total.item() == pytest.approx(-log_sigmoid(1.0) - log_sigmoid(2.0))
    assert (found["completeness"].terms, found["completeness"].total.item()) == (0, 0.0)


def test_a_verdict_speaks_only_where_no_unit_is_marked():
    """Response a has spans, b and c have verdicts: clean at a mean of 1, an error (weight 3) at −1."""
    marked = Target(labels=tensor([1.0, 0.0]), mask=tensor([True, True]))
    silent = Target(labels=tensor([1.0]), mask=tensor([False]))
    given = item(
        targets={"factuality": (marked, silent, None)},
        verdicts={"factuality": (False, True, False)},
    )
    values = answers(factuality=[[2.0, 0.0], [1.0], [-2.0, 0.0]])
    found = objective("factuality", error_weight={"factuality": 3.0})([given], [values])
    units = (-log_sigmoid(2.0) + 3 * math.log(2.0)) / 4
    verdicts = (-log_sigmoid(1.0) - 3 * log_sigmoid(1.0)) / 4
    assert found["factuality"].terms == 2
    assert found["factuality"].total.item() == pytest.approx(units + verdicts, rel=1e-6)


def test_marks_are_questions_of_four_thresholds():
    """Thresholds begin at −1.5, −0.5, 0.5, 1.5; a mark of 4 passes three of them."""
    given = item(ratings={"preference": (Rating(1, 4.0),)})
    found = objective("preference", rated=["preference"])(
        [given], [answers(preference=[[9.0], [1.0], [9.0]])]
    )["preference"]
    passed = sum(log_sigmoid(1.0 - t) for t in (-1.5, -0.5, 0.5))
    assert found.terms == 1
    assert found.total.item() == pytest.approx(-(passed + log_sigmoid(1.5 - 1.0)) / 4, rel=1e-6)


def test_a_rater_begins_at_nine_tenths_and_what_nobody_judged_is_believed():
    given = item(pairs={PREFERENCE: (Pair(0, 1, rater="ann"), Pair(2, 1))})
    learnt = objective("preference", raters=["bob", "ann"])
    assert learnt.reliabilities() == {"ann": 0.9, "bob": 0.9}
    found = learnt([given], [answers(preference=[[1.0], [0.0], [2.0]])])["preference"]
    sigma = 1 / (1 + math.exp(-1.0))
    expected = (-math.log(0.9 * sigma + 0.1 * (1 - sigma)) - log_sigmoid(2.0)) / 2
    assert found.total.item() == pytest.approx(expected, rel=1e-4)


def test_a_rater_whom_all_contradict_loses_influence():
    """Nine say that a beats b and one the opposite; the values learn along, as in training."""
    value = tensor([0.0, 0.0, 0.0], requires_grad=True)
    names = [f"r{n}" for n in range(9)]
    pairs = (*(Pair(0, 1, rater=name) for name in names), Pair(1, 0, rater="odd"))
    given, learnt = item(pairs={PREFERENCE: pairs}), objective("preference", raters=[*names, "odd"])
    optimiser = torch.optim.Adam([value, *learnt.parameters()], lr=0.05)
    for _ in range(200):
        optimiser.zero_grad()
        said = [Values({"preference": value[k : k + 1]}) for k in range(3)]
        learnt([given], [said])["preference"].total.backward()
        optimiser.step()
    reliability = learnt.reliabilities()
    assert reliability.pop("odd") < 0.6
    assert min(reliability.values()) > 0.9
    assert value[0] > value[1]


def test_the_loss_is_the_emphasised_mean_of_each_head():
    given = item(pairs={PREFERENCE: (Pair(0, 1),)}, ratings={"completeness": (Rating(0, 5.0),)})
    heads = objective("preference", "completeness", "relevance", rated=["completeness"])
    found = heads(
        [given, given],
        [answers(preference=[[0.0]] * 3, completeness=[[0.0]] * 3, relevance=[[0.0]] * 3)] * 2,
    )
    counts = {"preference": 4, "completeness": 2, "relevance": 0}  # two more on another process
    marks = -sum(log_sigmoid(-t) for t in (-1.5, -0.5, 0.5, 1.5)) / 4
    expected = 0.5 * 2 * math.log(2.0) / 4 + 2 * marks / 2
    total = weigh(found, counts, {"preference": 0.5})
    assert total.item() == pytest.approx(expected, rel=1e-6)


def test_who_teaches_what():
    given = item(
        pairs={PREFERENCE: (Pair(0, 1, rater="ann"),), Comparison.COVERAGE: ()},
        verdicts={"factuality": (None, None, True), "relevance": (None, None, None)},
    )
    taught = [h for h in ("preference", "factuality", "relevance", "completeness")
              if taught_by(given.example, h)]  # fmt: skip
    assert taught == ["preference", "factuality"]
    assert raters_of([given]) == {"ann"}
