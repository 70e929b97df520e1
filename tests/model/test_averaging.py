from __future__ import annotations

import pytest
import torch

from tureen.errors import IncompatibleSoup
from tureen.model.averaging import TaskVector, average, combine, task_arithmetic, ties
from tureen.model.manifest import LINEAR, Method
from tureen.model.schema import SchemaError

A = {"w": torch.tensor([1.0, 2.0, 3.0]), "n": torch.tensor([7])}
B = {"w": torch.tensor([3.0, -2.0, 0.0]), "n": torch.tensor([9])}


@pytest.mark.parametrize(
    ("coefficients", "expected"),
    [
        ((0.5, 0.5), [2.0, 0.0, 1.5]),
        ((0.25, 0.75), [2.5, -1.0, 0.75]),
        ((1.0, 0.0), [1.0, 2.0, 3.0]),
        ((0.0, 1.0), [3.0, -2.0, 0.0]),
    ],
)
def test_by_hand(coefficients: tuple[float, float], expected: list[float]):
    soup = average([A, B], coefficients)
    assert soup["w"].tolist() == expected
    assert soup["n"].tolist() == [7]  # integers have no mean


def test_sums_do_not_round_to_what_is_stored():
    # 2048 + 1 has no place in fp16's 11 bits: summed in fp16 the ones would vanish
    states = [{"w": torch.tensor([2048.0]).half()}, *[{"w": torch.tensor([4.0]).half()}] * 3]
    soup = average(states, [0.25] * 4)["w"]
    assert soup.dtype == torch.float32
    assert soup.tolist() == [515.0]  # (2048 + 12) / 4


@pytest.mark.parametrize("count", [3, 7, 10])
def test_identical_states_average_to_themselves_to_the_bit(count: int):
    state = {"w": torch.randn(1000, generator=torch.Generator().manual_seed(0))}
    assert torch.equal(average([state] * count, [1 / count] * count)["w"], state["w"])


def test_the_sources_are_left_alone():
    before = A["w"].clone()
    average([A, B], [0.5, 0.5])["w"].zero_()
    assert torch.equal(A["w"], before)


def test_what_a_delta_does_not_have_is_zero():
    soup = average([{"w": A["w"]}, {"v": B["w"]}], [0.5, 0.5], absent_is_zero=True)
    assert soup["w"].tolist() == [0.5, 1.0, 1.5]
    assert soup["v"].tolist() == [1.5, -1.0, 0.0]


def test_differences_are_named():
    with pytest.raises(IncompatibleSoup, match="checkpoint 1 has no tensor 'v'"):
        average([{"v": A["w"]}, {"w": A["w"]}], [0.5, 0.5])
    with pytest.raises(IncompatibleSoup, match=r"'w' of checkpoint 1 is \(2,\), before it \(3,\)"):
        average([A, {**B, "w": torch.zeros(2)}], [0.5, 0.5])
    with pytest.raises(IncompatibleSoup, match="2 checkpoints and 1 coefficients"):
        average([A, B], [1.0])
    with pytest.raises(SchemaError, match=r"add up to 1\.5"):
        average([A, B], [1.0, 0.5])


TASKS = [
    {"w": torch.tensor([4.0, -1.0, 0.5, 2.0])},
    {"w": torch.tensor([-2.0, -3.0, 0.1, 1.0])},
    {"w": torch.tensor([1.0, 5.0, -0.2, 0.0])},
]
THIRDS = [1 / 3] * 3


def test_task_arithmetic_by_hand():
    # ½ · (½ · [4, −1, 0.5, 2] + ½ · [−2, −3, 0.1, 1]) = ¼ · [2, −4, 0.6, 3]
    moved = task_arithmetic(TASKS[:2], [0.5, 0.5], 0.5)["w"]
    torch.testing.assert_close(moved, torch.tensor([0.5, -1.0, 0.15, 0.75]))


