"""The linear heads of a soup and of its ingredients, side by side on one trunk, in fp32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class RewardHeads(nn.Module):
    """v = W h + b for every group and head.

    Group 0 is the soup's, groups 1 … M are the ingredients' own heads on the soup's trunk.
    Averaging linear heads on one trunk averages their values, v₀ = Σ wᵢ vᵢ, so a uniform soup is
    exactly the mean of its members, and the members cost next to nothing. A single checkpoint has
    one group, G = 1, which is its own member.

    Values are raw logits, nothing squashes them, computed in fp32 whatever the backbone's type.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """weight: (G, H, D), bias: (G, H)."""
        super().__init__()
        if weight.dim() != 3 or bias.shape != weight.shape[:2]:
            raise ValueError(
                f"heads are weight {tuple(weight.shape)} and bias {tuple(bias.shape)}; "
                "they must be (G, H, D) and (G, H)."
            )
        self.weight = nn.Parameter(weight.float())  # (G, H, D)
        self.bias = nn.Parameter(bias.float())  # (G, H)

    @classmethod
    def initialise(
        cls, hidden_size: int, heads: int, *, generator: torch.Generator | None = None
    ) -> RewardHeads:
        """One untrained group: W ~ N(0, 1/(D + 1)), b = 0.

        Stiennon et al. 2020, arXiv:2009.01325; detail 12 of Huang et al. 2024, arXiv:2403.17031.
        """
        weight = torch.randn(1, heads, hidden_size, generator=generator)
        return cls(weight / (hidden_size + 1) ** 0.5, torch.zeros(1, heads))

    @classmethod
    def of_soup(
        cls, weights: Sequence[Tensor], biases: Sequence[Tensor], coefficients: Sequence[float]
    ) -> RewardHeads:
        """The soup's heads before those of its M ingredients; of one ingredient just that one.

        Args:
            weights: M of (H, D). biases: M of (H,). coefficients: M, adding up to 1.
        """
        weight = torch.stack([w.float() for w in weights])  # (M, H, D)
        bias = torch.stack([b.float() for b in biases])  # (M, H)
        if len(weights) == 1:
            return cls(weight, bias)
        mix = torch.tensor(coefficients, dtype=torch.float64)
        soup_weight = torch.einsum("m,mhd->hd", mix, weight.double()).float()
        soup_bias = torch.einsum("m,mh->h", mix, bias.double()).float()
        return cls(torch.cat([soup_weight[None], weight]), torch.cat([soup_bias[None], bias]))

    @property
    def groups(self) -> int:
        """G: 1 for a single checkpoint, 1 + M for a soup of M."""
        return self.weight.shape[0]

    @property
    def width(self) -> int:
        """D: how many numbers about a unit they read."""
        return self.weight.shape[2]

    def forward(self, units: Tensor) -> Tensor:
        """(…, D) pooled hidden states -> (…, G, H) values, fp32."""
        groups, heads, hidden_size = self.weight.shape
        weight = self.weight.float().view(groups * heads, hidden_size)
        values = functional.linear(units.float(), weight, self.bias.float().view(groups * heads))
        return values.unflatten(-1, (groups, heads))
