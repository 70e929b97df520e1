"""Weight averages: one model out of several checkpoints that share a pretrained ancestor.

    θ_soup = Σᵢ wᵢ θᵢ,   wᵢ ≥ 0,   Σᵢ wᵢ = 1

uniform wᵢ = 1/M: Wortsman et al. 2022, arXiv:2203.05482; of reward models: Ramé et al. 2024, WARM,
arXiv:2401.12187. Deltas to the common base average alike: θ_base + Σᵢ wᵢ (θᵢ − θ_base). Sums are
in fp32 whatever the stored type is. Whether the ancestor suffices is an empirical matter: test for
a barrier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tureen.errors import IncompatibleSoup
from tureen.model.manifest import check_coefficients


def average(
    states: Sequence[Mapping[str, Tensor]],
    coefficients: Sequence[float],
    *,
    absent_is_zero: bool = False,
) -> dict[str, Tensor]:
    """Σᵢ wᵢ stateᵢ, tensor by tensor: with lazy states only one source tensor is in memory at a
    time.

    Args:
        states: M mappings of tensor names. coefficients: M, ≥ 0, adding up to 1.
        absent_is_zero: a tensor that a state does not have is zero (deltas), instead of an error.
    Returns:
        Floating tensors in fp32. Others (indices, counters) have no mean: they are the first
        state's.
    Raises:
        SchemaError: the coefficients are no convex combination, or not one for each state.
        IncompatibleSoup: names or shapes differ.
    """
    check_coefficients(coefficients)
    if len(states) != len(coefficients):
        raise IncompatibleSoup(
            f"{len(states)} checkpoints and {len(coefficients)} coefficients; give one for each.",
            got=len(coefficients),
            limit=len(states),
        )
    names = dict.fromkeys(name for state in states for name in state)
    return {
        name: _average_of(name, states, coefficients, absent_is_zero=absent_is_zero)
        for name in names
    }


def _average_of(
    name: str,
    states: Sequence[Mapping[str, Tensor]],
    coefficients: Sequence[float],
    *,
    absent_is_zero: bool,
) -> Tensor:
    total: Tensor | None = None
    for i, (state, coefficient) in enumerate(zip(states, coefficients, strict=True)):
        if name not in state:
            if absent_is_zero:
                continue
            raise IncompatibleSoup(
                f"checkpoint {i} has no tensor {name!r}, another has; average checkpoints of one "
                "architecture."
            )
        tensor = state[name]
        if total is None:
            if not tensor.is_floating_point():
                return tensor.clone()
            total = torch.zeros(tensor.shape, dtype=torch.float32)
        if tensor.shape != total.shape:
            raise IncompatibleSoup(
                f"tensor {name!r} of checkpoint {i} is {tuple(tensor.shape)}, before it "
                f"{tuple(total.shape)}; "
                "average checkpoints of one architecture and vocabulary.",
                field=name,
            )
        total.add_(tensor.float(), alpha=coefficient)
    assert total is not None  # some state has the name
    return total
