from __future__ import annotations

import pytest
import torch

from tureen.errors import IncompatibleSoup
from tureen.model.averaging import average
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
