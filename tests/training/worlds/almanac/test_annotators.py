"""Simulated annotators: their reliability is what the estimators of `tureen_training.annotators` find."""

import json
import random

import pytest

from tureen_training.annotators import crowd_bt, dawid_skene
from tureen_training.annotators.opinions import comparison_votes, duels, opinions
from tureen_training.data.own import read_own
from tureen_training.data.records import Comparison
from tureen_training.worlds.almanac.annotators import PANEL, Annotator, annotate
from tureen_training.worlds.almanac.dataset import candidates, items
from tureen_training.worlds.almanac.gold import ERRORS, judge
from tureen_training.worlds.almanac.world import make_world

ETA = (0.95, 0.9, 0.85, 0.75, 0.65, 0.55)
RATERS = [Annotator(name=f"rater-{eta}", reliability=eta) for eta in ETA]


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    world = make_world(names=12)
    rng = random.Random(0)
    records = [
        annotate(item, candidates(world, item, 4, rng), RATERS, rng)
        for item in items(world, "rated", 250)
    ]
    path = tmp_path_factory.mktemp("feedback") / "own.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return list(read_own(path, "almanac"))


def test_dawid_skene_finds_how_reliable_each_is(examples):
    said = list(opinions(examples))
    votes, _ = comparison_votes(said)
    fitted = dawid_skene.fit(votes.counts())
    found = dict(zip(votes.raters, fitted.reliability, strict=True))
    # a pair of equals is called so with probability 2η − 1, any other pair ordered rightly with η:
    # with a share τ of equals, η − τ (1 − η) of the votes are right
    equals = fitted.prior[votes.labels.index("tie")]
    assert 0.1 < equals < 0.3
    # A ranking is blind with probability 2(1 − η): of 250, that share and the luck of the blind ones both have a
    # standard deviation of up to 0.016 in η; three times their root mean square sum is 0.07.
    for rater, eta in zip(RATERS, ETA, strict=True):
        assert found[rater.name] == pytest.approx(eta - equals * (1 - eta), abs=0.07)


def test_crowd_bt_finds_who_is_least_reliable(examples):
    said = duels(list(opinions(examples)))
    fitted = crowd_bt.fit(said.chosen, said.rejected, said.raters)
    found = dict(zip(said.rater_names, fitted.reliability, strict=True))
    # its values can follow whoever errs little, so only the poor ones stand apart
    good, poor, worst = found["rater-0.95"], found["rater-0.65"], found["rater-0.55"]
    assert worst < poor < good
    assert 0.5 < worst < 0.7


def test_a_reliable_annotator_says_what_is_so():
    world = make_world(names=12)
    sure = Annotator(name="sure", reliability=1.0)
    rng = random.Random(1)
    for item in items(world, "sure", 20):
        responses = candidates(world, item, 4, rng)
        golds = [judge(item, response) for response in responses]
        record = annotate(item, responses, [sure], rng)
        ranks = record["rankings"][0]["ranks"]
        scores = [gold.score for gold in golds]
        for i in range(4):
            assert ranks[i] == 1 + sum(other > scores[i] for other in scores)
        for head, spans in (("factuality", "wrong_spans"), ("relevance", "unasked_spans")):
            marked = [[list(span) for span in getattr(gold, spans)] for gold in golds]
            assert record["spans"][head] == marked
        for pair in record["pairs"]:
            fuller, poorer = golds[pair["chosen"]], golds[pair["rejected"]]
            assert fuller.missing_facts < poorer.missing_facts


def test_viewpoint_and_a_liking_for_length_decide():
    world = make_world(names=12)
    item = next(i for i in items(world, "view", 50) if len(i.asked) == 3)
    golds = [judge(item, text) for text in ("x.", "")]
    # "x.": wrong 1, unasked 1, missing 3; "": missing 3
    only: dict[str, float] = dict.fromkeys(ERRORS, 0.0)
    checker = Annotator(name="a", viewpoint={**only, "wrong_facts": 2.0})
    assert [checker.utility(gold, "") for gold in golds] == [-2.0, 0.0]
    examiner = Annotator(name="b", viewpoint={**only, "missing_facts": 1.0})
    assert [examiner.utility(gold, "") for gold in golds] == [-3.0, -3.0]
    lengthy = Annotator(name="c", viewpoint=only, length_bias=0.5)
    assert lengthy.utility(golds[0], "one two three four") == pytest.approx(0.2)
    with pytest.raises(ValueError, match=r"in \[0.5, 1\]"):
        Annotator(name="d", reliability=0.4)
    with pytest.raises(ValueError, match="must weigh"):
        Annotator(name="e", viewpoint={"wrong_facts": 1.0})


def test_the_panel_teaches_every_head(examples):
    assert {annotator.name for annotator in PANEL} == {"checker", "editor", "examiner", "hasty"}
    assert all(set(example.spans) == {"factuality", "relevance"} for example in examples)
    assert any(example.pairs.get(Comparison.COVERAGE) for example in examples)
