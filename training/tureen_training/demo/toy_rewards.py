"""Reward models of `toy` that are made to be exploited: they learnt from labels of which some are wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from tureen_training.connectivity import State
from tureen_training.demo import toy
from tureen_training.demo.toy import Member, Pairs, World

NOISE: Final = 0.25
LEARNING_RATES: Final = (6e-4, 1e-3, 1.5e-3)
DROPOUTS: Final = (0.05, 0.1)
REFERENCE: Final = 2000
"""Usual sequences on which a reward model has mean 0 and standard deviation 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """members: of an ensemble. pairs: to learn from. pretraining_steps, tuning_steps: of a model."""

    members: int = 3
    pairs: int = 1500
    pretraining_steps: int = 400
    tuning_steps: int = 500

    def __post_init__(self) -> None:
        if self.members < 2:
            raise ValueError(f"members is {self.members}; it must be 2 or more to disagree")


def reward_models(world: World, seed: int, making: Making) -> dict[str, list[State]]:
    """Ensembles that learnt from the same labels, `NOISE` of them wrong: of one pretraining and of several."""
    torch.manual_seed(seed)  # dropout
    shared, *others = toy.pretrain(world, range(1 + making.members), making.pretraining_steps)
    train = noisy_pairs(world, seed, making.pairs)
    trunks = [shared] * making.members + others
    states = toy.fine_tune(learners(trunks, train), making.tuning_steps)
    return {"one": states[: making.members], "several": states[making.members :]}


def noisy_pairs(world: World, seed: int, count: int) -> Pairs:
    """Comparisons of which `NOISE` have the wrong label."""
    clean = world.pairs(count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return clean.swapped(order < round(NOISE * count))


def learners(trunks: Sequence[State], train: Pairs) -> list[Member]:
    """One member on each trunk, with a learning rate, a dropout and an order of its own."""
    return [
        Member(
            start=toy.probed(trunk, train),
            pairs=train,
            learning_rate=LEARNING_RATES[i % len(LEARNING_RATES)],
            dropout=DROPOUTS[i % len(DROPOUTS)],
            seed=i,
        )
        for i, trunk in enumerate(trunks)
    ]


def scorer(world: World, states: Sequence[State]) -> Callable[[Tensor], Tensor]:
    """Rewards of all members, of mean 0 and standard deviation 1 on usual sequences. (B, T) -> (M, B)"""
    with torch.no_grad():
        usual = toy.rewards(states, world.sequences(REFERENCE))
    mean, std = usual.mean(1, keepdim=True), usual.std(1, keepdim=True)

    def scored(sequences: Tensor) -> Tensor:
        with torch.no_grad():
            return (toy.rewards(states, sequences) - mean) / std

    return scored
