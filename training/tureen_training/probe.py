"""The linear probe: heads fitted on the untrained trunk, shared by all ingredients of a soup.

Heads that begin at random would pull the layers of each ingredient another way and break the connection between
them (WARM, arXiv:2401.12187, section 3.1).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tureen.model.heads import RewardHeads
from tureen.model.manifest import HeadSpec
from tureen.model.reward_model import RewardModel
from tureen.text.encoding import Window
from tureen_training.data.items import Item, batches, rows_of, run
from tureen_training.data.schedule import with_one_window
from tureen_training.objective import Objective, weigh
from tureen_training.runlog import progress
from tureen_training.trunk import pooled_states

BATCH = 48
LEARNING_RATE = 3e-3


def probe(
    model: RewardModel,
    items: Sequence[Item],
    heads: Sequence[HeadSpec],
    objective: Objective,
    forward: Callable[[list[Window]], Tensor],
    *,
    prompts: int,
    steps: int,
    seed: int,
    one_window: bool,
    max_batch_tokens: int,
) -> RewardHeads:
    """Heads fitted alone, all alike, on what the trunk makes of some of the prompts.

    Args:
        objective: its losses; what it learns of annotators stays as it is.
        forward: windows -> (B, N, …) of `model`, without its dimension of groups.
        seed: of the prompts, their order and the first heads. one_window: as in `schedule.epoch_of`.
    """
    rng = random.Random(seed)
    items = rng.sample(list(items), min(len(items), prompts))
    if one_window:
        items = [with_one_window(item, rng.random()) for item in items]
    features: dict[int, Tensor] = {}  # id of the window -> (N, D)
    with torch.no_grad(), pooled_states(model):
        for batch in progress(list(batches(rows_of(items), max_batch_tokens)), "features"):
            out = forward([row.window for row in batch])  # (B, N, D)
            for b, row in enumerate(batch):
                features[id(row.window)] = out[b, : len(row.window.spans)].clone()

    generator = torch.Generator().manual_seed(seed)
    width, hidden = model.heads.width, model.config.hidden_size
    fitted = RewardHeads.initialise(width, len(heads), generator=generator)
    if width > hidden:  # evidence alone says more than evidence among 400 numbers learnt by heart
        fitted.weight.data[..., :hidden] = 0.0
        features = {key: evidence_of(states, hidden) for key, states in features.items()}

    def heads_alone(windows: list[Window]) -> Tensor:
        units = pad_sequence([features[id(window)] for window in windows], batch_first=True)
        return fitted(units)[:, :, 0]  # (B, N, H)

    optimiser = torch.optim.Adam(fitted.parameters(), lr=LEARNING_RATE)
    for _ in progress(range(steps), "probe"):
        chosen = rng.sample(items, min(len(items), BATCH))
        optimiser.zero_grad()
        found = objective(chosen, run(chosen, heads, heads_alone, max_batch_tokens))
        weigh(found, {head: loss.terms for head, loss in found.items()}, {}).backward()
        optimiser.step()
    return fitted


def evidence_of(states: Tensor, hidden: int) -> Tensor:
    """The same without what the trunk makes of a unit. (N, D), D = hidden + evidence."""
    return torch.cat([torch.zeros_like(states[:, :hidden]), states[:, hidden:]], dim=1)
