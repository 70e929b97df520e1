"""The losses of reward-model training: pure functions of tensors.

Legend: K responses of one prompt, P pairs, N units.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def bradley_terry(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Negative log-likelihood of the comparisons under Bradley–Terry, one a pair.

        L = −log σ(r_w − r_l)

    Args:
        chosen: values of the preferred responses. Shape: (P,)
        rejected: values of the others. Shape: (P,)

    Returns:
        The loss of each pair. Shape: (P,)
    """
    return F.softplus(rejected - chosen)


def ranking(values: Tensor, pairs: Tensor) -> Tensor:
    """Mean Bradley–Terry loss over the pairs of one prompt (InstructGPT, arXiv:2203.02155, eq. 1).

        L = 1/P · Σ_(w,l) −log σ(r_w − r_l)

    The divisor is the number of pairs actually used, so a prompt weighs the same whatever K and however many
    ties were dropped. With K = 2 and one pair it is `bradley_terry`.

    Args:
        values: one value a response. Shape: (K,)
        pairs: indices (chosen, rejected) into `values`, at least one row. Shape: (P, 2)

    Returns:
        Scalar.
    """
    if pairs.ndim != 2 or pairs.shape[0] == 0 or pairs.shape[1] != 2:
        raise ValueError(f"pairs must have shape (P >= 1, 2), got {tuple(pairs.shape)}")
    return bradley_terry(values[pairs[:, 0]], values[pairs[:, 1]]).mean()


def centring(values: Tensor, pairs: Tensor) -> Tensor:
    """Mean squared sum of the two values of a pair (Eisenstein et al., arXiv:2312.09244).

        C = 1/P · Σ_(w,l) (r_w + r_l)²

    Bradley–Terry leaves each prompt's shift free; this pins it, so that members can be compared.

    Args:
        values: Shape: (K,)
        pairs: indices (chosen, rejected) into `values`. Shape: (P, 2)

    Returns:
        Scalar.
    """
    return (values[pairs[:, 0]] + values[pairs[:, 1]]).square().mean()


def segment_bce(values: Tensor, labels: Tensor, mask: Tensor, error_weight: float = 1.0) -> Tensor:
    """Binary cross-entropy of unit values against clean (1) or error (0), over the units that count.

        L = Σ_n m_n w_n · BCE(σ(v_n), y_n) / Σ_n m_n w_n,   w_n = error_weight where y_n = 0, else 1

    Args:
        values: logits; higher is cleaner. Shape: (N,)
        labels: 1 clean, 0 error; whatever stands where `mask` is False is not read. Shape: (N,)
        mask: True where the unit counts. Shape: (N,)
        error_weight: weight of an error unit; the class balance of the training part makes σ(v) = ½ the
            point where both classes cost the same.

    Returns:
        Scalar; 0 (with a gradient of 0) where no unit counts.
    """
    weights = torch.where(labels == 0, error_weight, 1.0) * mask
    labels = torch.where(mask, labels, 0.0)
    losses = F.binary_cross_entropy_with_logits(values, labels, reduction="none")
    return (losses * weights).sum() / weights.sum().clamp_min(1e-9)
