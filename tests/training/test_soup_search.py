import pytest

from tureen_training.soup_search import Coefficients, greedy, search


def test_greedy_by_hand():
    """Alone 0.6, 0.7, 0.65: first b, then c (0.72), a makes it worse (0.71) and stays out."""
    worth: dict[Coefficients, float] = {
        (1.0, 0.0, 0.0): 0.6,
        (0.0, 1.0, 0.0): 0.7,
        (0.0, 0.0, 1.0): 0.65,
        (0.0, 0.5, 0.5): 0.72,
        (1 / 3, 1 / 3, 1 / 3): 0.71,
    }
    selection = greedy(3, worth.__getitem__)
    assert selection.coefficients == (0.0, 0.5, 0.5)
    assert selection.accuracy == 0.72
    assert selection.trials == worth
    assert selection.as_record() == {"accuracy": 0.72, "trials": 5, "uniform": 0.71}


def test_greedy_keeps_what_does_no_harm_and_passes_over_what_does():
    """a and c are equal, alone and together, and worse with b."""

    def worth(coefficients: Coefficients) -> float:
        return 0.8 if coefficients[1] == 0 else 0.5

    selection = greedy(3, worth)
    assert selection.coefficients == (0.5, 0.0, 0.5)
    assert selection.as_record() == {"accuracy": 0.8, "trials": 5, "uniform": 0.5}


def test_greedy_of_one_is_that_one():
    assert greedy(1, lambda _: 0.5).coefficients == (1.0,)


def test_search_finds_the_top_of_a_hill():
    """1 − (a − 0.6)² − (b − 0.3)² has its top at (0.6, 0.3, 0.1)."""

    def hill(c: Coefficients) -> float:
        return 1 - (c[0] - 0.6) ** 2 - (c[1] - 0.3) ** 2

    selection = search(3, hill)
    assert selection.coefficients == pytest.approx((0.6, 0.3, 0.1), abs=0.05)
    assert sum(selection.coefficients) == pytest.approx(1.0, abs=1e-6)
    assert min(selection.coefficients) >= 0
    assert selection.accuracy == max(selection.trials.values())


def test_search_stays_where_nothing_helps():
    selection = search(4, lambda _: 0.5)
    assert selection.coefficients == (0.25,) * 4


def test_search_takes_a_single_ingredient_where_that_is_best():
    assert search(3, lambda c: c[2]).coefficients == (0.0, 0.0, 1.0)


def test_search_asks_once_for_each_soup_and_keeps_to_its_budget():
    asked = []

    def worth(coefficients: Coefficients) -> float:
        asked.append(coefficients)
        return sum(i * c for i, c in enumerate(coefficients)) - 3 * max(coefficients)

    selection = search(5, worth, max_trials=20)
    assert len(asked) == len(set(asked)) == 20
    assert selection.accuracy == max(selection.trials.values())
