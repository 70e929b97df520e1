"""The losses of reward-model training: pure functions of tensors.

Legend: r or v the value of a response or unit, K responses of one prompt, P pairs of them, N units or responses,
J thresholds between J + 1 grades, σ the logistic function.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def bradley_terry(
    chosen: Tensor, rejected: Tensor, margin: Tensor | float = 0.0, label_smoothing: float = 0.0
) -> Tensor:
    """Negative log-likelihood of the comparisons under Bradley–Terry, one a pair.

        L = −(1 − ε) log σ(Δ) − ε log σ(−Δ),   Δ = r_w − r_l − m

    Bradley and Terry 1952; the margin is that of Llama 2 (arXiv:2307.09288, eq. 2), where it comes from how much
    better people found the response; ε = 0 and m = 0 is the plain form. Finite wherever the values are.

    Args:
        chosen: values of the preferred responses. Shape: (P,)
        rejected: values of the others. Shape: (P,)
        margin: m, at least 0: what Δ has to exceed before the loss falls under log 2. Shape: (P,), or one number.
        label_smoothing: ε in [0, ½), the share of comparisons taken to be the wrong way round.

    Returns:
        The loss of each pair. Shape: (P,)
    """
    delta = chosen - rejected - margin
    return (1 - label_smoothing) * F.softplus(-delta) + label_smoothing * F.softplus(delta)


def crowd_bradley_terry(
    chosen: Tensor, rejected: Tensor, reliability: Tensor, margin: Tensor | float = 0.0
) -> Tensor:
    """Bradley–Terry where the rater may have said the opposite (Crowd-BT, Chen et al. 2013), one a pair.

        L = −log( η σ(Δ) + (1 − η) σ(−Δ) ),   Δ = r_w − r_l − m

    η is learnt together with the values: a rater whom the others contradict loses influence, because at η = ½ the
    loss is log 2 whatever the values. η → 1 is `bradley_terry`. Computed as a log-sum-exp, so that it is finite
    for every Δ.

    Args:
        chosen, rejected: Shape: (P,)
        reliability: η of the rater of each pair, in [½, 1). Shape: (P,)
        margin: m, as in `bradley_terry`.

    Returns:
        The loss of each pair. Shape: (P,)
    """
    delta = chosen - rejected - margin
    right = torch.log(reliability) + F.logsigmoid(delta)
    wrong = torch.log1p(-reliability) + F.logsigmoid(-delta)
    return -torch.logaddexp(right, wrong)


def ranking(
    values: Tensor,
    pairs: Tensor,
    *,
    margins: Tensor | float = 0.0,
    weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    reliability: Tensor | None = None,
) -> Tensor:
    """Mean loss over the pairs of one prompt (InstructGPT, arXiv:2203.02155, eq. 1).

        L = Σ_(w,l) a_(w,l) L_(w,l) / Σ_(w,l) a_(w,l),   a = 1 unless given

    The divisor counts the pairs actually used, so a prompt weighs the same whatever K and however many ties were
    dropped. With K = 2 and one pair it is `bradley_terry`.

    Args:
        values: one value a response. Shape: (K,)
        pairs: indices (chosen, rejected) into `values`, at least one row. Shape: (P, 2)
        margins: of each pair, as in `bradley_terry`. Shape: (P,), or one number.
        weights: a of each pair, at least 0 and not all 0. Shape: (P,)
        label_smoothing: ε; without `reliability` only, which says the same of each rater apart.
        reliability: η of the rater of each pair; given, the loss is `crowd_bradley_terry`. Shape: (P,)

    Returns:
        Scalar.
    """
    if pairs.ndim != 2 or pairs.shape[0] == 0 or pairs.shape[1] != 2:
        raise ValueError(f"pairs must have shape (P >= 1, 2), got {tuple(pairs.shape)}")
    chosen, rejected = values[pairs[:, 0]], values[pairs[:, 1]]
    if reliability is None:
        losses = bradley_terry(chosen, rejected, margins, label_smoothing)
    elif label_smoothing:
        raise ValueError("label_smoothing and reliability exclude each other; give one of them")
    else:
        losses = crowd_bradley_terry(chosen, rejected, reliability, margins)
    return losses.mean() if weights is None else (losses * weights).sum() / weights.sum()


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


def ordinal(values: Tensor, grades: Tensor, thresholds: Tensor) -> Tensor:
    """Loss of ratings on a scale: each threshold between two grades is a binary question.

        L = 1/(N J) · Σ_n Σ_j BCE(σ(v_n − τ_j), min(1, max(0, g_n − j))),   j = 0 … J − 1

    The all-threshold loss of Rennie and Srebro 2005 with the logistic penalty; at its minimum the thresholds are
    in order of themselves. The value stays a logit on one scale with that of comparisons: only where a grade ends
    is learnt beside it, so that 5 may be as far from 4 as 4 is from 1. A grade between two whole ones, which a mean
    of several raters can be, is a soft label of the threshold between them.

    Args:
        values: one value a rated response. Shape: (N,)
        grades: 0 … J, higher is better. Shape: (N,)
        thresholds: τ. Shape: (J,)

    Returns:
        Scalar.
    """
    if values.shape != grades.shape or values.ndim != 1 or not len(values):
        raise ValueError(
            f"values and grades must both have shape (N >= 1,), got {tuple(values.shape)} and {tuple(grades.shape)}"
        )
    above = (grades[:, None] - torch.arange(len(thresholds))).clamp(0, 1)  # (N, J)
    return F.binary_cross_entropy_with_logits(values[:, None] - thresholds, above)


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
