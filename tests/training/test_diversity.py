import math

import pytest

from tureen_training.diversity import (
    bleu,
    distinct,
    expectation_adjusted_distinct,
    identical,
    repeated,
    self_bleu,
)

THREE = ["a b a".split(), "a b c".split(), ["a"]]


def test_distinct_by_hand():
    assert distinct(THREE, 1) == pytest.approx(3 / 7)
    assert distinct(THREE, 2) == pytest.approx(3 / 4)  # ab, ba, ab, bc
    assert distinct(THREE, 4) is None


def test_the_adjustment_by_hand():
    """V = 2, three tokens: 2 · (1 − 1/8) = 1.75 are expected."""
    assert expectation_adjusted_distinct([["a", "b", "a"]], 1, 2) == pytest.approx(2 / 1.75)
    assert expectation_adjusted_distinct([], 1, 2) is None


def test_longer_text_of_one_kind_is_as_diverse_when_adjusted():
    """10 words in turn: 10 different ones of 20 or of 2000 are as many as can be expected of V = 10."""
    short, long = ([list(range(10)) * times] for times in (4, 200))
    assert distinct(short, 1) != pytest.approx(distinct(long, 1), rel=0.1)
    assert expectation_adjusted_distinct(long, 1, 10) == pytest.approx(1.0)
    assert expectation_adjusted_distinct(short, 1, 10) == pytest.approx(1.0, rel=0.02)


def test_bleu_by_hand():
    """Against "a b c d": 4/5, 2/4, 1/3 and, for want of a match, ½ of 2; no brevity penalty."""
    expected = (4 / 5 * 2 / 4 * 1 / 3 * 1 / 4) ** (1 / 4)
    assert bleu("a b c x d".split(), ["a b c d".split()]) == pytest.approx(expected)
    short = math.exp(1 - 4 / 2)  # 2 tokens against 4, both of its n-grams match
    assert bleu("a b".split(), ["a b c d".split()]) == pytest.approx(short)
    assert bleu(["a", "a"], [["a", "b"]]) == pytest.approx((1 / 2 * 1 / 2) ** 0.5)  # clipped


def test_self_bleu_of_the_same_is_one():
    assert self_bleu(["a b c d".split()] * 3) == pytest.approx(1.0)
    assert self_bleu([["a"], []]) is None
    apart = self_bleu(["a b c d".split(), "e f g h".split()])
    assert apart == pytest.approx((1 / 8 * 1 / 12 * 1 / 16 * 1 / 16) ** 0.25)


def test_self_bleu_is_the_mean_of_bleu_against_the_others():
    """Ties for the most of an n-gram, repeated ones, lengths that differ: all counted once for all responses."""
    words = ["a a b", "a a", "b a a b c", "c c c a", "a b c d e f", "d", "a a b"]
    responses = [text.split() for text in words]
    others = [responses[:i] + responses[i + 1 :] for i in range(len(responses))]
    expected = [bleu(own, rest) for own, rest in zip(responses, others, strict=True)]
    assert self_bleu(responses) == pytest.approx(sum(expected) / len(expected), rel=1e-12)


def test_repetition_and_identity():
    assert repeated("a b a b a".split(), 2) == pytest.approx(1 / 2)  # ab, ba twice
    assert repeated(["a"], 2) == 0.0
    assert identical(["x", "y", "x", "z"]) == 0.5
    assert identical([]) == 0.0
