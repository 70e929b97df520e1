import pytest

from tureen_training.data.coverage import similarity, stated


@pytest.mark.parametrize(
    ("unit", "sentence", "expected"),
    [
        ("gulls nests", "Here gulls nest.", 2 * 10 / (11 + 11)),  # against "gulls nest."
        ("gulls nest", "Here gulls  nest too", 1.0),
        ("ab", "cd", 0.0),
        ("ab cd", "ab", 2 * 3 / (5 + 4)),  # against "ab #", which is how a short one is filled up
        ("", "ab", 0.0),
        ("ab", " ", 0.0),
    ],
)
def test_similarity_by_hand(unit, sentence, expected):
    assert similarity(unit, sentence) == pytest.approx(expected)


def test_what_an_answer_states():
    sentences = ["Gulls nest on the cliffs.", "The tower burned in 1902.", "A ferry crosses."]
    assert stated("The tower burned in 1902. It was rebuilt.", sentences) == {1}
    assert stated("Nothing of that kind is said at all.", sentences) == set()
