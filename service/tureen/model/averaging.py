"""How checkpoints become one, tensor by tensor: linear average, task arithmetic, TIES.

    linear            Σᵢ wᵢ θᵢ                  = θ₀ + Σᵢ wᵢ τᵢ
    task arithmetic   θ₀ + λ Σᵢ wᵢ τᵢ           τᵢ = θᵢ − θ₀, θ₀ the common base, Σᵢ wᵢ = 1
    TIES              θ₀ + λ ties(τ₁ … τ_M)

Summed in fp64 and rounded to fp32 once: however the coefficients divide 1, identical tensors
average to themselves, and the order of the ingredients leaves no trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from tureen.errors import IncompatibleSoup
from tureen.model.manifest import Method, check_coefficients


class TaskVector(Mapping[str, Tensor]):
    """τ = θ − θ₀, a tensor at a time. Tensors that are not floating have no difference: left out."""

    def __init__(self, state: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> None:
        """Raises IncompatibleSoup: the two have not the same names, or not the same shapes."""
        for name in {**state, **base}:
            if name not in state or name not in base:
                raise IncompatibleSoup(
                    f"tensor {name!r} is only in the {'base' if name in base else 'checkpoint'}; a "
                    "checkpoint and its base are of one architecture.",
                    field=name,
                )
        self._state, self._base = state, base
        self._names = dict.fromkeys(name for name in state if base[name].is_floating_point())

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        tensor, base = self._state[name], self._base[name]
        if tensor.shape != base.shape:
            raise IncompatibleSoup(
                f"tensor {name!r} is {tuple(tensor.shape)}, in the base {tuple(base.shape)}; a "
                "checkpoint and its base are of one architecture.",
                field=name,
            )
        return tensor.float() - base.float()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def combine(
    method: Method, task_vectors: Sequence[Mapping[str, Tensor]], coefficients: Sequence[float]
) -> dict[str, Tensor]:
    """What `method` adds to the base; a tensor that a task vector does not have is zero."""
    match method.name:
        case "linear":
            return average(task_vectors, coefficients, absent_is_zero=True)
        case "task_arithmetic":
            return task_arithmetic(task_vectors, coefficients, method.scale)
        case "ties":
            return ties(task_vectors, coefficients, method.scale, method.density)


def task_arithmetic(
    task_vectors: Sequence[Mapping[str, Tensor]], coefficients: Sequence[float], scale: float
) -> dict[str, Tensor]:
    """λ Σᵢ wᵢ τᵢ, to be added to the base. λ = 1 is the linear average, λ = 0 the base.

    Ilharco et al. 2023, Editing Models with Task Arithmetic, arXiv:2212.04089; there the task
    vectors are summed, here wᵢ add up to 1, so their λ is ours / M.

    Args:
        task_vectors: M mappings of tensor names; an absent tensor is zero. coefficients: M, ≥ 0,
            adding up to 1. scale: λ.
    """
    mean = average(task_vectors, coefficients, absent_is_zero=True)
    return {name: scale * tensor for name, tensor in mean.items()}


def ties(
    task_vectors: Sequence[Mapping[str, Tensor]],
    coefficients: Sequence[float],
    scale: float,
    density: float,
) -> dict[str, Tensor]:
    """λ · trim, elect sign, disjoint mean; to be added to the base. (TIES-Merging)

        τ̂ᵢ = τᵢ where |τᵢ| is among the top `density` of its tensor, else 0
        γ  = sign(Σᵢ wᵢ τ̂ᵢ)
        m  = Σ_{i: sign τ̂ᵢ = γ} wᵢ τ̂ᵢ / Σ_{i: sign τ̂ᵢ = γ} wᵢ,   0 where γ = 0

    Yadav et al. 2023, TIES-Merging, arXiv:2306.01708. Deviations: entries are ranked within each
    tensor, not over the whole model, so that tensors stream; the mean is weighted (uniform wᵢ give
    the paper's); where signs balance exactly nobody is elected and the base stays.

    One task vector with density 1 and λ = 1 is itself.

    Args:
        task_vectors, coefficients, scale: as in `task_arithmetic`. density: in (0, 1].
    """
    check_count(len(task_vectors), coefficients)
    names = dict.fromkeys(name for vector in task_vectors for name in vector)
    merged: dict[str, Tensor] = {}
    for name in names:
        present = [
            (_trimmed(vector[name], density), coefficient)
            for vector, coefficient in zip(task_vectors, coefficients, strict=True)
            if name in vector
        ]
        votes, total, share = torch.zeros(3, *present[0][0].shape, dtype=torch.float64)
        for i, (vector, coefficient) in enumerate(present):
            _require_shape(name, i, vector, votes)
            votes.add_(vector, alpha=coefficient)
        elected = votes.sign()
        for vector, coefficient in present:
            agrees = (vector.sign() == elected) & (elected != 0)
            total.add_(vector * agrees, alpha=coefficient)
            share.add_(agrees, alpha=coefficient)
        merged[name] = (scale * torch.where(share > 0, total / share, 0.0)).float()
    return merged


def _trimmed(vector: Tensor, density: float) -> Tensor:
    """fp32; the round(density · size) entries of greatest magnitude, at least one, the others 0."""
    flat = vector.float().flatten()
    kept = flat.abs().topk(max(1, round(density * len(flat)))).indices
    return torch.zeros_like(flat).index_copy_(0, kept, flat[kept]).view(vector.shape)


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
        _require_shape(name, i, tensor, total)
        total.add_(tensor, alpha=coefficient)
    assert total is not None  # some state has the name
    return total.float()


def _require_shape(name: str, number: int, tensor: Tensor, expected: Tensor) -> None:
    if tensor.shape != expected.shape:
        raise IncompatibleSoup(
            f"tensor {name!r} of checkpoint {number} is {tuple(tensor.shape)}, before it "
            f"{tuple(expected.shape)}; average checkpoints of one architecture and vocabulary.",
            field=name,
        )


def check_count(count: int, coefficients: Sequence[float]) -> None:
    if count != len(coefficients):
        raise IncompatibleSoup(
            f"{count} checkpoints and {len(coefficients)} coefficients; give one for each.",
            field="coefficients",
            got=len(coefficients),
            limit=count,
        )
    check_coefficients(coefficients)
