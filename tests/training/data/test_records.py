from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tureen.contracts import Message
from tureen_training.data.records import (
    Comparison,
    Comparisons,
    Example,
    Pair,
    Ranking,
    Rating,
    Split,
    Tie,
    compare,
    compare_ratings,
    cycle,
    group_of,
    split_of,
)


def test_the_split_is_a_function_of_the_question_alone():
    # fixed for ever: a shipped model was trained on what these say
    assert [split_of(f"qaf-dev-{i:04d}").value for i in range(8)] == [
        "train",
        "train",
        "train",
        "train",
        "test",
        "train",
        "train",
        "train",
    ]


def test_shares():
    counts = Counter(split_of(str(i)) for i in range(10_000))
    # binomial, standard deviation at most 0.005 of the whole: five of them
    assert abs(counts[Split.TRAIN] / 10_000 - 0.75) < 0.025
    assert abs(counts[Split.VALIDATION] / 10_000 - 0.10) < 0.025
    assert abs(counts[Split.TEST] / 10_000 - 0.15) < 0.025


def test_a_group_falls_into_one_part():
    def example(prompt_id: str, group: str | None) -> Example:
        return Example(prompt_id=prompt_id, origin="o", prompt="?", responses=("!",), group=group)

    assert example("qaf-dev-0004", None).split == Split.TEST
    together = {example(str(i), "qaf-dev-0004").split for i in range(20)}
    assert together == {Split.TEST}
    assert group_of(" Why\n IS it? ") == group_of("why is it?")


def test_a_ranking_is_all_pairs_of_its_prompt():
    ranking = Ranking(ranks=(2, 1, 2, 4), rater="ann", margin=0.5)
    assert ranking.comparisons() == Comparisons(
        (
            Pair(1, 0, 0.5, "ann"),
            Pair(0, 3, 1.0, "ann"),  # two ranks apart
            Pair(1, 2, 0.5, "ann"),
            Pair(1, 3, 1.5, "ann"),
            Pair(2, 3, 1.0, "ann"),
        ),
        (Tie(0, 2, "ann"),),
    )


def test_two_ranked_responses_are_one_pair():
    assert Ranking(ranks=(7, 3)).comparisons() == Comparisons((Pair(1, 0),))


@given(ranks=st.lists(st.integers(1, 5), min_size=1, max_size=7))
def test_every_two_responses_are_compared_once(ranks):
    compared = Ranking(ranks=tuple(ranks)).comparisons()
    pairs, ties = compared.pairs, compared.ties
    named = [{p.chosen, p.rejected} for p in pairs] + [{t.first, t.second} for t in ties]
    assert sorted(map(sorted, named)) == [list(two) for two in combinations(range(len(ranks)), 2)]
    assert all(ranks[p.chosen] < ranks[p.rejected] for p in pairs)
    assert all(ranks[t.first] == ranks[t.second] for t in ties)
    assert cycle(pairs) is None


def test_scores_close_together_are_ties():
    assert compare([0.5, 0.25, 1.0], tolerance=0.25) == Comparisons(
        (Pair(2, 0), Pair(2, 1)), (Tie(0, 1),)
    )
    assert compare([1, 1, 1]).pairs == ()


def test_marks_are_compared_within_a_rater():
    ratings = [
        Rating(0, 5, "ann"),
        Rating(2, 3, "ann"),
        Rating(1, 1, "bob"),
        Rating(2, 2, "bob"),
        Rating(0, 2, "bob"),
    ]
    # the whole scale is 4 marks wide
    assert compare_ratings(ratings) == Comparisons(
        (Pair(0, 2, 0.5, "ann"), Pair(2, 1, 0.25, "bob"), Pair(0, 1, 0.25, "bob")),
        (Tie(2, 0, "bob"),),
    )


@pytest.mark.parametrize(
    ("pairs", "circle"),
    [
        ([], None),
        ([Pair(0, 1), Pair(1, 2), Pair(0, 2)], None),
        ([Pair(0, 1), Pair(1, 0)], {0, 1}),
        ([Pair(0, 1), Pair(1, 2), Pair(2, 0), Pair(3, 0)], {0, 1, 2}),
    ],
)
def test_cycles(pairs, circle):
    found = cycle(pairs)
    if circle is None:
        assert found is None
        return
    assert found is not None
    assert set(found) == circle
    preferred = {(pair.chosen, pair.rejected) for pair in pairs}
    assert set(zip(found, (*found[1:], found[0]), strict=True)) <= preferred


def test_raters_who_differ_are_no_cycle():
    def example(*pairs: Pair) -> Example:
        return Example(
            prompt_id="p",
            origin="o",
            prompt="?",
            responses=("a", "b"),
            pairs={Comparison.PREFERENCE: pairs},
        )

    assert example(Pair(0, 1, rater="ann"), Pair(1, 0, rater="bob")).cycles() == []
    ((rater, circle),) = example(Pair(0, 1, rater="ann"), Pair(1, 0, rater="ann")).cycles()
    assert (rater, set(circle)) == ("ann", {0, 1})


def test_a_dialogue_is_sent_as_messages():
    messages = (Message(role="user", content="Hi."),)
    sample = Example(prompt_id="p", origin="o", messages=messages, responses=("a",)).sample()
    assert (sample.prompt, sample.messages, sample.responses) == (None, messages, ("a",))
