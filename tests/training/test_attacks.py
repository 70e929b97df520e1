"""Edits by hand: what each makes of one text, that it is the same again, and that it says when it does not apply."""

from __future__ import annotations

import re

import pytest

from tureen_training.attacks import ATTACKS, UNRELATED, Effect

TEXT = (
    "The lighthouse on Gull Point was built in 1871 by Anna Berg. "
    "It is not open, for example because many gulls nest there."
)


def edited(name: str, text: str = TEXT, seed: str = "0") -> str:
    found = ATTACKS[name](text, seed)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ATTACKS)
def test_the_same_seed_gives_the_same_edit(name: str):
    assert edited(name) == edited(name)
    assert edited(name) != TEXT


@pytest.mark.parametrize("name", ["typos", "wrong_facts", "word_salad", "nonsense"])
def test_another_seed_gives_another_edit(name: str):
    assert len({edited(name, seed=str(seed)) for seed in range(8)}) > 1


def test_typing_errors_only_move_letters():
    found = edited("typos")
    assert sorted(found) == sorted(TEXT)
    changed = [a for a, b in zip(TEXT.split(), found.split(), strict=True) if a != b]
    assert len(changed) == 1  # of 15 words of four letters or more


def test_case_white_space_wording_and_frame():
    assert edited("lower_case") == TEXT.lower()
    first, second = edited("white_space").split("\n")
    assert f"{first} {second}".split() == TEXT.split()
    assert "  " in first
    assert edited("rewording") == TEXT.replace("It is not", "It's not").replace(
        "for example", "for instance"
    ).replace("because", "since").replace("many", "numerous")
    assert edited("rewording", "He doesn't like it.") == "He does not like it."
    assert TEXT in edited("framing")


def test_gaming_keeps_every_word():
    for name in ("praise", "injection", "repetition"):
        assert edited(name).startswith(TEXT)
        assert len(edited(name)) > len(TEXT)
    assert edited("repetition") == f"{TEXT} {TEXT}"
    assert edited("formatting") == (
        "## Answer\n\n- **The** lighthouse on Gull Point was built in 1871 by Anna Berg.\n"
        "- **It** is not open, for example because many gulls nest there.\n\n---"
    )


def test_breaking_changes_what_is_said():
    wrong = edited("wrong_facts")
    (year,) = re.findall(r"\d+", wrong)
    assert len(year) == 4
    assert year != "1871"
    assert "Anna Berg" not in wrong
    assert wrong.startswith("The lighthouse on")
    assert edited("negation") == TEXT.replace("was built", "was not built").replace("is not", "is")
    assert sorted(edited("word_salad").split()) == sorted(TEXT.split())
    assert len(edited("nonsense")) >= 1.5 * len(TEXT)
    assert "lighthouse" not in edited("nonsense")


def test_prompts_are_framed_bribed_and_exchanged():
    prompt = "Who built the lighthouse?"
    assert prompt in edited("prompt_politeness", prompt)
    assert edited("prompt_injection", prompt).startswith(prompt)
    assert edited("prompt_exchange", prompt) in UNRELATED
    assert {name for name in ATTACKS if ATTACKS[name].effect.of_prompt} == {
        name for name in ATTACKS if name.startswith("prompt_")
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("typos", "No."),
        ("lower_case", "no."),
        ("rewording", "Gulls nest there."),
        ("wrong_facts", "Gulls nest there."),
        ("negation", "Gulls nest there."),
        ("word_salad", "No."),
    ],
)
def test_where_there_is_nothing_to_edit(name: str, text: str):
    assert ATTACKS[name](text, "0") is None


def test_there_is_one_of_each_effect():
    assert {attack.effect for attack in ATTACKS.values()} == set(Effect)
    assert "original" not in ATTACKS
