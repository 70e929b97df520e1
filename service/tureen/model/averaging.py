"""The weighted mean of states, tensor by tensor.

Summed in fp64 and rounded to fp32 once: however the coefficients divide 1, identical tensors
average to themselves, and the order of the ingredients leaves no trace.
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
    """Σᵢ wᵢ stateᵢ, tensor by tensor: lazy states have one source tensor in memory at a time.

    Args:
        states: M mappings of tensor names. coefficients: M, ≥ 0, adding up to 1.
        absent_is_zero: a tensor that a state does not have is zero (deltas), instead of an error.
    Returns:
        Floating tensors in fp32. Others (indices, counters) have no mean: they are the first's.
    Raises:
        ValueError: the coefficients are no convex combination.
        IncompatibleSoup: names or shapes differ, or there is not one coefficient for each state.
    """
    check_count(len(states), coefficients)
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
                "architecture.",
                field=name,
            )
        tensor = state[name]
        if total is None:
            if not tensor.is_floating_point():
                return tensor.clone()
            total = torch.zeros(tensor.shape, dtype=torch.float64)
        if tensor.shape != total.shape:
            raise IncompatibleSoup(
                f"tensor {name!r} of checkpoint {i} is {tuple(tensor.shape)}, before it "
                f"{tuple(total.shape)}; average checkpoints of one architecture and vocabulary.",
                field=name,
            )
        total.add_(tensor, alpha=coefficient)
    assert total is not None  # some state has the name
    return total.float()


def check_count(count: int, coefficients: Sequence[float]) -> None:
    check_coefficients(coefficients)
    if count != len(coefficients):
        raise IncompatibleSoup(
            f"{count} checkpoints and {len(coefficients)} coefficients; give one for each.",
            field="coefficients",
            got=len(coefficients),
            limit=count,
        )