def test_task_arithmetic_of_scale_one_is_the_average():
    moved, mean = (
        combine(method, TASKS, THIRDS) for method in (Method(name="task_arithmetic"), LINEAR)
    )
    assert torch.equal(moved["w"], mean["w"])


def test_ties_by_hand():
    # half of four entries kept: [4, 0, 0, 2], [−2, −3, 0, 0], [1, 5, 0, 0]
    # votes · 3 = [3, 2, 0, 2]: plus, plus, nobody, plus
    # means of those who agree: (4 + 1) / 2, 5, 0, 2
    assert ties(TASKS, THIRDS, 1.0, 0.5)["w"].tolist() == pytest.approx([2.5, 5.0, 0.0, 2.0])
    assert ties(TASKS, THIRDS, 0.5, 0.5)["w"].tolist() == pytest.approx([1.25, 2.5, 0.0, 1.0])
    # votes of ½, ¼, ¼: [1.75, 0.5, 0, 1]; the first entry is (½ · 4 + ¼ · 1) / ¾ = 3
    assert ties(TASKS, [0.5, 0.25, 0.25], 1.0, 0.5)["w"].tolist() == pytest.approx([3, 5, 0, 2])


def test_ties_elects_nobody_where_signs_balance():
    pair = [{"w": torch.tensor([2.0, 1.0])}, {"w": torch.tensor([-2.0, 3.0])}]
    assert ties(pair, [0.5, 0.5], 1.0, 1.0)["w"].tolist() == [0.0, 2.0]


def test_ties_of_one_or_of_identical_vectors_is_the_vector():
    vector = {"w": torch.randn(50, generator=torch.Generator().manual_seed(0))}
    for count in (1, 3):
        out = ties([vector] * count, [1 / count] * count, 1.0, 1.0)["w"]
        torch.testing.assert_close(out, vector["w"])


def test_ties_does_not_count_who_has_no_such_tensor():
    moved = ties([{"w": torch.tensor([2.0])}, {"v": torch.tensor([6.0])}], [0.5, 0.5], 1.0, 1.0)
    assert (moved["w"].tolist(), moved["v"].tolist()) == ([2.0], [6.0])


def test_ties_permutes_with_its_ingredients():
    one = ties(TASKS, [0.5, 0.3, 0.2], 1.0, 0.75)["w"]
    torch.testing.assert_close(ties(TASKS[::-1], [0.2, 0.3, 0.5], 1.0, 0.75)["w"], one)


def test_task_vectors_are_differences_of_what_has_differences():
    base = {"w": torch.tensor([1.0, 1.0, 1.0]), "n": torch.tensor([7])}
    vector = TaskVector(A, base)
    assert list(vector) == ["w"]
    assert vector["w"].tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(IncompatibleSoup, match="'w' is only in the checkpoint"):
        TaskVector(A, {"n": base["n"]})
    with pytest.raises(IncompatibleSoup, match=r"'w' is \(3,\), in the base \(2,\)"):
        _ = TaskVector(A, base | {"w": torch.zeros(2)})["w"]


@pytest.mark.parametrize("method", [Method(name="ties"), Method(name="task_arithmetic")])
def test_differences_are_named_by_every_method(method: Method):
    with pytest.raises(IncompatibleSoup, match=r"'w' of checkpoint 1 is \(2,\)"):
        combine(method, [{"w": torch.ones(3)}, {"w": torch.ones(2)}], [0.5, 0.5])
    with pytest.raises(SchemaError, match=r"add up to 1\.5"):
        combine(method, TASKS[:2], [1.0, 0.5])


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"scale": 0.5}, "in a linear average"),
        ({"name": "task_arithmetic", "density": 0.5}, "only ties has one"),
        ({"name": "ties", "density": 0.0}, r"\(0, 1\]"),
        ({"name": "ties", "scale": -1.0}, "above 0"),
    ],
)
def test_a_method_without_sense_is_refused(fields, problem):
    with pytest.raises(SchemaError, match=problem):
        Method(**fields)
