"""Values of responses and reliabilities of raters from comparisons alone (Crowd-BT, Chen et al. 2013, WSDM).

    P(i ≻_k j) = η_k σ(s_i − s_j) + (1 − η_k) σ(s_j − s_i)

The same likelihood, with a reward model in the place of the free values s, trains the reward model
(`tureen_training.losses.crowd_bradley_terry`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from tureen_training.losses import crowd_bradley_terry

START = 0.9
"""η of everybody before the first step: raters are believed, which settles which of (s, η) and its mirror image
(−s, 1 − η), of equal likelihood, is found."""


@dataclass(frozen=True, slots=True)
class CrowdBradleyTerry:
    """values: s, one a response, larger is better, centred on 0 as a whole. (I,) reliability: η. (R,)
    log_likelihood: of the comparisons, in nats, without the priors."""

    values: np.ndarray
    reliability: np.ndarray
    log_likelihood: float


def fit(
    chosen: np.ndarray,
    rejected: np.ndarray,
    raters: np.ndarray,
    *,
    adversarial: bool = False,
    shrinkage: float = 0.5,
    prior_votes: float = 2.0,
    max_steps: int = 500,
) -> CrowdBradleyTerry:
    """The most probable values and reliabilities, by L-BFGS.

        max_(s, η)  Σ_p log P(w_p ≻_k l_p) + λ Σ_i [log σ(s_i) + log σ(−s_i)]
                    + n (m log η_k + (1 − m) log(1 − η_k)) summed over k,   m = START

    The second term is the paper's: a comparison won and one lost, each of weight λ, against an item of value 0;
    it bounds the values of responses that won or lost throughout. The third keeps a rater of few comparisons near
    START instead of at 0 or 1.

    Args:
        chosen, rejected: codes of the compared responses, from 0, over all prompts. (P,)
        raters: code of who said so, from 0. (P,)
        adversarial: η may fall below ½; otherwise it lies in [½, 1).
        shrinkage: λ, above 0. prior_votes: n, above 0.

    Raises:
        ValueError: no comparison, or arrays of different lengths.
    """
    if not len(chosen) or not len(chosen) == len(rejected) == len(raters):
        raise ValueError(
            "chosen, rejected and raters must be of one length, at least 1; "
            f"got {len(chosen)}, {len(rejected)}, {len(raters)}"
        )
    if shrinkage <= 0 or prior_votes <= 0:
        raise ValueError(
            f"shrinkage {shrinkage} and prior_votes {prior_votes} must be above 0: without them "
            "responses that always won have no finite value"
        )
    winner, loser, rater = (torch.from_numpy(np.asarray(c)) for c in (chosen, rejected, raters))
    low = 0.0 if adversarial else 0.5
    start = (START - low) / (1 - low)
    values = torch.zeros(int(max(winner.max(), loser.max())) + 1, dtype=torch.float64)
    logits = torch.full((int(rater.max()) + 1,), start, dtype=torch.float64).logit()
    parameters = [values.requires_grad_(), logits.requires_grad_()]
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=max_steps, tolerance_grad=1e-7, line_search_fn="strong_wolfe"
    )

    def reliability() -> Tensor:
        return low + (1 - low) * torch.sigmoid(logits)

    def nll() -> Tensor:
        return crowd_bradley_terry(values[winner], values[loser], reliability()[rater]).sum()

    def objective() -> Tensor:
        optimizer.zero_grad()
        eta = reliability()
        held = -shrinkage * (logsigmoid(values) + logsigmoid(-values)).sum()
        trusted = -prior_votes * (START * eta.log() + (1 - START) * torch.log1p(-eta)).sum()
        loss = nll() + held + trusted
        loss.backward()
        return loss

    optimizer.step(objective)  # pyright: ignore[reportArgumentType] - torch's stub wants a float
    with torch.no_grad():
        return CrowdBradleyTerry(
            values=(values - values.mean()).numpy(),
            reliability=reliability().numpy(),
            log_likelihood=-float(nll()),
        )
