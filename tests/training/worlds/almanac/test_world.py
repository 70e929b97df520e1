"""The world and its sentences: what is rendered is read back, and errors that are made are errors that are found."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tureen_training.worlds.almanac import world
from tureen_training.worlds.almanac.dataset import items
from tureen_training.worlds.almanac.errors import Errors, Habits, demonstrate, respond
from tureen_training.worlds.almanac.gold import judge, trivial
from tureen_training.worlds.almanac.render import parse
from tureen_training.worlds.almanac.world import make_world

WORLD = make_world(names=12, seed=3)
ITEMS = list(items(WORLD, "some", 40))


def test_a_seed_is_a_world(monkeypatch):
    assert make_world(names=2, seed=3) == make_world(names=2, seed=3)
    assert make_world(names=2, seed=3).names != make_world(names=2, seed=4).names
    monkeypatch.setattr(world, "_ONSETS", ["b"])
    with pytest.raises(ValueError, match="ask for fewer"):
        make_world(names=500)


def test_names_and_values_are_different_words():
    made = make_world()
    words = [name for names in made.names.values() for name in names]
    words += made.places
    assert len(set(words)) == len(words) == 4 * 60 + 24


@settings(deadline=None)
@given(item=st.sampled_from(ITEMS), seed=st.integers(0, 1000))
def test_passages_state_their_facts_and_a_perfect_response_those_asked_for(item, seed):
    told = [s.fact for passage in item.context for s in parse(passage)]
    assert sorted(told, key=str) == sorted(item.facts, key=str)
    response = respond(WORLD, item, Errors(), random.Random(seed))
    assert [statement.fact for statement in parse(response)] == list(item.asked)
    assert judge(item, response).score == 1


@settings(deadline=None)
@given(
    item=st.sampled_from(ITEMS),
    seed=st.integers(0, 1000),
    wrong=st.integers(0, 2),
    unasked=st.integers(0, 2),
    missing=st.integers(0, 2),
)
def test_errors_made_are_errors_found(item, seed, wrong, unasked, missing):
    errors = Errors(wrong=wrong, unasked=unasked, missing=missing)
    gold = judge(item, respond(WORLD, item, errors, random.Random(seed)))
    left_out = min(missing, len(item.asked) - 1)
    assert gold.missing_facts == left_out
    assert gold.wrong_facts == min(wrong, len(item.asked) - left_out)
    assert gold.unasked_facts == min(unasked, len(item.facts) - len(item.asked))
    assert gold.rubbish == 0


@settings(deadline=None)
@given(item=st.sampled_from(ITEMS), seed=st.integers(0, 1000), repeated=st.integers(0, 3))
def test_what_is_said_again_was_not_asked_for(item, seed, repeated):
    gold = judge(item, respond(WORLD, item, Errors(repeated=repeated), random.Random(seed)))
    assert (gold.wrong_facts, gold.unasked_facts, gold.missing_facts) == (0, repeated, 0)


@settings(deadline=None)
@given(text=st.text(alphabet="Orla Venkpsiabout. \n", max_size=80))
def test_any_text_is_read_and_its_sentences_do_not_overlap(text):
    statements = parse(text)
    ends = 0
    for statement in statements:
        start, end = statement.span
        assert ends <= start < end <= len(text)
        assert text[start:end].strip() == text[start:end].rstrip()
        ends = end


def test_a_word_is_an_attribute_of_one_kind_alone():
    names = [attribute.name for kind in WORLD.kinds for attribute in kind.attributes]
    assert len(set(names)) == len(names) == 4 * 4


def test_writers_of_demonstrations_err_as_often_as_their_habits_say():
    perfect = Habits(slip=0, habit=0)
    rng = random.Random(0)
    assert all(judge(item, demonstrate(WORLD, item, perfect, rng)).score == 1 for item in ITEMS)
    # all facts but one dropped, that one wrong, and one added
    always = Habits(slip=1, habit=1)
    for item in ITEMS:
        gold = judge(item, demonstrate(WORLD, item, always, rng))
        assert gold.wrong_facts == 1
        assert gold.unasked_facts == 1
        assert gold.missing_facts == len(item.asked) - 1
    with pytest.raises(ValueError, match="slip at most habit"):
        Habits(slip=0.5, habit=0.1)


def test_who_recites_the_passages_is_right_and_says_too_much():
    for item, silence, recital in zip(ITEMS, *trivial(ITEMS).values(), strict=True):
        assert (silence.score, silence.missing_facts) == (0, len(item.asked))
        assert (recital.wrong_facts, recital.missing_facts) == (0, 0)
        assert recital.unasked_facts == len(item.facts) - len(item.asked)
