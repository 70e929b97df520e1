from __future__ import annotations

import pytest
import torch

from tureen.model.heads import RewardHeads

# one head on a hidden state of two
A, B = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -2.0]])
A_BIAS, B_BIAS = torch.tensor([0.5]), torch.tensor([-0.5])


def test_the_soup_stands_before_its_members():
    heads = RewardHeads.of_soup([A, B], [A_BIAS, B_BIAS], [0.25, 0.75])
    values = heads(torch.tensor([[1.0, 1.0]]))  # (1, D) -> (1, G, H)
    # a: 1 + 2 + ½ = 3.5; b: 3 − 2 − ½ = 0.5; soup: ¼ · 3.5 + ¾ · 0.5 = 1.25
    assert values.tolist() == [[[1.25], [3.5], [0.5]]]
    assert heads.groups == 3


def test_the_mean_of_the_members_is_the_uniform_soup():
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(4, 32, generator=generator) for _ in range(5)]
    biases = [torch.randn(4, generator=generator) for _ in range(5)]
    heads = RewardHeads.of_soup(weights, biases, [0.2] * 5)
    values = heads(torch.randn(7, 32, generator=generator))  # (7, 6, 4)
    torch.testing.assert_close(values[:, 1:].mean(dim=1), values[:, 0], rtol=0, atol=1e-5)


def test_one_ingredient_is_its_own_member():
    heads = RewardHeads.of_soup([A], [A_BIAS], [1.0])
    assert heads.groups == 1
    assert heads(torch.tensor([[1.0, 1.0]])).tolist() == [[[3.5]]]


def test_a_coefficient_of_zero_weighs_nothing():
    heads = RewardHeads.of_soup([A, B], [A_BIAS, B_BIAS], [0.0, 1.0])
    values = heads(torch.tensor([1.0, 1.0]))
    assert values.tolist() == [[0.5], [3.5], [0.5]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_values_are_fp32_whatever_comes_in(dtype: torch.dtype):
    heads = RewardHeads.of_soup([A.to(dtype)], [A_BIAS.to(dtype)], [1.0]).to(dtype)
    assert heads(torch.ones(1, 2, dtype=dtype)).dtype == torch.float32


def test_untrained_heads_have_the_published_scale():
    generator = torch.Generator().manual_seed(0)
    heads = RewardHeads.initialise(399, 50, generator=generator)
    # N(0, 1/400): std 0.05; of 19 950 draws it is known to 0.5 %
    assert float(heads.weight.detach().std()) == pytest.approx(0.05, rel=0.02)
    assert heads.bias.abs().sum() == 0
    assert heads.groups == 1


def test_shapes_that_disagree_are_refused():
    with pytest.raises(ValueError, match=r"weight \(1, 2\)"):
        RewardHeads(torch.zeros(1, 2), torch.zeros(1))
