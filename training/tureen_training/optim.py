"""The update: AdamW in groups, its learning rate as a function of the step, gradients summed over processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tureen_training.objective import HeadLoss

CLIP_NORM = 1.0


def linear_decay(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate: up over the first share `warmup` of the steps, then down to 0."""
    rising = max(1, round(warmup * steps))
    return (step + 1) / rising if step < rising else (steps - step) / max(1, steps - rising)


def adamw(
    backbone: Sequence[nn.Parameter],
    heads: Sequence[nn.Parameter],
    people: Sequence[nn.Parameter],
    *,
    learning_rate: float,
    head_learning_rate: float,
    weight_decay: float,
) -> torch.optim.AdamW:
    """One group for the layers, one for the heads, one for what is learnt of the annotators, which never decays."""
    return torch.optim.AdamW(
        [
            {"params": list(backbone), "lr": learning_rate, "weight_decay": weight_decay},
            {"params": list(heads), "lr": head_learning_rate, "weight_decay": weight_decay},
            {"params": list(people), "lr": head_learning_rate, "weight_decay": 0.0},
        ]
    )


def update(
    optimiser: torch.optim.Optimizer,
    loss: Tensor | Iterable[Tensor],
    factor: float,
    accelerator: Accelerator,
    *,
    clip_apart: bool = False,
) -> None:
    """One step down the sum of the processes' losses, at `factor` times each group's learning rate.

    loss: or its terms, each of which is made and gone through backward before the next is made.
    clip_apart: clip the gradient of each group and not that of all together, for groups that are different networks.

    The gradients are summed here and not by DistributedDataParallel: a step runs several forward passes, and the
    annotators' parameters take part in none of them, which its hooks do not provide for.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for parameter in parameters:  # zeros and not None: every process steps every parameter
        parameter.grad = torch.zeros_like(parameter)
    for term in [loss] if isinstance(loss, Tensor) else loss:
        if term.requires_grad:  # else no prompt of this step fell to this process
            accelerator.backward(term)
    if accelerator.num_processes > 1:
        _sum_gradients(parameters, accelerator)
    groups = [group["params"] for group in optimiser.param_groups]
    for clipped in groups if clip_apart else [parameters]:
        torch.nn.utils.clip_grad_norm_(clipped, CLIP_NORM)
    for group in optimiser.param_groups:
        group.setdefault("peak_lr", group["lr"])
        group["lr"] = group["peak_lr"] * factor
    optimiser.step()


def _sum_gradients(parameters: Sequence[nn.Parameter], accelerator: Accelerator) -> None:
    """All of them as one vector, so that there is one exchange."""
    flat = torch.cat([_gradient(p).flatten().to(accelerator.device) for p in parameters])
    total = accelerator.reduce(flat, "sum")
    assert isinstance(total, Tensor)
    parts = total.split([p.numel() for p in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        _gradient(parameter).copy_(part.view_as(parameter))


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def totals(
    found: dict[str, HeadLoss], accelerator: Accelerator
) -> tuple[dict[str, int], dict[str, float]]:
    """Terms, and the sum of their losses, of each head over all processes."""
    rows = [[float(loss.terms), float(loss.total.detach())] for loss in found.values()]
    total = accelerator.reduce(torch.tensor(rows, device=accelerator.device), "sum")
    assert isinstance(total, Tensor)
    pairs = list(zip(found, total.tolist(), strict=True))
    return {head: round(terms) for head, (terms, _) in pairs}, {head: x for head, (_, x) in pairs}
