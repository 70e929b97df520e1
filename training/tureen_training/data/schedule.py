"""What one epoch looks at, and in which order: a function of the seed and the epoch, of nothing that ran before."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence

from tureen_training.data.items import Item


def epoch_of(
    sources: Mapping[str, Sequence[Item]],
    shares: Mapping[str, float],
    *,
    prompts_per_step: int,
    one_window: bool,
    seed: int,
    epoch: int,
) -> list[list[Item]]:
    """The steps of one epoch: each source's share drawn anew, all of it shuffled, `prompts_per_step` at a time.

    Args:
        shares: source -> how often its prompts come by; 2.5 takes each twice and a random half once more.
        one_window: of a long context each response sees one window, another one in the next epoch.
    """
    rng = random.Random(f"{seed}:{epoch}")
    drawn: list[Item] = []
    for name, items in sources.items():
        whole, rest = divmod(shares[name], 1.0)
        drawn += list(items) * int(whole)
        drawn += rng.sample(list(items), round(rest * len(items)))
    rng.shuffle(drawn)
    if one_window:
        drawn = [with_one_window(item, rng.random()) for item in drawn]
    return [drawn[i : i + prompts_per_step] for i in range(0, len(drawn), prompts_per_step)]


def with_one_window(item: Item, place: float) -> Item:
    """The same item with one of the windows of each response, as the server would send it.

    All responses see the same part of the context, as far as their lengths allow: comparisons of what was read
    against what was not would teach nothing.

    Args:
        place: in [0, 1), which part.
    """
    responses = tuple(
        dataclasses.replace(encoded, windows=(encoded.windows[int(place * len(encoded.windows))],))
        for encoded in item.responses
    )
    return dataclasses.replace(item, responses=responses)
