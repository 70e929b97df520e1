"""Distance of the policy from the reference: estimators, and the coefficient of its penalty.

The unit of the controller is nats per response: the sum over the tokens of a response, mean over responses. Others
speak of nats per token; at 256 tokens 6 nats per response are 0.023 per token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

BOUND = 0.2
"""Of the controller's relative error."""


class KlEstimates(NamedTuple):
    """Per token. Shape: (B, R) each."""

    k1: Tensor
    k2: Tensor
    k3: Tensor


def estimates(log_probs: Tensor, reference_log_probs: Tensor) -> KlEstimates:
    """Estimates of KL(π ‖ π_ref) from tokens sampled by π (Schulman, "Approximating KL Divergence", 2020).

        d = log π − log π_ref;   k1 = d;   k2 = ½ d²;   k3 = e^{−d} − 1 + d

    k1 and k3 are unbiased; k1 may be negative, k3 ≥ 0 with less variance; k2 ≥ 0 is biased.

    Args:
        log_probs: of the sampled tokens, at the temperature they were sampled at. Shape: (B, R)
        reference_log_probs: of the same tokens at the same temperature. Shape: (B, R)
    """
    log_ratio = log_probs - reference_log_probs
    return KlEstimates(
        k1=log_ratio,
        k2=log_ratio.square() / 2,
        k3=(-log_ratio).expm1() + log_ratio,
    )


class KlController:
    """The coefficient β of the penalty −β · k1, fixed or adaptive (Ziegler et al., arXiv:1909.08593, section 2.2).

        e = clip(KL / target − 1, −0.2, 0.2);   β ← β · (1 + e · responses / horizon)

    Args:
        coefficient: β at the start, in units of reward per nat.
        target_nats_per_response: None keeps β as it is.
        horizon_responses: after so many responses at the bound of the error β has changed by 20 %.
    """

    def __init__(
        self,
        coefficient: float,
        *,
        target_nats_per_response: float | None = None,
        horizon_responses: int = 10_000,
    ) -> None:
        if coefficient < 0:
            raise ValueError(f"the KL coefficient is {coefficient}; it must be 0 or more")
        if target_nats_per_response is not None and target_nats_per_response <= 0:
            raise ValueError(f"the KL target is {target_nats_per_response}; it must be above 0")
        if horizon_responses < 1:
            raise ValueError(f"the KL horizon is {horizon_responses}; it must be 1 or more")
        self.coefficient = coefficient
        self._target = target_nats_per_response
        self._horizon = horizon_responses

    def update(self, nats_per_response: float, responses: int) -> None:
        """After a step of so many responses, whose mean k1 was so large."""
        if self._target is None:
            return
        error = min(max(nats_per_response / self._target - 1, -BOUND), BOUND)
        self.coefficient *= 1 + error * responses / self._horizon

    def raise_by(self, factor: float) -> None:
        """At least to a thousandth, so that a coefficient of 0 can rise."""
        self.coefficient = max(self.coefficient * factor, 1e-3)

    def state(self) -> dict[str, float]:
        return {"coefficient": self.coefficient}

    def restore(self, state: Mapping[str, float]) -> None:
        self.coefficient = state["coefficient"]
